"""uvicorn's HTTP/1.1 protocol with limits: on heads, on time, on what one client may hold, on a body nobody reads."""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
import orjson
from grpc import StatusCode
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from rest_bridge.config import BridgeConfig
from rest_bridge.errors import Failure, log_refusal
from rest_bridge.exchange import CONNECTION, Message, Receive, Scope, Send

# No protocol is upgraded to here. The parser takes a request that offers it (Java's HTTP client offers h2c with every
# one) for the last HTTP/1.1 on the connection and loses its body; so the field gets a name that means nothing.
UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
NO_UPGRADE = b"\r\nx-ignored-upgrade:"
HEAD_END = b"\r\n\r\n"

# Linux and macOS have it.
NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

SENTENCES = {
    400: "The request is not valid HTTP/1.1.",
    408: "The request's head did not arrive in time.",
    414: "The request's target is too long.",
    429: "There are too many connections from this address, or too many requests on one of them.",
    431: "The request's head is too large.",
}


def limited_protocol(limits: BridgeConfig) -> type["LimitedHttpProtocol"]:
    """The protocol class for `uvicorn.Config(http=…)`; its connections are counted together."""
    return type("LimitedHttpProtocol", (LimitedHttpProtocol,), {"limits": limits, "clients": Counter()})


class Presence:
    """Whether the client of one request is there: the Connection that an Exchange watches."""

    __slots__ = ("_is_lost", "_lost")

    def __init__(self) -> None:
        """Starts with a client that is there, and nobody who watches."""
        self._lost: Callable[[], None] | None = None
        self._is_lost = False

    def watch(self, lost: Callable[[], None] | None) -> None:
        """Sets what to call, once, when the client is gone (at once, if it is); None: nothing."""
        self._lost = lost
        if self._is_lost:
            self.lose()

    def lose(self) -> None:
        """Tells that the client is gone."""
        self._is_lost = True
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Made by `limited_protocol`."""

    limits: ClassVar[BridgeConfig]
    clients: ClassVar[Counter[str]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Takes what uvicorn's protocols take."""
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self._running: RequestResponseCycle | None = None
        self._presence = Presence()
        self._address = ""
        self._in_head = True
        self._timer: asyncio.TimerHandle | None = None
        """Runs while a head is awaited that has begun (or a first one), and while an unread body is."""
        self._progress = False
        self._quiet_bytes = 0
        """Bytes since the parser last had something to tell: an unfinished head, or trailers."""
        self._head_bytes_at_most = 0
        self._queued_bytes = 0
        self._is_deaf = False
        """Whether what comes is thrown away until the client closes."""
        self._discarded_bytes = 0

    # ---- the connection ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts it, and awaits a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self.limits.write_buffer_bytes)
        hold_little(transport, self.limits.write_buffer_bytes)
        if self.client is not None:
            self._address = self.client[0]
            self.clients[self._address] += 1
            open_here = self.clients[self._address]
            if open_here > self.limits.connections_per_client:
                if open_here == self.limits.connections_per_client + 1:
                    self._log(429)
                self._is_deaf = True
                transport.write(answer(429))
                transport.close()
                return
        self._await_in_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything that the connection holds, the work on its request first."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_timer()
        self.pipeline.clear()
        if self._address:
            self.clients[self._address] -= 1
            if not self.clients[self._address]:
                del self.clients[self._address]
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Parses, within the limits."""
        if self._is_deaf or self.transport.is_closing():
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        if self._in_head and (b"pgrade" in data or b"PGRADE" in data):
            head, end, rest = data.partition(HEAD_END)
            data = UPGRADE.sub(NO_UPGRADE, head) + end + rest
        self._progress = False
        self._head_bytes_at_most = self._quiet_bytes + len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An upgrade that was offered in pieces, or a CONNECT: where the body would begin is not known.
            self._is_deaf = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            match error.__context__:  # what a callback raised
                case HeadTooLarge():
                    self._refuse(self._head_status())
                case TooManyRequests():
                    self._refuse(429)
                case _:
                    self._refuse(400)
        else:
            self._measure(len(data))
            cycle = self.cycle
            if cycle is not None and cycle.more_body and cycle.transport is self.transport:
                cycle.transport = LingeringTransport(self, cycle)  # type: ignore[assignment]

    def _measure(self, size: int) -> None:
        """Bounds what the parser holds without telling, and what waits behind the running request."""
        if self._progress:
            self._quiet_bytes = 0
        else:
            self._quiet_bytes += size
            if self._quiet_bytes > self.limits.header_bytes:
                self._refuse(self._head_status() if self._in_head else 400)
            elif self._in_head and self._timer is None:
                self._await_in_time()
        if self.pipeline:
            self._queued_bytes += size
            if self._queued_bytes > HIGH_WATER_LIMIT:
                self.flow.pause_reading()

    # ---- the parser's callbacks ----

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a field; those of trailers are dropped."""
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Starts a request, or queues it behind the running one."""
        self._progress = True
        self._in_head = False
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self._head_bytes_at_most > self.limits.header_bytes:
            size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
            if size > self.limits.header_bytes:
                raise HeadTooLarge
        super().on_headers_complete()
        if self.pipeline:
            if len(self.pipeline) > self.limits.pipelined_requests:
                raise TooManyRequests
            # uvicorn stops reading here, which would hide that the client leaves.
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Hands on a piece; throws it away where the request is answered already."""
        self._progress = True
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request; the connection is free for another one where it is answered already."""
        self._progress = True
        self._in_head = True
        if self.cycle.response_complete:
            self._stop_timer()
            self._discarded_bytes = 0
            self.cycle.more_body = False
            self._keep_alive()
        super().on_message_complete()

    # ---- requests and answers ----

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._presence = Presence()
        cycle.scope["extensions"] = {CONNECTION: self._presence}  # type: ignore[dict-item]
        super()._start_asgi_task(cycle, UntilCancelled(app, cycle))  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        """Goes on with the next request; awaits the rest of a body that nobody reads, for a while."""
        self._queued_bytes = 0
        if self._is_deaf:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._running is self.cycle and self.cycle.more_body and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._await_in_time()

    def linger(self) -> None:
        """Closes once the client has: closing before could make its kernel drop the answer unread (RFC 9112, 9.6)."""
        self._is_deaf = True
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._await_in_time()

    def _refuse(self, status: int) -> None:
        """Answers for the app and closes. In the middle of another answer there is no place for it: it breaks off."""
        self._log(status)
        running = self._running
        if running is not None and not running.response_complete:
            if running.response_started or running is not self.cycle or not running.more_body:
                self.transport.abort()
                return
            self._leave()
        self.transport.write(answer(status))
        self.linger()

    def _leave(self) -> None:
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
            self._presence.lose()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        # A body is refused for being larger than the limit: one of up to twice its size is let pass, and its client can
        # read why.
        if self._discarded_bytes > 2 * self.limits.request_body_bytes:
            self.transport.abort()

    # ---- time ----

    def _await_in_time(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.limits.header_seconds, self._out_of_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_time(self) -> None:
        self._timer = None
        running = self._running
        if self._is_deaf:
            self.transport.abort()
        elif running is not None and not running.response_complete:
            self._await_in_time()
        elif self._in_head and self._quiet_bytes:
            self._refuse(408)
        else:
            self.transport.close()

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _head_status(self) -> int:
        """The status for a head that is too large."""
        return 414 if len(self.url) > self.limits.header_bytes // 2 else 431

    def _log(self, status: int) -> None:
        failure = Failure(StatusCode.INVALID_ARGUMENT, "", SENTENCES[status], own_http_status=status)
        log_refusal(failure, client=self._address)


class HeadTooLarge(Exception):
    """A head is larger than the limit."""


class TooManyRequests(Exception):
    """Too many requests wait on one connection."""


class LingeringTransport:
    """What a cycle writes to whose body may not have arrived when it is answered."""

    __slots__ = ("_cycle", "_protocol", "is_closing", "write")

    def __init__(self, protocol: LimitedHttpProtocol, cycle: RequestResponseCycle) -> None:
        """Takes whose connection it is, and whose answer."""
        self._protocol = protocol
        self._cycle = cycle
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Closes; lingers where the client may be sending."""
        if self._cycle.more_body:
            self._protocol.linger()
        else:
            self._protocol.transport.close()


class UntilCancelled:
    """An app whose cancellation, at the end of the server's grace, breaks its answer off without a traceback."""

    __slots__ = ("_app", "_cycle")

    def __init__(self, app: Callable[[Scope, Receive, Send], Any], cycle: RequestResponseCycle) -> None:
        """Takes the app, and what runs it."""
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app once."""
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # uvicorn, which is what awaits this, would log it as a fault and go no further with it either.
            self._cycle.disconnected = True
            self._cycle.transport.close()


def hold_little(transport: asyncio.Transport, size: int) -> None:
    """Has the system take no more than `size` bytes beyond what it can send at once.

    Left alone it takes megabytes for a client that does not read. A smaller buffer would bound the speed of one far
    away too; this only bounds what has not been sent (tcp(7), tcp_notsent_lowat).
    """
    connected = transport.get_extra_info("socket")
    if NOTSENT_LOWAT is not None and connected is not None and connected.family != socket.AF_UNIX:
        connected.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, size)


def answer(status: int) -> bytes:
    """A whole answer of the connection's own, the last on it."""
    error: Message = {"message": SENTENCES[status], "type": "invalid_request_error", "param": None, "code": None}
    body = orjson.dumps({"error": error})
    return b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (
        status,
        HTTPStatus(status).phrase.encode(),
        len(body),
        body,
    )
