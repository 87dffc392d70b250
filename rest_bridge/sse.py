"""Server-sent events (WHATWG HTML, 9.2): framing, and a stream with pings in its silences."""

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Protocol, Self

Headers = Sequence[tuple[bytes, bytes]]

HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
PING = b": ping\n\n"


class Sink(Protocol):
    """Where a stream goes: an Exchange."""

    async def start_stream(self, status: int, headers: Headers, told: bytes) -> None:
        """Sends status, header fields and header lines."""
        ...

    async def send(self, data: bytes) -> None:
        """Sends bytes, and waits while the reader is slow."""
        ...

    async def end(self, data: bytes = b"") -> None:
        """Sends the last bytes."""
        ...


def event(document: bytes) -> bytes:
    """The event that carries a document without line breaks."""
    return b"data: " + document + b"\n\n"


def events(documents: Iterable[bytes]) -> bytes:
    """The events that carry documents without line breaks, in one piece."""
    return b"".join([b"data: " + document + b"\n\n" for document in documents])


class EventStream:
    """An open event stream; a comment goes out after `ping_seconds` of silence.

    `async with EventStream(exchange, exchange.config.ping_seconds, told) as stream:` sends 200 and the header lines;
    `write` sends what belongs together as one piece, `end` the last piece. Leaving the block without `end` leaves the
    answer visibly incomplete. Every send waits while the reader is slow, so that whoever writes stops reading.
    """

    def __init__(self, sink: Sink, ping_seconds: float, told: bytes = b"") -> None:
        """Takes an exchange whose answer has not started; the header lines join those of every event stream."""
        self._sink = sink
        self._told = told
        self._ping_seconds = ping_seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None
        self._written_at = 0.0
        self._writing = False

    async def __aenter__(self) -> Self:
        told, self._told = self._told, b""  # a stream may be open for hours
        await self._sink.start_stream(200, HEADERS, told)
        self._written_at = self._loop.time()
        self._timer = self._loop.call_later(self._ping_seconds, self._tick)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._ping is not None:
            self._ping.cancel()
        await self._stop()

    async def write(self, data: bytes) -> None:
        """Sends whole events, if there are any."""
        if not data:
            return
        if self._ping is not None:
            await self._ping
        self._writing = True
        try:
            await self._sink.send(data)
        finally:
            self._writing = False
        self._written_at = self._loop.time()

    async def end(self, data: bytes = b"") -> None:
        """Sends the last whole events and ends the answer."""
        await self._stop()
        await self._sink.end(data)

    def _tick(self) -> None:
        """Pings where it was silent, and comes again when it will have been."""
        now = self._loop.time()
        wait = self._ping_seconds
        if not self._writing and self._ping is None:
            silence = now - self._written_at
            if silence < self._ping_seconds:
                wait = max(self._ping_seconds - silence, 0.001)
            else:
                self._written_at = now
                self._ping = self._loop.create_task(self._send_ping())
                self._ping.add_done_callback(self._pinged)
        self._timer = self._loop.call_later(wait, self._tick)

    async def _send_ping(self) -> None:
        await self._sink.send(PING)

    def _pinged(self, ping: asyncio.Task[None]) -> None:
        if not ping.cancelled() and ping.exception() is None:
            self._ping = None

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ping is not None:
            ping, self._ping = self._ping, None
            await asyncio.wait((ping,))
            if not ping.cancelled():
                ping.result()
