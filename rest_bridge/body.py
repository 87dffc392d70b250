"""The fields of a request's JSON body, read one by one, and what is wrong with it, and where."""

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import orjson

Value = TypeVar("Value")

QUOTED_AT_MOST = 500
"""Characters of a message or a path."""

INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)


class InvalidBody(Exception):
    """A body is wrong: a sentence for the caller to act on, and the path of the field at fault ("" for the whole)."""

    def __init__(self, message: str, param: str = "") -> None:
        """Takes the sentence, and the path in the form `messages[1].content[0].type`."""
        super().__init__(message)
        # Both may quote the body, which may be large.
        self.message = message if len(message) <= QUOTED_AT_MOST else message[:QUOTED_AT_MOST] + "…"
        self.param = param if len(param) <= QUOTED_AT_MOST else param[:QUOTED_AT_MOST] + "…"


class Fields:
    """The fields of one JSON object. Each is taken once; what nobody took has no place in the contract.

    Every method that takes a field returns None where it is absent or null, and raises InvalidBody where it is not
    what the method promises.
    """

    __slots__ = ("_left", "path")

    def __init__(self, document: Any, path: str = "") -> None:
        """Takes a decoded JSON object and its path in the body; raises InvalidBody for anything else."""
        if type(document) is not dict:
            raise mistyped(path, "an object", document)
        self._left = dict(document)
        self.path = path

    def __contains__(self, name: str) -> bool:
        return self._left.get(name) is not None

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def peek(self, name: str) -> Any:
        """The value of a field, which stays to be taken."""
        return self._left.get(name)

    def drop(self, *names: str) -> None:
        """Takes fields whose values are of no interest."""
        for name in names:
            self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """A string."""
        value = self._left.pop(name, None)
        return None if value is None else checked_text(value, self.at(name))

    def required_text(self, name: str) -> str:
        """A string that must be there."""
        return self._required(name, self.text(name))

    def boolean(self, name: str) -> bool | None:
        """A boolean."""
        value = self._left.pop(name, None)
        if value is None or value is True or value is False:
            return value
        raise mistyped(self.at(name), "a boolean", value)

    def integer(self, name: str, low: int = INT64[0], high: int = INT64[1]) -> int | None:
        """An integer within an inclusive range. A number with a decimal point is none, whatever follows the point."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not int:
            raise no_integer(self.at(name), value)
        return int(_within(value, low, high, self.at(name)))

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A number within an inclusive range."""
        value = self._left.pop(name, None)
        return None if value is None else checked_number(value, low, high, self.at(name))

    def fields(self, name: str) -> "Fields | None":
        """An object."""
        value = self._left.pop(name, None)
        return None if value is None else Fields(value, self.at(name))

    def required_fields(self, name: str) -> "Fields":
        """An object that must be there."""
        return self._required(name, self.fields(name))

    def items(self, name: str) -> Iterator[tuple[Any, str]]:
        """The items of an array, each with its path; none where the array is absent."""
        value = self._left.pop(name, None)
        if value is None:
            return iter(())
        path = self.at(name)
        if type(value) is not list:
            raise mistyped(path, "an array", value)
        return ((item, f"{path}[{index}]") for index, item in enumerate(value))

    def objects(self, name: str) -> "Iterator[Fields]":
        """The objects of an array; none where it is absent."""
        return (Fields(item, path) for item, path in self.items(name))

    def texts(self, name: str) -> list[str]:
        """The strings of an array; none where it is absent."""
        return [checked_text(item, path) for item, path in self.items(name)]

    def entries(self, name: str) -> dict[str, Any]:
        """The entries of an object with names of the caller's own; none where it is absent."""
        value = self._left.pop(name, None)
        if value is None:
            return {}
        if type(value) is not dict:
            raise mistyped(self.at(name), "an object", value)
        return {checked_text(key, self.at(name)): entry for key, entry in value.items()}

    def object_json(self, name: str) -> str | None:
        """JSON text of an object that is only carried."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not dict:
            raise mistyped(self.at(name), "an object", value)
        return json_text(value, self.at(name))

    def whole_json(self) -> str:
        """JSON text of all fields that are left, as an object; takes them."""
        left, self._left = self._left, {}
        return json_text(left, self.path)

    def extra_json(self) -> str:
        """JSON text of all fields that are left, as an object; empty where none are."""
        if not self._left:
            return ""
        try:
            return orjson.dumps(self._left).decode()
        except TypeError:
            for name, value in self._left.items():
                json_text({checked_text(name, self.path): value}, self.at(name))
            raise

    def _required(self, name: str, value: Value | None) -> Value:
        if value is None:
            raise missing(self.at(name))
        return value


def checked_text(value: Any, path: str) -> str:
    """A value that must be a string, and one that Unicode can write."""
    if type(value) is not str:
        raise mistyped(path, "a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidBody(f"Invalid '{path}': the string has half of a surrogate pair.", path) from None
    return value


def checked_number(value: Any, low: float, high: float, path: str) -> float:
    """A value that must be a number within an inclusive range."""
    if type(value) is not int and type(value) is not float:
        raise mistyped(path, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidBody(f"Invalid '{path}': the number is too large.", path)
    return _within(number, low, high, path)


def json_text(value: Any, path: str) -> str:
    """JSON text of a value; raises InvalidBody for what JSON or its readers cannot take."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        where = f" '{path}'" if path else ""
        raise InvalidBody(f"Invalid{where}: it cannot be written as JSON ({error}).", path) from None


def missing(path: str) -> InvalidBody:
    """What to raise for a field that must be there."""
    return InvalidBody(f"Missing required parameter: '{path}'.", path)


def mistyped(path: str, expected: str, value: Any) -> InvalidBody:
    """What to raise for a value of another type."""
    got = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array"}
    name = "null" if value is None else got.get(type(value), "an object")
    where = f" for '{path}'" if path else ""
    return InvalidBody(f"Invalid type{where}: expected {expected}, but got {name} instead.", path)


def no_integer(path: str, value: Any) -> InvalidBody:
    """What to raise for a value that is no integer. One of more than 64 bits is read as a decimal."""
    if type(value) is float and abs(value) >= 2**63:
        return InvalidBody(f"Invalid '{path}': the number is too large for an integer of 64 bits.", path)
    return mistyped(path, "an integer", value)


def _within(value: float, low: float, high: float, path: str) -> float:
    if value < low:
        raise InvalidBody(f"Invalid '{path}': expected a value of at least {low}, but got {_shown(value)}.", path)
    if value > high:
        raise InvalidBody(f"Invalid '{path}': expected a value of at most {high}, but got {_shown(value)}.", path)
    return value


def _shown(value: float) -> str:
    # Python refuses to write integers of thousands of digits.
    return str(value) if abs(value) < 2**64 else "a number of more than 64 bits"
