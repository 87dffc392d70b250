"""The calls of one connection: begun by header fields, fed by pieces of requests, ended in time."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from grpc import StatusCode

from gateway_core.grpc_server import frames
from gateway_core.grpc_server.allowance import RESETS, Allowance
from gateway_core.grpc_server.caller import Caller
from gateway_core.grpc_server.frames import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
    StreamFault,
)
from gateway_core.grpc_server.head import TOO_LARGE, Head, Malformed, check_trailers, head
from gateway_core.grpc_server.hpack_decoder import Decoder, TooLarge, Undecodable
from gateway_core.grpc_server.hpack_table import Field
from gateway_core.grpc_server.limits import Limits, Parting
from gateway_core.grpc_server.message import Unacceptable, too_much
from gateway_core.grpc_server.method import Methods
from gateway_core.grpc_server.stream import Stream
from gateway_core.grpc_server.wire import Wire

CONNECTION_WINDOW = 1024 * 1024
"""Bytes that it may send of all together before the server has seen any."""
HEADS_AT_MOST = 64
HEAD_BYTES_AT_MOST = 1024
"""Of a header block whose meaning is remembered."""
HELD_BYTES = 64 * 1024 * 1024
"""Of unfinished requests, or twice the longest message."""
TICK_SECONDS = 0.001
"""How much too early uvloop's timers are, whose clock has milliseconds."""
CLOSED_AT_MOST = 1000
"""Streams that have ended and are remembered, or twice as many as there may be at once."""
EXPIRED_AT_MOST = 1000
"""Deadlines of calls that have ended, beside those of the others."""


class Calls:
    """What a client has asked on one connection."""

    def __init__(self, wire: Wire, caller: Caller, methods: Methods, limits: Limits, idle: Callable[[], None]) -> None:
        """Takes where answers go, who asks, what can be asked, within which bounds, and who learns that all are done.

        The last is called once no more are taken.
        """
        self._idle = idle
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.caller = caller
        self.streams: dict[int, Stream] = {}
        """The calls whose answers are not written yet."""
        self.tasks: set[asyncio.Task[None]] = set()
        """What runs servicers."""
        self.last = 0
        """The number of the last stream that was begun."""
        self.last_taken: int | None = None
        """Streams with higher numbers are ignored: the client was told that they would be. None: all are taken."""
        self._wire = wire
        self._methods = methods
        self._decoder = Decoder(limits.header_bytes)
        self._heads: dict[bytes, Head] = {}
        self._room = CONNECTION_WINDOW
        self._held = 0
        most = max(CLOSED_AT_MOST, 2 * limits.streams)
        self._left = Remembered(most)
        """Streams that ended here before the client had said all: what is still on its way is ignored."""
        self._over = Remembered(most)
        """Others that have ended."""
        self._resets = Allowance(self.loop.time, max(RESETS, 2 * limits.streams), "too many calls are taken back")
        self._deadlines: list[tuple[float, int]] = []
        """A heap: of calls, by the numbers of their streams, and of some that have ended."""
        self._timer: asyncio.TimerHandle | None = None

    # ---- what comes ----

    def headers_came(self, number: int, block: bytes, *, is_last: bool) -> None:
        """Begins a call, or ends its request."""
        stream = self.streams.get(number)
        if stream is not None:
            self._end_request(stream, block, is_last=is_last)
        elif number <= self.last:
            self._late_headers(number, block)
        elif not number & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "A stream whose number is even.")
        else:
            self.last = number
            found = self._heads.get(block) or self._head(number, block)
            if self.last_taken is None or number <= self.last_taken:
                self._begin(number, found, is_last=is_last)

    def data_came(self, number: int, data: bytes, size: int, *, is_last: bool) -> None:
        """Feeds a call."""
        self._room -= size
        if self._room < CONNECTION_WINDOW // 2:
            if self._room < 0:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "More data than were asked for.")
            self._wire.allow(0, CONNECTION_WINDOW - self._room)
            self._room = CONNECTION_WINDOW
        stream = self.streams.get(number)
        if stream is None or stream.is_half_closed:
            self._late_data(number, is_last=is_last)
            return
        try:
            stream.receive(data, size, is_last=is_last)
        except Unacceptable as error:
            stream.break_off(error.code, error.words)

    def reset_came(self, number: int) -> None:
        """Cancels a call."""
        if number > self.last:
            raise ConnectionFault(PROTOCOL_ERROR, "A stream is ended that was not begun.")
        stream = self.streams.pop(number, None)
        if stream is not None:
            self._over.add(number)
            # Who has heard something and leaves then is nobody who floods.
            has_heard = stream.initial is not None
            stream.lose()
            if not has_heard:
                self._resets.spend()
            self._close_if_last()

    def window_came(self, number: int, more: int) -> None:
        """Lets a call's answer go on."""
        stream = self.streams.get(number)
        if stream is not None:
            self._wire.grow_stream(stream, more)
        elif number > self.last:
            raise ConnectionFault(PROTOCOL_ERROR, "A window of a stream that was not begun.")

    def stream_broken(self, fault: StreamFault) -> None:
        """Ends one call, whose client broke a rule."""
        stream = self.streams.pop(fault.number, None)
        if stream is not None:
            stream.lose()
        self._left.add(fault.number)
        self._wire.reset(fault.number, fault.code)
        self._resets.spend()
        self._close_if_last()

    def _begin(self, number: int, found: Head, *, is_last: bool) -> None:
        if len(self.streams) >= self.limits.streams or len(self.tasks) >= self.limits.streams:
            raise StreamFault(number, frames.REFUSED_STREAM)
        stream = Stream(self, self._wire, number, found)
        self.streams[number] = stream
        if found.timeout is not None:
            stream.deadline = deadline = self.loop.time() + found.timeout
            heapq.heappush(self._deadlines, (deadline, number))
            self._forget_deadlines()
            if self._deadlines[0][1] == number:
                self._await_deadline()
        if is_last or found.refusal is not None or found.takes_stream:
            try:
                stream.begin(is_last=is_last)
            except Unacceptable as error:
                stream.break_off(error.code, error.words)

    def _end_request(self, stream: Stream, block: bytes, *, is_last: bool) -> None:
        if stream.is_half_closed:
            self._skip(block)
            raise StreamFault(stream.number, STREAM_CLOSED)
        try:
            check_trailers(self._fields(block))
        except (Malformed, TooLarge):
            is_last = False
        if not is_last:
            raise StreamFault(stream.number, PROTOCOL_ERROR)
        try:
            stream.receive_end()
        except Unacceptable as error:
            stream.break_off(error.code, error.words)

    def _late_headers(self, number: int, block: bytes) -> None:
        if number in self._left or (self.last_taken is not None and number > self.last_taken):
            self._skip(block)
        elif number in self._over:
            raise ConnectionFault(STREAM_CLOSED, "Header fields on a stream that has ended.")
        else:
            raise ConnectionFault(PROTOCOL_ERROR, "A stream whose number is lower than one before it.")

    def _late_data(self, number: int, *, is_last: bool) -> None:
        if number > self.last:
            raise ConnectionFault(PROTOCOL_ERROR, "Data on a stream that was not begun.")
        if number not in self._left and (self.last_taken is None or number <= self.last_taken):
            raise StreamFault(number, STREAM_CLOSED)

    # ---- header blocks ----

    def _head(self, number: int, block: bytes) -> Head:
        """What a block says; the same again costs nothing, as long as the table is the same."""
        version = self._decoder.table.version
        try:
            found = head(self._fields(block), self._methods)
        except TooLarge:
            return TOO_LARGE
        except Malformed:
            raise StreamFault(number, PROTOCOL_ERROR) from None
        if self._decoder.table.version == version and len(block) <= HEAD_BYTES_AT_MOST:
            if len(self._heads) >= HEADS_AT_MOST:
                self._heads.clear()
            self._heads[block] = found
        return found

    def _fields(self, block: bytes) -> list[Field]:
        version = self._decoder.table.version
        try:
            return self._decoder.fields(block)
        except Undecodable as error:
            raise ConnectionFault(COMPRESSION_ERROR, str(error)) from error
        finally:
            # The same octets mean something else once the table has changed, whatever the block was that changed it.
            if self._decoder.table.version != version:
                self._heads.clear()

    def _skip(self, block: bytes) -> None:
        """Reads a block for what it does to the table only."""
        with suppress(TooLarge):
            self._fields(block)

    # ---- time ----

    def _await_deadline(self) -> None:
        """Waits for the first of the deadlines."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(self._deadlines[0][0], self._expire)

    def _expire(self) -> None:
        now = self.loop.time() + TICK_SECONDS
        self._timer = None
        deadlines, streams = self._deadlines, self.streams
        while deadlines and (deadlines[0][0] <= now or deadlines[0][1] not in streams):
            _, number = heapq.heappop(deadlines)
            if number in streams:
                self._end_late(streams[number])
        if deadlines:
            self._await_deadline()

    def _end_late(self, stream: Stream) -> None:
        if stream.ended is None:
            stream.break_off(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            return
        # It is answered, and the client has not taken the answer.
        self.streams.pop(stream.number, None)
        (self._over if stream.is_half_closed else self._left).add(stream.number)
        stream.lose()
        self._wire.reset(stream.number, frames.CANCEL)
        self._close_if_last()

    def _close_if_last(self) -> None:
        """Lets a connection close on which no more calls are taken, and none is left."""
        if self.last_taken is not None and not self.streams:
            self._idle()

    def _forget_deadlines(self) -> None:
        """Drops those of calls that have ended, where they are many."""
        if len(self._deadlines) > 2 * len(self.streams) + EXPIRED_AT_MOST:
            self._deadlines = [each for each in self._deadlines if each[1] in self.streams]
            heapq.heapify(self._deadlines)

    # ---- what calls ask for ----

    def ended(self, number: int, *, is_whole: bool) -> None:
        """Forgets a call that is answered; a client that has not said all is told to stop."""
        self.streams.pop(number, None)
        if is_whole:
            self._over.add(number)
        else:
            self._left.add(number)
            self._wire.reset(number, frames.NO_ERROR)
        self._close_if_last()

    def give_back(self, number: int, size: int) -> None:
        """Lets the client send so many bytes more on the stream."""
        self._wire.allow(number, size)

    def hold(self, size: int) -> None:
        """Counts bytes of unfinished messages; raises Unacceptable where they are too many."""
        self._held += size
        if size > 0 and self._held > max(2 * self.limits.message_bytes, HELD_BYTES):
            raise too_much()

    def cancel(self, code: StatusCode, parting: Parting) -> None:
        """Ends all calls."""
        for stream in tuple(self.streams.values()):
            stream.break_off(code, parting.words, parting.trailing)

    def lose(self) -> None:
        """Ends all calls of a client that has left."""
        if self._timer is not None:
            self._timer.cancel()
        streams = tuple(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.lose()

    def leave(self) -> None:
        """Ends all calls of a connection that is gone, and knows it no more: neither waits for the other's collection.

        What is left of the calls needs only what they share.
        """
        self.lose()
        self._timer = None
        self._idle = nothing_more


class Remembered:
    """The last numbers of a kind."""

    def __init__(self, most: int) -> None:
        """Takes how many are remembered."""
        self._most = most
        self._numbers: set[int] = set()
        self._order: deque[int] = deque()

    def add(self, number: int) -> None:
        """Remembers one, for which the first may be forgotten."""
        if number not in self._numbers:
            self._numbers.add(number)
            self._order.append(number)
            if len(self._order) > self._most:
                self._numbers.discard(self._order.popleft())

    def __contains__(self, number: int) -> bool:
        return number in self._numbers


def nothing_more() -> None:
    """Of a connection that is gone nothing is left to be closed."""
