"""Metadata as it would have come over a socket: checked, and typed by its keys."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import grpc.aio
from orjson import dumps

# The alphabet of keys; that of values is printable ASCII: gRPC over HTTP/2, "Custom-Metadata"
# (doc/PROTOCOL-HTTP2.md in grpc/grpc).
KEY = re.compile(r"[0-9a-z_.-]+")
# The transport's own keys, which it replaces or drops where an application sets them.
RESERVED = frozenset({"content-type", "te", "user-agent"})


DELETE = "\x7f"
QUOTES = 2
"""Characters that JSON has around a text."""

Metadatum: TypeAlias = tuple[str, str | bytes]
"""A key and its value: bytes where the key ends in -bin, printable ASCII elsewhere."""


class Texts(Sequence[tuple[str, str]]):
    """Metadata whose values are all text, in columns: who looks at all keys, or all values, has them together.

    Nobody changes them once they are sent. Those of another package may come in their place: what has such `columns`.
    """

    __slots__ = ("columns", "is_legal")

    def __init__(self, keys: tuple[str, ...], values: list[str], is_legal: bool = False) -> None:
        """Takes all keys, and the value of each; and whether who made them knows that any transport takes them all."""
        self.columns = (keys, values)
        self.is_legal = is_legal

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(*self.columns, strict=True)

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]


Received: TypeAlias = tuple[Metadatum, ...] | Texts
"""Metadata as the other side sees them: pairs."""


def received(sent: Any) -> Received:
    """What the other side gets to see of the metadata, pairs, that this side sent.

    Raises TypeError where a key or value has the wrong type, and grpc.aio.InternalError where it has an illegal
    character: the errors that grpc.aio raises.
    """
    if type(sent) is Texts and sent.is_legal:
        return sent
    columns = getattr(sent, "columns", None)
    if columns is None:
        return tuple([(key, _value(key, value)) for key, value in sent if key not in RESERVED])
    keys, values = columns
    if keys in _text_keys and len(keys) == len(values):
        try:
            if is_printable("".join(values)):
                return sent  # type: ignore[no-any-return]  # or what has the same columns
        except TypeError:
            pass  # one by one it is found which it is
    pairs = tuple([(key, _value(key, value)) for key, value in sent if key not in RESERVED])
    if len(pairs) == len(keys) and len(_text_keys) < TEXT_KEYS_AT_MOST and not any(map(_is_binary, keys)):
        _text_keys.add(keys)
    return pairs


def is_printable(text: str) -> bool:
    """Whether a text is printable ASCII.

    JSON tells most: it has what is not printable escaped, and only quotes and backslashes beside; orjson looks for them
    in many characters at once.
    """
    return text.isascii() and ((len(dumps(text)) == len(text) + QUOTES and DELETE not in text) or text.isprintable())


class ReceivedMetadata(grpc.aio.Metadata):
    """What a call received, as grpc.aio gives it; a mapping only when somebody asks for one, which few do."""

    columns: tuple[tuple[str, ...], list[str]] | None = None
    """As `Texts` have them. None: not all are text, or somebody may have changed them."""

    def __init__(self, received: Received) -> None:
        """Takes the pairs."""
        self.columns = columns = getattr(received, "columns", None)
        if columns is None:
            super().__init__(*received)

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        columns = self.columns
        # Of keys that are there several times the values are told together.
        if columns is None or len(set(columns[0])) != len(columns[0]):
            return super().__iter__()
        return zip(*columns, strict=True)

    def __getattr__(self, name: str) -> Any:
        # Only what is not there comes here: the mapping that all other methods look into.
        columns = self.columns
        if name != "_metadata" or columns is None:
            raise AttributeError(name)
        self.columns = None
        super().__init__(*zip(*columns, strict=True))
        return self._metadata


_text_keys: set[tuple[str, ...]] = set()
"""Legal keys of text, as they came together."""
TEXT_KEYS_AT_MOST = 1024


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
