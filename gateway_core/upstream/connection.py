"""One connection to a provider's host: writes a request, reads its answer into the exchange, then serves the next."""

import asyncio
import math
from functools import partial
from typing import Any, Protocol, cast

import httptools

from gateway_core.upstream import faults
from gateway_core.upstream.exchange import Exchange, Failure

# Most bytes of a head, of what stands between the pieces of a body, and of what follows it.
HEAD_BYTES = 64 * 1024

# Most headers that a host may send for one request, trailers included.
FIELDS_AT_MOST = 500

# Most bytes of one read. The loops' own reads take up to 256 KiB, however little is wanted, so that a thousand answers
# that nobody reads would be held with a quarter of a gigabyte. Who waits for a whole answer wants few reads.
READ_BYTES = 16 * 1024
WHOLE_READ_BYTES = 128 * 1024

# An answer of which more waits for its reader is not read on.
UNREAD_BYTES = 8 * 1024

# A longer body is written as the host takes it.
WRITE_BYTES = 64 * 1024

LEAST_SECONDS = 0.001
"""Between two looks at the time: a loop's clock may be coarser than its timers."""


class Owner(Protocol):
    """Who keeps connections."""

    room: memoryview
    """Where connections of one loop read into: each takes what it has read before the next reads."""

    def release(self, connection: "Connection") -> None:
        """Takes back a connection that may serve again."""

    def lose(self, connection: "Connection") -> None:
        """Learns that a connection has ended or is about to."""


class Garbage(Exception):
    """The host sends what it should not."""


class Connection(asyncio.BufferedProtocol):
    """Serves one exchange at a time. It is open from `connection_made` until `abort` or the host's end of it."""

    __slots__ = (
        "_checked_at", "_exchange", "_fields", "_fields_left", "_is_last", "_is_until_close", "_is_write_paused",
        "_loop", "_narrow", "_owner", "_parser", "_passed", "_timer", "_transport", "_unsent", "early", "has_served",
        "idle_since", "is_lost", "sent_at",
    )  # fmt: skip

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        """Belongs to a loop, and to the owner who is told when it is free and when it ends."""
        self._owner = owner
        self._loop = loop
        self._narrow = owner.room[:READ_BYTES]
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._fields: dict[bytes, bytes] = {}
        self._fields_left = FIELDS_AT_MOST
        self._parser: Any = httptools.HttpResponseParser(self)
        self._passed = 0  # bytes since the request, or since the last that were of use
        self._unsent: memoryview | None = None
        self._is_write_paused = self._is_last = self._is_until_close = False
        self._timer: asyncio.TimerHandle | None = None
        self._checked_at = math.inf
        self.early = b""
        """What the host has said before it was asked anything."""
        self.is_lost = False
        self.has_served = False
        self.idle_since = self.sent_at = 0.0

    def send(self, exchange: Exchange, head: bytes, body: bytes | None) -> None:
        """Begins an exchange; `head` lacks the length of the body and the empty line."""
        self.sent_at = self._loop.time()
        transport = self._transport
        if transport is None or self.is_lost:
            exchange.failure = partial(faults.hung_up, exchange.bounds.provider, "unanswered")
            exchange.is_unanswered = True
            return
        exchange.carrier = self
        self._exchange = exchange
        self._fields = {}
        self._fields_left = FIELDS_AT_MOST
        self._passed = 0
        if body is None:
            transport.write(head + b"\r\n")
        elif len(body) <= WRITE_BYTES:
            transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        else:
            transport.write(b"%bContent-Length: %d\r\n\r\n" % (head, len(body)))
            self._unsent = memoryview(body)
            self._write_more()
        if self.early:
            early, self.early = self.early, b""
            transport.resume_reading()
            self._read(exchange, early)

    def watch(self, when: float) -> None:
        """Looks at the exchange's times no later than then: a timer that comes too early is set anew when it comes."""
        if when < self._checked_at:
            if self._timer is not None:
                self._timer.cancel()
            self._checked_at = when
            self._timer = self._loop.call_at(when, self._check)

    def resume(self) -> None:
        """Reads on."""
        if self._transport is not None and not self.is_lost:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Closes at once: nothing more is sent, no leave is taken in TLS."""
        self._leave("cut")
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, _: int) -> memoryview:
        """Room for one read, whatever size the loop hints at."""
        exchange = self._exchange
        return self._owner.room if exchange is not None and exchange.is_whole else self._narrow

    def buffer_updated(self, count: int) -> None:
        """Bytes were read."""
        exchange = self._exchange
        data = self._owner.room[:count]
        if exchange is not None:
            self._read(exchange, data)
        elif self.has_served or self.early or self._transport is None:
            # What comes unasked would be taken for the answer to the next request.
            self.abort()
        else:
            # A host that has too much to do may refuse before it is asked: that will be the answer.
            self.early = bytes(data)
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The host sends nothing more: where nothing else tells the end of a body, this does."""
        exchange = self._exchange
        if exchange is not None and self._is_until_close:
            self._is_last = exchange.is_complete = True
            self._finish(exchange)
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._end(error)
        self._parser = self._transport = None  # they hold each other

    def pause_writing(self) -> None:
        """The host takes no more bytes for now."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """The host takes bytes again."""
        self._is_write_paused = False
        self._write_more()

    def on_message_begin(self) -> None:
        """Refuses a second answer to one request."""
        if self._exchange is None or self._exchange.is_complete:
            raise Garbage

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer: the first of a name's values counts."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise Garbage
        self._fields.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """Status and headers are there."""
        exchange, fields = self._exchange, self._fields
        if exchange is None:
            raise Garbage
        self._fields = {}
        if self._passed > HEAD_BYTES and sum(map(len, (*fields, *fields.values()))) > HEAD_BYTES:
            raise Garbage
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return
        self._passed = 0
        self._is_last = not self._parser.should_keep_alive()
        if exchange.is_head:
            # The parser does not know that no body comes.
            exchange.is_complete = self._is_last = True
        elif b"transfer-encoding" in fields:
            if fields[b"transfer-encoding"].strip().lower() != b"chunked":
                raise Garbage
        elif b"content-length" not in fields and status not in (204, 304):
            self._is_until_close = True
        if status >= 400 and self._unsent:
            # It has refused a body that it has not read: the rest would only make it close the connection.
            self._unsent = None
            self._is_last = True
        exchange.status = status
        exchange.fields = fields
        exchange.wake()

    def on_body(self, data: bytes) -> None:
        """Bytes of the body."""
        exchange = self._exchange
        if exchange is None or exchange.is_complete:
            raise Garbage
        self._passed = 0
        exchange.pieces.append(data)
        exchange.size += len(data)
        if not exchange.is_whole:
            if exchange.waiter is not None:
                exchange.wake()
            if exchange.size > UNREAD_BYTES and not exchange.is_paused and self._transport is not None:
                exchange.is_paused = True
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is there, unless it was an informational one."""
        exchange = self._exchange
        if exchange is not None and exchange.status:
            exchange.is_complete = True

    def _read(self, exchange: Exchange, data: bytes | memoryview) -> None:
        self._passed += len(data)
        is_sound = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            is_sound = False
        if exchange.is_complete:
            self._is_last |= not is_sound
            self._finish(exchange)
        elif not is_sound or self._passed > HEAD_BYTES:
            what: faults.Broken = "cut" if exchange.status else "garbage"
            self._fail(exchange, partial(faults.broken, exchange.bounds.provider, what))
        elif exchange.is_whole:
            exchange.waiting_since = self._loop.time()
            if exchange.size > exchange.bounds.answer_bytes:
                exchange.wake()

    def _finish(self, exchange: Exchange) -> None:
        transport = self._transport
        self._exchange = exchange.carrier = None
        if exchange.waiter is not None:
            exchange.wake()
        self.has_served = True
        if transport is None or self._is_last or self._unsent or self._is_write_paused or transport.is_closing():
            self.abort()
            return
        if exchange.is_paused:
            transport.resume_reading()
        self._owner.release(self)

    def _end(self, error: Exception | None) -> None:
        what: faults.Broken = "cut"
        if self._exchange is not None and not self._exchange.status:
            self._exchange.is_unanswered = not self._passed
            what = "unanswered"
        self._leave("reset" if error is not None else what)

    def _fail(self, exchange: Exchange, failure: Failure) -> None:
        exchange.failure = failure
        self.abort()

    def _leave(self, what: faults.Broken) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.carrier = None
            if exchange.failure is None:
                ended = faults.broken if exchange.status else faults.hung_up
                exchange.failure = partial(ended, exchange.bounds.provider, what)
            exchange.wake()
        if not self.is_lost:
            self.is_lost = True
            self._unsent = None
            if self._timer is not None:
                self._timer.cancel()
            self._owner.lose(self)

    def _check(self) -> None:
        self._timer, self._checked_at = None, math.inf
        now = self._loop.time()
        exchange = self._exchange
        if exchange is None:
            return
        if failure := exchange.overdue(now):
            exchange.pieces.clear()
            self._fail(exchange, failure)
        else:
            self.watch(max(exchange.due(), now + LEAST_SECONDS))

    def _write_more(self) -> None:
        while self._unsent and not self._is_write_paused and self._transport is not None:
            piece, self._unsent = self._unsent[:WRITE_BYTES], self._unsent[WRITE_BYTES:]
            self._transport.write(piece)
