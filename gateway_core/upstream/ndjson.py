"""Reads lines out of a stream of newline-delimited JSON, wherever the bytes were cut.

The format: https://github.com/ndjson/ndjson-spec
"""

from gateway_core.upstream import faults


class LineReader:
    """Turns pieces of a stream into lines, as soon as each is whole; empty ones are skipped.

    A line of more than `max_line_bytes` raises ProviderBroken.
    """

    def __init__(self, max_line_bytes: int, provider: str) -> None:
        """Takes the most bytes that a line may have, and whose stream it is."""
        self._limit = max_line_bytes
        self._provider = provider
        self._rest = bytearray()  # the line that has not ended

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece."""
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest = bytearray(rest)
        else:
            self._rest += rest
        if len(self._rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise faults.oversized(self._provider, self._limit)
        return [line for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """The last line, where the stream ended without a line break."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest.strip() else []
