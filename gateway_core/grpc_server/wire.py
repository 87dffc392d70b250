"""What leaves on one connection: the windows and the socket that its streams share."""

import asyncio
from collections import OrderedDict
from typing import Protocol

from gateway_core.grpc_server import frames
from gateway_core.grpc_server.frames import (
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    WINDOW_AT_MOST,
    ConnectionFault,
    StreamFault,
    frame,
)
from gateway_core.grpc_server.hpack_encoder import Encoder

FLUSH_BYTES = 4 * 1024
"""Of what is written within one turn of the event loop: more is not held back until its end."""
UNREAD_AT_MOST = 1000
"""Frames that answer frames, for a client that reads nothing: then it is left."""
UNREAD_BYTES_AT_MOST = 8 * 1024 * 1024
"""Of what no window bounds, which is header fields: likewise."""


class Waiting(Protocol):
    """A stream with something to send."""

    number: int
    send_credit: int

    @property
    def waits(self) -> bool:
        """Whether it does."""
        ...

    @property
    def send_window(self) -> int:
        """Bytes that the client takes on it."""
        ...

    def send_more(self) -> bool:
        """Sends one frame; whether there is more that can be sent now."""
        ...


NOTHING_TO_JOIN = (0, 0, 0)


class Wire:
    """The sending half of a connection.

    What is written within one turn of the event loop leaves in one piece, but for the end of a call, which waits for
    nobody: the events of a burst, and those of many streams, take one system call.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        """Takes where frames go."""
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._unflushed: list[bytes] = []
        self._size = 0
        self._is_due = self._is_over = False
        self._joined = NOTHING_TO_JOIN
        """The DATA frame that was written last, if nothing was since: its stream, its size, and where its head is."""
        self.encoder = Encoder()
        self.send_window = frames.WINDOW_BYTES
        """Bytes that the client takes on all streams together."""
        self.stream_window = frames.WINDOW_BYTES
        """Bytes that it takes on each stream that begins; what it takes on others changes with it."""
        self.is_paused = False
        """Whether the client reads slowly."""
        self.sent_count = 0
        """How often something was sent, other than answers to frames."""
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()
        """Streams with something to send, for which only the connection has no room."""
        self._unread = 0
        self._unread_bytes = 0

    def write(self, data: bytes) -> None:
        """Sends octets, at the end of this turn of the event loop; nothing after `end`."""
        if self._is_over:
            return
        if self.is_paused:
            self._unread_bytes += len(data)
            if self._unread_bytes > UNREAD_BYTES_AT_MOST:
                self._transport.abort()
                return
        self._joined = NOTHING_TO_JOIN
        self._unflushed.append(data)
        self._count(len(data))

    def write_message(self, number: int, message: bytes) -> None:
        """Sends a message in a DATA frame: with those before it in one, where they leave together.

        Clients count frames that say little (h2 of Rust ends a connection that has 10,000 such unread).
        """
        if self._is_over:
            return
        prefix = frames.PREFIX.pack(0, len(message))
        size = len(message) + len(prefix)
        before, joined, place = self._joined
        if before == number and joined + size <= frames.FRAME_BYTES:
            joined += size
            self._unflushed[place] = frames.HEAD.pack(joined << 8 | frames.DATA, 0, number)
            self._unflushed += (prefix, message)
        else:
            joined, place = size, len(self._unflushed)
            self._unflushed += (frames.HEAD.pack(size << 8 | frames.DATA, 0, number), prefix, message)
        self._joined = (number, joined, place)
        self._count(size)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > FLUSH_BYTES:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Sends what was written so far."""
        if self._unflushed:
            data = b"".join(self._unflushed)
            self._unflushed.clear()
            self._size = 0
            self._joined = NOTHING_TO_JOIN
            if not self._transport.is_closing():
                self._transport.write(data)

    def end(self) -> None:
        """Sends what was written so far, and nothing more."""
        self.flush()
        self._is_over = True

    def control(self, data: bytes) -> None:
        """Sends what answers a frame. A client that sends such and reads nothing is left in the end."""
        if self._transport.is_closing():
            return
        if self.is_paused:
            self._unread += 1
            if self._unread > UNREAD_AT_MOST:
                self._transport.abort()
                return
        self.write(data)

    def reset(self, number: int, code: int) -> None:
        """Ends a stream; which need not answer a frame, and is once for each."""
        self.write(frame(frames.RST_STREAM, 0, number, frames.NUMBER.pack(code)))

    def allow(self, number: int, more: int) -> None:
        """Lets the client send more, on a stream or (0) on all together."""
        self.control(frame(frames.WINDOW_UPDATE, 0, number, frames.NUMBER.pack(more)))

    def wait(self, stream: Waiting) -> None:
        """Has `send_more` called once the connection has room, where the stream itself has."""
        if stream.send_window > 0:
            self._waiting[stream] = None

    def forget(self, stream: Waiting) -> None:
        """Takes that back."""
        self._waiting.pop(stream, None)

    def pause(self) -> None:
        """Hears that the client reads slowly."""
        self.is_paused = True

    def resume(self) -> None:
        """Hears that the client has read."""
        self.is_paused = False
        self._unread = self._unread_bytes = 0
        self.send_more()

    def send_more(self) -> None:
        """Sends what waits, each stream a frame in turn."""
        waiting = self._waiting
        while waiting and self.send_window > 0 and not self.is_paused:
            stream, _ = waiting.popitem(last=False)
            stream.send_more()
            if stream.waits:
                self.wait(stream)

    def grow(self, more: int) -> None:
        """Hears that the client takes more on all streams together; raises ConnectionFault."""
        if not more:
            raise ConnectionFault(PROTOCOL_ERROR, "A window that grows by nothing.")
        self.send_window += more
        if self.send_window > WINDOW_AT_MOST:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "A window that is too large.")
        self.send_more()

    def grow_stream(self, stream: Waiting, more: int) -> None:
        """Hears that the client takes more on a stream; raises StreamFault."""
        if not more:
            raise StreamFault(stream.number, PROTOCOL_ERROR)
        stream.send_credit += more
        if stream.send_window > WINDOW_AT_MOST:
            raise StreamFault(stream.number, FLOW_CONTROL_ERROR)
        if stream.waits and stream not in self._waiting:
            self.go_on(stream)

    def go_on(self, stream: Waiting) -> None:
        """Sends what a stream can be sent that had no room itself."""
        while stream.send_more():
            pass
        if stream.waits:
            self.wait(stream)
