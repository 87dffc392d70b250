"""What is around the text of a chunk, octet by octet: a chunk that has the same around its own is not parsed again."""

import re
from typing import Any, NamedTuple

import orjson

CONTENT = re.compile(rb'"content"[ \t]*:[ \t]*("(?:[^"\\]|\\.)*")')
PADDED = re.compile(rb'"obfuscation"[ \t]*:[ \t]*"([!#-\[\]-~]*)"')
PLAIN_PADDING = re.compile(rb"[!#-\[\]-~]*")
"""A padding that needs no escapes and no spaces, as OpenAI's are."""

MARK = "the text"
OTHER_MARK = "padding"


class Stencil(NamedTuple):
    """The octets of a chunk without its text and, where it has one, its padding."""

    before: bytes
    """Before the text."""
    between: bytes | None
    """Between it and the padding. None: there is no padding."""
    after: bytes
    """Behind."""

    def filled(self) -> bytes:
        """The chunk with marks in the places of its text and its padding."""
        padding = b"" if self.between is None else self.between + OTHER_MARK.encode()
        return self.before + orjson.dumps(MARK) + padding + self.after


def stencil_of(data: bytes, *, has_padding: bool) -> tuple[Stencil, Any] | None:
    """What may be around the text of a chunk, and the document that it is with MARK and OTHER_MARK in their places.

    Only where those are its text and its padding, and all else is as it was, nothing else was meant.
    """
    found = CONTENT.search(data)
    if found is None:
        return None
    start, end = found.span(1)
    between, after = None, data[end:]
    if has_padding:
        padded = PADDED.search(data, end)
        if padded is None:
            return None
        between, after = data[end : padded.start(1)], data[padded.end(1) :]
    made = Stencil(data[:start], between, after)
    try:
        return made, orjson.loads(made.filled())
    except orjson.JSONDecodeError:
        return None
