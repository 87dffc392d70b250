"""Metadata as it would have come over a socket: checked, and typed by its keys."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import grpc.aio

# The alphabet of keys; that of values is printable ASCII: gRPC over HTTP/2, "Custom-Metadata"
# (doc/PROTOCOL-HTTP2.md in grpc/grpc).
KEY = re.compile(r"[0-9a-z_.-]+")
# The transport's own keys, which it replaces or drops where an application sets them.
RESERVED = frozenset({"content-type", "te", "user-agent"})


class Metadatum(NamedTuple):
    """A key and its value: bytes where the key ends in -bin, printable ASCII elsewhere."""

    key: str
    value: str | bytes


def received(sent: Iterable[tuple[str, str | bytes]]) -> tuple[Metadatum, ...]:
    """What the other side gets to see of the metadata that this side sent.

    Raises TypeError where a key or value has the wrong type, and grpc.aio.InternalError where it has an illegal
    character: the errors that grpc.aio raises.
    """
    found = []
    for key, value in sent:
        # Nearly all: a key that was looked at before, and text. The constructor of a named tuple takes twice as long.
        if key in _text_keys and type(value) is str and value.isascii() and value.isprintable():
            found.append(_new(Metadatum, (key, value)))
        elif key not in RESERVED:
            found.append(_new(Metadatum, (key, _value(key, value))))
            if type(key) is str and not _is_binary(key) and len(_text_keys) < TEXT_KEYS_AT_MOST:
                _text_keys.add(key)
    return tuple(found)


_new = tuple.__new__
_text_keys: set[str] = set()
"""Legal keys, of values that are text."""
TEXT_KEYS_AT_MOST = 256


def _value(key: str, value: str | bytes) -> str | bytes:
    if _is_binary(key):
        if not isinstance(value, bytes):
            raise TypeError(f'Binary metadata key="{key}" expected bytes, got {type(value)}')
        return value
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        raise TypeError(f"Expected str, not {type(value)}")
    if not (value.isascii() and value.isprintable()):
        raise grpc.aio.InternalError(f"metadata was invalid: the value of {key!r} has an illegal character")
    return value


@lru_cache(maxsize=1024)
def _is_binary(key: str) -> bool:
    if not isinstance(key, str):
        raise TypeError(f"Expected str, not {type(key)}")
    if not KEY.fullmatch(key):
        raise grpc.aio.InternalError(f"metadata was invalid: the key {key!r} has an illegal character")
    return key.endswith("-bin")
