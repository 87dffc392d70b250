"""Reads events out of a stream of bytes, wherever the bytes were cut.

The format is the WHATWG's: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from gateway_core.upstream import faults

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

CR, LF = b"\r\n"
"""As numbers, since Python looks for those in half the time that it takes for bytes of one."""


DATA = b"data: "
BETWEEN = b"\n\ndata: "
"""Between events of one line of data each."""

MESSAGE = "message"
"""The type of an event where the stream names none."""


class Event(NamedTuple):
    """One event: its type and its data, lines joined by LF."""

    name: str
    data: bytes


# Half the price of naming the fields: a stream has thousands.
event_of: Callable[[tuple[str, bytes]], Event] = partial(tuple.__new__, Event)


class EventReader:
    """Turns pieces of an event stream into events, as soon as each is whole.

    An event of more than `max_event_bytes` raises ProviderBroken. Comments, ids and retry times are skipped.
    """

    def __init__(self, max_event_bytes: int, provider: str) -> None:
        """Takes the most bytes that a line, or the data of one event, may have, and whose stream it is."""
        self._provider = provider
        self._limit = max_event_bytes
        self._start: bytes | None = b""  # the first bytes, until it is known whether they are a byte order mark
        self._after_cr = False
        self._line = bytearray()  # the line that has not ended
        self._name = b""
        self._data: list[bytes] = []  # the data lines of the event that has not ended
        self._data_size = 0

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end in this piece."""
        if self._start is not None:
            piece = self._without_mark(piece)
        if self._after_cr or CR in piece:
            piece = self._with_line_feeds(piece)
        if not piece:
            return []
        events: list[Event] = []
        if self._line or self._data or self._name or len(piece) > self._limit:
            self._read_lines(piece, events)
        else:
            self._read_blocks(piece, events)
        return events

    def finish(self) -> list[Event]:
        """The event that the end of the stream cut off, if there is one.

        The specification drops it; hosts that omit the last empty line exist, and an answer's end must not be lost.
        """
        events: list[Event] = []
        self._read_lines((self._start or b"") + b"\n\n", events)
        self._start = None
        return events

    def _without_mark(self, piece: bytes) -> bytes:
        start = (self._start or b"") + piece
        if len(start) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(BYTE_ORDER_MARK)

    def _with_line_feeds(self, piece: bytes) -> bytes:
        # A CR ends its line at once; an LF that comes with the next piece belongs to it.
        if not piece:
            return piece
        ends_in_cr = piece.endswith(b"\r")
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        self._after_cr = ends_in_cr
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read_blocks(self, piece: bytes, events: list[Event]) -> None:
        """Reads a piece that begins at an event's beginning: nearly always it holds whole events of one line."""
        whole, end, rest = piece.rpartition(b"\n\n")
        if whole.startswith(DATA):
            for block in whole[len(DATA) :].split(BETWEEN):
                if LF in block:
                    self._read_lines(DATA + block + end, events)
                else:
                    events.append(event_of((MESSAGE, block)))
        elif end:
            self._read_lines(whole + end, events)
        if rest:
            self._read_lines(rest, events)

    def _read_lines(self, piece: bytes, events: list[Event]) -> None:
        *lines, rest = piece.split(b"\n")
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        for line in lines:
            self._read_line(line, events)
        self._line += rest
        if len(self._line) > self._limit:
            raise faults.oversized(self._provider, self._limit)

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        if len(line) > self._limit:
            raise faults.oversized(self._provider, self._limit)
        if not line:
            if self._data:
                events.append(Event(self._name.decode(errors="replace") or MESSAGE, b"\n".join(self._data)))
            self._name, self._data, self._data_size = b"", [], 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_size += len(self._data[-1]) + 1
            if self._data_size > self._limit + 1:
                raise faults.oversized(self._provider, self._limit)
        elif field == b"event":
            self._name = value.removeprefix(b" ")
