"""What clients may ask of the server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parting:
    """What a call is told that the end of the server cuts, beside UNAVAILABLE."""

    words: str = "The server ends."
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    """Metadata."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for each connection."""

    message_bytes: int = 4 * 1024 * 1024
    """Of a request and of an answer, uncompressed. A connection may have twice as much in unfinished requests.

    Or 64 MiB, where that is more.
    """
    streams: int = 1000
    """Calls at once."""
    header_bytes: int = 16 * 1024
    """Of the header fields of a request, as RFC 9113 counts them (6.5.2)."""
    ping_seconds: float = 10.0
    """Between two pings of a client, at least."""
    keepalive_seconds: float = 60.0
    """Without a byte of the client, until the server pings."""
    keepalive_answer_seconds: float = 20.0
    """Until the answer."""
    age_seconds: float | None = None
    """How old a connection becomes before the client is told to make another. None: as old as it likes."""
