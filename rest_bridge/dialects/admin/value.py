"""One JSON value → the value of a field of the contract, or what is wrong with it."""

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from rest_bridge.body import INT32, INT64, InvalidBody, checked_number, checked_text, mistyped, no_integer
from rest_bridge.dialects.admin import enum
from rest_bridge.dialects.admin.descriptor import enum_of

DECIMAL_INTEGER = re.compile(r"-?[0-9]{1,19}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s", re.ASCII)
SECONDS_AT_MOST = 315_576_000_000
"""Of a Duration, either way (google/protobuf/duration.proto)."""

INTEGERS = {
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_INT64: INT64,
}
NUMBERS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def scalar(field: FieldDescriptor, value: Any, path: str) -> Any:
    """The value of a field that is no message; raises InvalidBody."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return checked_text(value, path)
    if field.type == FieldDescriptor.TYPE_BOOL:
        if type(value) is not bool:
            raise mistyped(path, "a boolean", value)
        return value
    if field.type in INTEGERS:
        return integer(value, *INTEGERS[field.type], path)
    if field.type in NUMBERS:
        return checked_number(value, float("-inf"), float("inf"), path)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return enum_number(field, value, path)
    raise TypeError(f"{field.full_name}: fields of this type cannot be given")


def integer(value: Any, low: int, high: int, path: str) -> int:
    """An integer within an inclusive range: a JSON number, or the string that one beyond 2^53 is printed as."""
    if type(value) is str and DECIMAL_INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        raise no_integer(path, value)
    if not low <= value <= high:
        raise InvalidBody(f"Invalid '{path}': expected an integer from {low} to {high}.", path)
    return value


def enum_number(field: FieldDescriptor, value: Any, path: str) -> int:
    """The number of an enum's value."""
    number = enum.number(enum_of(field), checked_text(value, path))
    if number is None:
        names = ", ".join(f"'{name}'" for name in enum.short_names(enum_of(field))[1:])
        raise InvalidBody(f"Invalid '{path}': expected one of {names}.", path)
    return number


def set_timestamp(message: Timestamp, value: Any, path: str) -> None:
    """Sets a time that is written as in RFC 3339."""
    expected = f"Invalid '{path}': expected a time as in RFC 3339, such as '2026-01-31T00:00:00Z'."
    text = checked_text(value, path)
    if not TIMESTAMP.fullmatch(text):
        raise InvalidBody(expected, path)
    try:
        message.FromJsonString(text.upper())
    except (ValueError, OverflowError):
        raise InvalidBody(expected, path) from None


def set_duration(message: Duration, value: Any, path: str) -> None:
    """Sets a duration that is written as "3600s", or as an integer of seconds."""
    expected = f"Invalid '{path}': expected seconds, such as '3600s' or 3600."
    if type(value) is int:
        if abs(value) > SECONDS_AT_MOST:
            raise InvalidBody(expected, path)
        message.FromSeconds(value)
        return
    if type(value) is not str:
        raise mistyped(path, "a duration such as '3600s'", value)
    try:
        if not DURATION.fullmatch(value):
            raise ValueError(value)
        message.FromJsonString(value)
    except ValueError:
        raise InvalidBody(expected, path) from None


WELL_KNOWN: dict[str, Callable[[Any, Any, str], None]] = {
    "google.protobuf.Timestamp": set_timestamp,
    "google.protobuf.Duration": set_duration,
}
"""What sets the messages whose JSON is not an object."""


def is_well_known(message: Message) -> bool:
    """Whether the JSON of a message is not an object."""
    return message.DESCRIPTOR.full_name in WELL_KNOWN
