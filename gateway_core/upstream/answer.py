"""The answer of a provider: iterating reads it, closing it closes the connection, time ends it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import NamedTuple
from weakref import ref

import aiohttp

from gateway_core import errors
from gateway_core.upstream import faults
from gateway_core.upstream.encoding import Decoder
from gateway_core.upstream.pool import Attempt

# The headers that tell where a body ends.
FRAMING = ("Content-Length", "Transfer-Encoding")


class Limits(NamedTuple):
    """What bounds one answer; times are of the event loop's clock."""

    provider: str
    ends_at: float
    phase: str | None
    """Whose end that is: "first_byte", "total", or None for the caller's deadline."""
    idle_seconds: float
    answer_bytes: int

    def error(self) -> errors.GatewayError:
        """What the call ends with when the time has passed."""
        return faults.timeout(self.provider, self.phase) if self.phase else faults.late(self.provider)


class Answer:
    """An answer whose status and headers are there: read it to its end, or close it."""

    def __init__(self, response: aiohttp.ClientResponse, attempt: Attempt, limits: Limits) -> None:
        """Takes over the response and its connection."""
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        """Get and `in` take names in any case."""
        self._response = response
        self._content = response.content
        assert attempt.protocol is not None  # it is there once there is a response
        self._protocol = attempt.protocol
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._failure: errors.GatewayError | None = None
        self._timer: asyncio.TimerHandle | None = None
        encoding = response.headers.get("content-encoding", "identity")
        self._decoder = None if encoding == "identity" else Decoder(encoding)
        self._ended = False
        self._connection_end: asyncio.Future[None] | None = None
        self._on_connection_end = partial(_lose, ref(self))
        if not self._content.is_eof():
            self._watch()

    def __del__(self) -> None:
        # A generator that was never begun closes nothing when it is closed; what it held ends here.
        if not self._ended and not self._loop.is_closed():
            self.abort()

    async def read(self) -> bytes:
        """The whole body, decoded; raises ProviderBroken beyond config.answer_bytes, and what `pieces` raises."""
        limit = self._limits.answer_bytes
        body: list[bytes] = []
        size = 0
        while piece := await self._piece():
            body.append(piece)
            size += len(piece)
            if size > limit:
                self.abort()
                raise faults.oversized(self._limits.provider, limit)
        return b"".join(body)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, decoded; closing the generator early closes the connection.

        Raises ProviderBroken where the body breaks off, ProviderTimeout where the provider is silent for too long, and
        DeadlineExceeded. A reader that takes its time stops the provider, and is not taken for a provider's silence.
        The deadline closes the connection when it passes, even while nobody reads; the next read raises.
        """
        try:
            while piece := await self._piece():
                yield piece
        finally:
            self.abort()

    def abort(self) -> None:
        """Closes the connection at once, unless the answer was read to its end."""
        if not self._ended:
            self._end()
            connection = self._response.connection
            if connection is not None and connection.transport is not None:
                # The library's close would first send what is left of the request, and take leave in TLS.
                connection.transport.abort()
            self._response.close()

    async def close(self) -> None:
        """Does what `abort` does."""
        self.abort()

    async def _piece(self) -> bytes:
        """The next piece, decoded; empty at the end."""
        if self._decoder is None:
            return await self._received()
        try:
            while not (piece := self._decoder.piece()):
                received = await self._received()
                if not received:
                    self._decoder.finish()
                    return b""
                self._decoder.feed(received)
        except ValueError:
            self.abort()
            raise self._broken() from None
        return piece

    async def _received(self) -> bytes:
        """The next piece as it was sent; empty at the end."""
        self._waiting_since = self._loop.time()
        if self._waiting_since >= self._limits.ends_at and not self._ended:
            self._fail(self._limits.error())
        if self._failure is not None:
            raise self._failure
        try:
            piece = await self._content.readany()
        except faults.LIBRARY_ERRORS as error:
            self.abort()
            raise faults.fault(self._limits.provider, error) from None
        except BaseException:
            self.abort()
            raise
        self._waiting_since = None
        if not piece:
            self._end()
            # A body that lasts until its connection ends: the library takes a reset for its end. Of other bodies the
            # connection may serve another call by now.
            reset = self._protocol.exception()
            if isinstance(reset, OSError) and not any(name in self.headers for name in FRAMING):
                raise faults.fault(self._limits.provider, reset)
        return piece

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connection_end is not None:
            self._connection_end.remove_done_callback(self._on_connection_end)

    def _watch(self) -> None:
        self._set_timer()
        self._connection_end = self._protocol.closed
        if self._connection_end is None:
            self._lose()
        else:
            self._connection_end.add_done_callback(self._on_connection_end)

    def _lose(self) -> None:
        # Of a chunk that it cannot read the library does not tell the reader, who would wait for ever.
        if not self._content.is_eof() and self._content.exception() is None:
            self._fail(self._broken())

    def _broken(self) -> errors.ProviderError:
        return faults.fault(self._limits.provider, aiohttp.ClientPayloadError())

    def _set_timer(self) -> None:
        # One timer for a call: silence is measured only when it fires, so that a piece costs no timer of its own.
        since = self._loop.time() if self._waiting_since is None else self._waiting_since
        when = min(self._limits.ends_at, since + self._limits.idle_seconds)
        self._timer = self._loop.call_at(when, _check, ref(self))

    def _check_time(self) -> None:
        now = self._loop.time()
        if now >= self._limits.ends_at:
            self._fail(self._limits.error())
        elif self._waiting_since is not None and now >= self._waiting_since + self._limits.idle_seconds:
            self._fail(faults.timeout(self._limits.provider, "idle"))
        else:
            self._set_timer()

    def _fail(self, failure: errors.GatewayError) -> None:
        self._failure = failure
        self._content.set_exception(failure)
        self.abort()


def _check(answer: "ref[Answer]") -> None:
    # The loop holds the answer weakly, so that one that nobody reads any more is closed before its time.
    if (alive := answer()) is not None:
        alive._check_time()


def _lose(answer: "ref[Answer]", _: "asyncio.Future[None]") -> None:
    if (alive := answer()) is not None:
        alive._lose()
