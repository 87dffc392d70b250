"""What an RPC's metadata tell the caller too, as header lines of the answer."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from rest_bridge.head import header_lines

Metadata = Iterable[tuple[str, str | bytes]]

DELETE = "\x7f"
FOR_CALLERS = re.compile(r"x-(headgate|ratelimit)-[0-9a-z_.-]*")
"""The keys whose values are header fields too."""
TOLD_BEHIND = ("x-headgate-attempts", "x-headgate-cost", "x-headgate-input-tokens", "x-headgate-output-tokens")
"""What is known of a stream at its end only."""


class Told:
    """Metadata as they came: nearly always with the keys that many answers had before."""

    __slots__ = ("_form", "_keys", "_places", "_values")

    def __init__(self, metadata: Metadata | None) -> None:
        """Takes pairs, if there are any."""
        # What comes from a core in the same process has all keys, and all values, together already.
        columns = getattr(metadata, "columns", None)
        if columns is None:
            # Asked for its length, as tuple() does, grpc.aio's metadata become a mapping first.
            pairs = () if metadata is None else tuple(iter(metadata))
            columns = zip(*pairs) if pairs else ((), ())  # noqa: B905  # pairs they are
        self._keys: tuple[str, ...]
        self._values: Sequence[str | bytes]
        self._keys, self._values = columns
        self._form, self._places = _form(self._keys)

    def text(self, key: str) -> str:
        """The first value of a key; empty where there is none that is text."""
        place = self._places.get(key)
        value = "" if place is None else self._values[place]
        return value if isinstance(value, str) else ""

    def lines(self) -> bytes:
        """The header lines that tell what is for the caller (x-headgate-…, x-ratelimit-…), in printable ASCII."""
        if not self._keys:
            return b""
        form = self._form
        lines = None if form is None else _filled(form, self._values)
        if lines is not None:
            return lines
        pairs = zip(self._keys, self._values, strict=True)
        return header_lines([pair for key, value in pairs if (pair := _field(key, value)) is not None])

    def lines_behind(self) -> bytes:
        """Those of them that are known at the end of a stream only."""
        pairs = zip(self._keys, self._values, strict=True)
        return Told([(key, value) for key, value in pairs if key in TOLD_BEHIND]).lines()


def _filled(form: list[str], values: Sequence[str | bytes]) -> bytes | None:
    """The header lines that a form is with these values in it. None: they have more in them than plain text.

    JSON tells: it has line ends written with two characters more, and everything else as long as it is but quotes,
    backslashes and what is not printable. orjson looks for them in many characters at once.
    """
    pieces: list[Any] = form.copy()
    pieces[1::2] = values
    try:
        lines = "".join(pieces)
    except TypeError:
        return None
    if not lines.isascii() or DELETE in lines or len(orjson.dumps(lines)) != len(lines) + 2 * len(values) + len('""'):
        return None
    return lines.encode()


@lru_cache(256)
def _form(keys: tuple[str, ...]) -> tuple[list[str] | None, dict[str, int]]:
    """Header lines with these names, in pieces, of which each second is the place of a value; and where each key is.

    None for the lines: not all of the keys are for the caller. Of a key that is there several times the first counts.
    """
    places = {key: keys.index(key) for key in keys}
    if not keys or not all(FOR_CALLERS.fullmatch(key) for key in keys):
        return None, places
    between = [f"\r\n{key}: " for key in keys[1:]]
    return [piece for name in (f"{keys[0]}: ", *between) for piece in (name, "")] + ["\r\n"], places


def _field(key: str, value: str | bytes) -> tuple[bytes, bytes] | None:
    """The header field that tells one pair of the metadata. None: none does."""
    if FOR_CALLERS.fullmatch(key) and isinstance(value, str) and value.isascii() and value.isprintable():
        return key.encode("ascii"), value.encode("ascii")
    return None
