"""What comes on one stream: a request out of pieces, for a servicer that takes one message or a stream of them."""

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc.aio
from grpc import StatusCode

from gateway_core.grpc_server.caller import Caller
from gateway_core.grpc_server.frames import FLOW_CONTROL_ERROR, PROTOCOL_ERROR, StreamFault
from gateway_core.grpc_server.head import Head, Refusal
from gateway_core.grpc_server.limits import Limits
from gateway_core.grpc_server.message import PREFIX_BYTES, MessageReader, Sent, Unacceptable
from gateway_core.grpc_server.method import request_of

STREAM_WINDOW = 256 * 1024
"""Bytes that a client may send of one request before the server has read any."""
QUEUED_AT_MOST = 16
"""Messages of a streamed request that wait for the servicer, or a window's octets: the client may send no more."""
MESSAGE_BYTES = 64
"""What a message that waits counts beside its octets."""


class Owner(Protocol):
    """The calls of a connection, as each sees the others."""

    limits: Limits
    loop: asyncio.AbstractEventLoop
    caller: Caller
    tasks: set[asyncio.Task[None]]

    def give_back(self, number: int, size: int) -> None:
        """Lets the client send so many bytes more on a stream."""

    def hold(self, size: int) -> None:
        """Counts bytes of unfinished messages, or (negative) that they are no more; raises Unacceptable."""

    def ended(self, number: int, *, is_whole: bool) -> None:
        """Learns that the last frame of an answer has been written, and whether the request was whole by then."""


class Inlet:
    """The receiving half of a stream."""

    calls: Owner
    number: int
    head: Head
    ended: StatusCode | None
    task: asyncio.Task[None] | None
    # Class attributes are the state of a call with one request in one frame: most, and nothing to set up.
    is_half_closed = False
    """Whether the client sends nothing more."""
    _reader: MessageReader | None = None
    _requests: deque[Sent] | None = None
    _queued = 0
    """Bytes of those."""
    _arrival: asyncio.Future[None] | None = None
    _room = STREAM_WINDOW
    """Bytes that the client may send."""
    _received = 0
    _is_dropped = False

    @abstractmethod
    def answer_one(self, message: bytes) -> None:
        """Has the servicer answer a request."""

    @abstractmethod
    def answer_stream(self) -> None:
        """Has the servicer answer what it reads."""

    @abstractmethod
    def refuse(self, refusal: Refusal) -> None:
        """Answers without a servicer."""

    def begin(self, *, is_last: bool) -> None:
        """Answers a call that needs no request, or cannot be answered; raises Unacceptable."""
        self.is_half_closed = is_last
        refusal = self.head.refusal
        if refusal is not None:
            # Who speaks HTTP only may not understand an answer before the end of the request.
            if refusal.http_status == 200:
                self.refuse(refusal)
        elif self.head.takes_stream:
            self._requests = deque()
            self.answer_stream()
        if is_last and self.ended is None:
            self.receive_end()

    def receive(self, data: bytes, size: int, *, is_last: bool) -> None:
        """Takes a piece of the request, which was so many bytes with its padding.

        Raises Unacceptable, or StreamFault where a rule of HTTP/2 is broken.
        """
        if is_last:
            self.is_half_closed = True
            if self._is_whole(data):
                self.answer_one(data[PREFIX_BYTES:])
                return
        self._receive_piece(data, size)
        if is_last:
            self.receive_end()

    def _is_whole(self, data: bytes) -> bool:
        """Whether a piece is a whole request for a servicer that waits for one: nearly all are."""
        if self._reader is not None or self.task is not None or data[:1] != b"\0":
            return False
        head = self.head
        if head.content_length is not None or head.refusal is not None or self.ended is not None:
            return False
        return (
            len(data) - PREFIX_BYTES == int.from_bytes(data[1:PREFIX_BYTES], "big") <= self.calls.limits.message_bytes
        )

    def receive_end(self) -> None:
        """Learns that the request is over; raises Unacceptable where something is missing, and StreamFault."""
        self.is_half_closed = True
        if self.head.content_length not in (None, self._received):
            raise StreamFault(self.number, PROTOCOL_ERROR)
        if self.ended is not None:
            return
        refusal = self.head.refusal
        if refusal is not None:
            self.refuse(refusal)
            return
        if self._reader is not None and self._reader.held_bytes:
            raise Unacceptable(StatusCode.INTERNAL, "The request ends within a message.")
        if self._requests is not None:
            self._arrived()
        elif self.task is None:
            raise Unacceptable(StatusCode.UNIMPLEMENTED, "The request has no message.")

    def _receive_piece(self, data: bytes, size: int) -> None:
        self._received += len(data)
        self._room -= size
        if self._room < 0:
            raise StreamFault(self.number, FLOW_CONTROL_ERROR)
        if self.ended is not None or self.head.refusal is not None:
            self._give_back()
            return
        if self._reader is None:
            self._reader = MessageReader(self.head.encoding, self.calls.limits.message_bytes)
        reader = self._reader
        before = reader.held_bytes
        try:
            for message in reader.feed(data):
                self._take(reader, message)
        finally:
            self.calls.hold(reader.held_bytes - before)
        self._give_back()

    def _take(self, reader: MessageReader, message: Sent) -> None:
        if self._requests is not None:
            self._requests.append(message)
            self._queue(len(message.octets) + MESSAGE_BYTES)
            self._arrived()
        elif self.task is not None:
            raise Unacceptable(StatusCode.UNIMPLEMENTED, "The request has more than one message.")
        else:
            self.answer_one(reader.message(message))

    def _queue(self, size: int) -> None:
        self._queued += size
        self.calls.hold(size)

    def _give_back(self) -> None:
        requests = self._requests
        has_room = requests is None or (len(requests) < QUEUED_AT_MOST and self._queued < STREAM_WINDOW)
        is_wanted = not self.is_half_closed and has_room
        if self._room < STREAM_WINDOW // 2 and is_wanted and not self._is_dropped:
            self.calls.give_back(self.number, STREAM_WINDOW - self._room)
            self._room = STREAM_WINDOW

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def messages(self) -> AsyncIterator[Any]:
        """Those of a streamed request."""
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    async def read(self) -> Any:
        """The next message of a streamed request, or grpc.aio.EOF."""
        requests = self._requests
        if requests is None:
            raise grpc.aio.UsageError("The request is not streamed.")
        while not requests:
            if self.is_half_closed or self.ended is not None:
                return grpc.aio.EOF
            self._arrival = self.calls.loop.create_future()
            await self._arrival
        message, reader = requests.popleft(), self._reader
        self._queue(-len(message.octets) - MESSAGE_BYTES)
        self._give_back()
        assert self.head.method is not None
        assert reader is not None, "it has read the message"
        return request_of(self.head.method, reader.message(message))

    def drop_request(self) -> None:
        """Forgets what has come and nobody will read."""
        self._is_dropped = True
        reader, self._reader = self._reader, None
        if reader is not None:
            self.calls.hold(-reader.held_bytes)
        if self._requests is not None:
            self._requests.clear()
            self._queue(-self._queued)
            self._arrived()
