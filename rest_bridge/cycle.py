"""One request on a connection of the server's, and its answer."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from rest_bridge.connection import Fields, Lines, Scope
from rest_bridge.head import CONTINUE, answer_head, status_line

HELD_AT_MOST = 65536
"""Bytes of a body, or of requests behind a running one, after which reading stops until they are taken."""

CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"
HEAD_END, CLOSE_AND_END = b"\r\n", CLOSE + b"\r\n"
LAST_CHUNK = b"0\r\n%b\r\n"
"""With the trailers in it (RFC 9112, 7.1.2)."""


class Owner(Protocol):
    """The connection of a cycle."""

    transport: asyncio.Transport
    writable: asyncio.Event | None
    """Set once the client has read; None where there is no need to wait."""

    def default_lines(self) -> bytes:
        """Header lines of every answer."""
        ...

    def pause_reading(self) -> None:
        """Reads no further."""
        ...

    def resume_reading(self) -> None:
        """Reads on."""
        ...

    def answered(self, cycle: "Cycle") -> None:
        """Hears that an answer is complete."""
        ...


class Cycle:
    """A request as it arrives, and the one way for its answer to leave: the Connection of an Exchange."""

    __slots__ = (
        "_has_continued",
        "_held_bytes",
        "_is_chunked",
        "_lost",
        "_owner",
        "_pieces",
        "_waiter",
        "caller",
        "client",
        "headers",
        "is_complete",
        "is_gone",
        "is_started",
        "keep_alive",
        "more_body",
        "scope",
        "task",
        "trailers",
    )

    def __init__(self, owner: Owner, scope: Scope, headers: Fields, keep_alive: bool) -> None:
        """Takes whose it is, the ASGI scope, the header fields, and what the head says of the connection."""
        self._owner = owner
        self.scope = scope
        self.headers = headers
        self.keep_alive = keep_alive
        self.client: str | None = None
        self.task: asyncio.Task[None] | None = None
        self.more_body = True
        self.trailers: Lines = b""
        self.caller = ""
        """Whom the request is counted for. Empty: nobody, it is the connection that is counted."""
        self.is_started = False
        """Whether the answer has begun."""
        self.is_complete = False
        """Whether the answer has been written."""
        self.is_gone = False
        """Whether the client is."""
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._has_continued = False
        self._is_chunked = False
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Callable[[], None] | None = None

    # ---- the owner's side ----

    def feed(self, piece: bytes) -> None:
        """Keeps a piece of the body until it is taken."""
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > HELD_AT_MOST:
            self._owner.pause_reading()
        if self._waiter is not None:
            self._wake()

    def end_body(self) -> None:
        """Hears that the body is complete."""
        self.more_body = False
        if self._waiter is not None:
            self._wake()

    def lose(self) -> None:
        """Hears that the client is gone, while its request was being answered."""
        self.is_gone = True
        self._wake()
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- the exchange's side ----

    def take(self) -> bytes:
        """What has arrived of the body since it was asked for last."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        self._held_bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def receive(self) -> bytes | None:
        """Waits for more of the body, which may be nothing but its end; None: the client is gone."""
        if self.more_body and not (self.is_gone or self.is_started or self._has_continued):
            self._has_continued = True
            if self.headers.get(b"expect", b"").lower() == b"100-continue":
                self._owner.transport.write(CONTINUE)
        while not self._pieces and self.more_body and not self.is_gone:
            self._owner.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return None if self.is_gone else self.take()

    def watch(self, lost: Callable[[], None] | None) -> None:
        """Sets what to call, once, when the client is gone (at once, if it is); None: nothing."""
        self._lost = lost
        if self.is_gone:
            self.lose()

    async def respond(self, status: int, lines: Lines, body: bytes) -> None:
        """Sends a whole answer in one piece; its length is among the lines."""
        owner = self._owner
        if owner.writable is not None:
            await owner.writable.wait()
        if not self.is_gone:
            self.is_started = True
            end = HEAD_END if self.keep_alive else CLOSE_AND_END
            owner.transport.write(b"".join((status_line(status), owner.default_lines(), lines, end, body)))
            self.is_complete = True  # not before: a write that fails ends the connection
            self._pieces.clear()
            owner.answered(self)

    async def start(self, status: int, lines: Lines) -> None:
        """Sends status and header lines of an answer in pieces."""
        owner = self._owner
        if owner.writable is not None:
            await owner.writable.wait()
        if not self.is_gone:
            if self.scope["http_version"] == "1.1":
                self._is_chunked = self.scope["method"] != "HEAD"
            owner.transport.write(self._head(status, lines))

    async def send(self, data: bytes, *, more: bool) -> None:
        """Sends a piece, after which there are `more` or not; waits while the client reads slowly."""
        owner = self._owner
        if owner.writable is not None:
            await owner.writable.wait()
        if self.is_gone:
            return
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            data = chunk if more else chunk + LAST_CHUNK % self.trailers
        if data:
            owner.transport.write(data)
        if not more:
            self._complete()

    def _head(self, status: int, lines: Lines) -> bytes:
        self.is_started = True
        chunked = CHUNKED if self._is_chunked else b""
        close = b"" if self.keep_alive else CLOSE
        return answer_head(status, self._owner.default_lines(), lines, chunked, close)

    def _complete(self) -> None:
        self.is_complete = True
        self._pieces.clear()
        self._owner.answered(self)
