"""Metadata as it would have come over a socket: checked, and typed by its keys."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

import grpc.aio

# The alphabet of keys; that of values is printable ASCII: gRPC over HTTP/2, "Custom-Metadata"
# (doc/PROTOCOL-HTTP2.md in grpc/grpc).
KEY = re.compile(r"[0-9a-z_.-]+")
# The transport's own keys, which it replaces or drops where an application sets them.
RESERVED = frozenset({"content-type", "te", "user-agent"})


Metadatum: TypeAlias = tuple[str, str | bytes]
"""A key and its value: bytes where the key ends in -bin, printable ASCII elsewhere."""

PAIRS = frozenset({tuple})


def received(sent: Iterable[tuple[str, str | bytes]]) -> tuple[Metadatum, ...]:
    """What the other side gets to see of the metadata that this side sent.

    Raises TypeError where a key or value has the wrong type, and grpc.aio.InternalError where it has an illegal
    character: the errors that grpc.aio raises.
    """
    plain = plain_pairs(sent)
    if plain is not None:
        return plain
    found = []
    for key, value in sent:
        if key not in RESERVED:
            found.append((key, _value(key, value)))
            if type(key) is str and not _is_binary(key) and len(_text_keys) < TEXT_KEYS_AT_MOST:
                _text_keys.add(key)
    return tuple(found)


def plain_pairs(sent: object) -> tuple[Metadatum, ...] | None:
    """A tuple of pairs with keys that were looked at before and text, as it is: as the other side sees nearly all.

    None: it may be right or wrong.
    """
    if type(sent) is not tuple or not PAIRS.issuperset(map(type, sent)):
        return None
    try:
        text = "".join([value for _, value in sent])
        is_known = _text_keys.issuperset([key for key, _ in sent])
    except (TypeError, ValueError):
        return None
    if not (is_known and text.isascii() and text.isprintable()):
        return None
    return sent


class ReceivedMetadata(grpc.aio.Metadata):
    """What a call received, as grpc.aio gives it; a mapping only when somebody asks for one, which few do."""

    def __init__(self, received: tuple[Metadatum, ...]) -> None:
        """Takes the pairs."""
        # Of keys that are there several times the values are told together.
        self._pairs = received if len(dict(received)) == len(received) else None
        if self._pairs is None:
            super().__init__(*received)

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return super().__iter__() if self._pairs is None else iter(self._pairs)

    def __getattr__(self, name: str) -> Any:
        # Only what is not there comes here: the mapping that all other methods look into.
        pairs = self.__dict__.get("_pairs")
        if name != "_metadata" or pairs is None:
            raise AttributeError(name)
        self._pairs = None
        super().__init__(*pairs)
        return self._metadata


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
