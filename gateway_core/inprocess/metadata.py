"""Metadata as it would have come over a socket: checked, and typed by its keys."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

import grpc.aio
import orjson

# The alphabet of keys; that of values is printable ASCII: gRPC over HTTP/2, "Custom-Metadata"
# (doc/PROTOCOL-HTTP2.md in grpc/grpc).
KEY = re.compile(r"[0-9a-z_.-]+")
# The transport's own keys, which it replaces or drops where an application sets them.
RESERVED = frozenset({"content-type", "te", "user-agent"})


DELETE = "\x7f"

Metadatum: TypeAlias = tuple[str, str | bytes]
"""A key and its value: bytes where the key ends in -bin, printable ASCII elsewhere."""


def received(sent: Iterable[tuple[str, str | bytes]]) -> tuple[Metadatum, ...]:
    """What the other side gets to see of the metadata that this side sent.

    Raises TypeError where a key or value has the wrong type, and grpc.aio.InternalError where it has an illegal
    character: the errors that grpc.aio raises.
    """
    plain = plain_pairs(sent)
    if plain is not None:
        return plain
    pairs = tuple([(key, _value(key, value)) for key, value in sent if key not in RESERVED])
    keys = tuple([key for key, _ in pairs])
    if len(_plain_keys) < PLAIN_KEYS_AT_MOST and not any(map(_is_binary, keys)):
        _plain_keys[keys] = len(set(keys)) == len(keys)
    return pairs


class DistinctPairs(tuple[Metadatum, ...]):
    """Pairs as the other side sees them, each with a key of its own."""

    __slots__ = ()


def plain_pairs(sent: object) -> tuple[Metadatum, ...] | None:
    """A tuple of pairs whose keys were looked at before, and whose values are text: as nearly all metadata are.

    None: it may be right or wrong.
    """
    if type(sent) is not tuple:
        return None
    try:
        hash(sent)  # a list in the place of a pair has none
        keys, values = zip(*sent, strict=True)
        is_distinct = _plain_keys.get(keys)
        text = "".join(values)
    except (TypeError, ValueError):
        return None
    if is_distinct is None or not is_printable(text):
        return None
    return DistinctPairs(sent) if is_distinct else sent


def is_printable(text: str) -> bool:
    """Whether a text is printable ASCII.

    JSON tells most: it has what is not printable escaped, and only quotes and backslashes beside; orjson looks for them
    in many characters at once.
    """
    return text.isascii() and (
        (len(orjson.dumps(text)) == len(text) + len('""') and DELETE not in text) or text.isprintable()
    )


class ReceivedMetadata(grpc.aio.Metadata):
    """What a call received, as grpc.aio gives it; a mapping only when somebody asks for one, which few do."""

    def __init__(self, received: tuple[Metadatum, ...]) -> None:
        """Takes the pairs."""
        # Of keys that are there several times the values are told together.
        is_distinct = type(received) is DistinctPairs or len(dict(received)) == len(received)
        self._pairs = received if is_distinct else None
        if not is_distinct:
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


_plain_keys: dict[tuple[str, ...], bool] = {}
"""Legal keys of values that are text, as they came together, and whether each is another one."""
PLAIN_KEYS_AT_MOST = 1024


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
