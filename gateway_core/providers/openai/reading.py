"""Readers of JSON fields: each puts a value into a message, or says that it does not fit there."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from google.protobuf.message import Message

Read = Callable[[Any, Any], bool]
"""Puts a value that is not null into a message; false where it does not fit."""

Fields = Mapping[str, Read | type]
"""How the fields of an object are read, by name. `str` and `int`, of 64 bits: into the message's field of that name."""

INT32 = 2**31
INT64 = 2**63


def read(document: Mapping[str, Any], message: Any, fields: Fields) -> None:
    """Reads a JSON object into a message; what has no field there, or does not fit, is kept as JSON, null too."""
    extra: dict[str, Any] | None = None
    for name, value in document.items():
        field = fields.get(name)
        if value is None:
            fits = field is not None
        elif field is str:  # this and the next are most fields: with a function for each they would take twice as long
            fits = type(value) is str
            if fits:
                setattr(message, name, value)
        elif field is int:
            fits = type(value) is int and -INT64 <= value < INT64
            if fits:
                setattr(message, name, value)
            else:
                fits = put_whole(message, name, value, INT64)
        else:
            fits = field is not None and field(message, value)
        if not fits:
            if extra is None:
                extra = {}
            extra[name] = value
    if extra is not None:
        message.extra_json = orjson.dumps(extra).decode()


def skip(_: Message, value: Any) -> bool:
    """Takes a value that nobody needs."""
    return True


def words(name: str) -> Read:
    """A string; an empty one is as absent."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not str:
            return False
        if value:
            setattr(message, name, value)
        return True

    return put


def small(name: str) -> Read:
    """A whole number of 32 bits; 12.0 is one."""

    def put(message: Message, value: Any) -> bool:
        return put_whole(message, name, value, INT32)

    return put


def real(name: str) -> Read:
    """A number."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not float and type(value) is not int:
            return False
        setattr(message, name, value)
        return True

    return put


def part(name: str, fields: Fields) -> Read:
    """An object, into the message that a field holds."""

    def put(message: Message, value: Any) -> bool:
        if type(value) is not dict:
            return False
        inner = getattr(message, name)
        inner.SetInParent()
        read(value, inner, fields)
        return True

    return put


def put_whole(message: Message, name: str, value: Any, bound: int) -> bool:
    """Puts a whole number of at least -bound and less than bound into a field; 12.0 is one."""
    number = whole(value, bound)
    if number is None:
        return False
    setattr(message, name, number)
    return True


def whole(value: Any, bound: int = INT64) -> int | None:
    """A whole number of at least -bound and less than bound; None for anything else."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -bound <= value < bound else None


def objects(value: Any) -> bool:
    """Whether a value is a list of objects."""
    if type(value) is not list:
        return False
    for item in value:  # noqa: SIM110  # all() would take three times as long for a list of one
        if type(item) is not dict:
            return False
    return True
