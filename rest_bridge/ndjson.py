"""Newline-delimited JSON: framing. A stream of it has no pings; it is sent with the exchange's own methods."""

from collections.abc import Sequence

HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


def line(document: bytes) -> bytes:
    """The line that carries a document without line breaks."""
    return document + b"\n"
