"""Readers of single JSON fields: each puts a value into a message, or says that it does not fit there."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from google.protobuf.message import Message

Read = Callable[[Any, Any], bool]
"""Puts a value that is not null into a message; false where it does not fit."""

Value = TypeVar("Value")

INT32 = 2**31
INT64 = 2**63


def read(document: Mapping[str, Any], message: Any, fields: Mapping[str, Read]) -> None:
    """Reads a JSON object into a message; what has no field there, or does not fit, is kept as JSON, null too."""
    extra: dict[str, Any] | None = None
    for name, value in document.items():
        reader = fields.get(name)
        if reader is None or (value is not None and not reader(message, value)):
            if extra is None:
                extra = {}
            extra[name] = value
    if extra is not None:
        message.extra_json = orjson.dumps(extra).decode()


def skip(_: Message, value: Any) -> bool:
    """Takes a value that nobody needs."""
    return True


def text(name: str) -> Read:
    """A string, empty or not."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not str:
            return False
        setattr(message, name, value)
        return True

    return put


def words(name: str) -> Read:
    """A string; an empty one is as absent."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not str:
            return False
        if value:
            setattr(message, name, value)
        return True

    return put


def integer(name: str, bound: int = INT64) -> Read:
    """A whole number of at least -bound and less than bound; 12.0 is one."""

    def put(message: Message, value: Any) -> bool:
        number = whole(value, bound)
        if number is None:
            return False
        setattr(message, name, number)
        return True

    return put


def real(name: str) -> Read:
    """A number."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not float and type(value) is not int:
            return False
        setattr(message, name, value)
        return True

    return put


def part(name: str, fields: Mapping[str, Read]) -> Read:
    """An object, into the message that a field holds."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not dict:
            return False
        inner = getattr(message, name)
        inner.SetInParent()
        read(value, inner, fields)
        return True

    return put


def whole(value: Any, bound: int = INT64) -> int | None:
    """A whole number of at least -bound and less than bound; None for anything else."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -bound <= value < bound else None


def objects(value: Any) -> bool:
    """Whether a value is a list of objects."""
    return type(value) is list and all(type(item) is dict for item in value)
