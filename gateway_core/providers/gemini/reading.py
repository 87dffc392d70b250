"""Readers of numbers in decoded JSON: each gives what is there, or raises ValueError for another type."""

from gateway_core.upstream.json_text import Document

INT32 = 2**31
INT64 = 2**63


def whole(document: Document, name: str, bound: int = INT64) -> int | None:
    """A whole number from 0 and less than a bound, at times written as a string, as Google writes those of 64 bits."""
    value = document.get(name)
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < bound:
        raise ValueError(f"its {name} is not a number that can be")
    return value


def real(document: Document, name: str) -> float:
    """A number; 0 where there is none."""
    value = document.get(name)
    if value is None:
        return 0.0
    if type(value) is not float and type(value) is not int:
        raise ValueError(f"its {name} is not a number")
    return float(value)
