"""HTTP/1.1 on one connection, with limits: on heads, on time, on what one client may hold, on a body nobody reads.

It takes the place of uvicorn's own protocol class, one of which uvicorn's server makes per connection. The app is
called as ASGI says, but answers through the Connection in its scope: no message is made, sent and taken apart.
"""

import asyncio
import socket
from collections import Counter
from typing import Any, ClassVar, NoReturn

import structlog
from grpc import StatusCode
from uvicorn.config import Config
from uvicorn.server import ServerState

from rest_bridge.caller import forwarded_caller
from rest_bridge.certificate import CERTIFICATE, certificate_name
from rest_bridge.config import BridgeConfig
from rest_bridge.connection import CONNECTION, Fields, Scope
from rest_bridge.cycle import HELD_AT_MOST, Cycle
from rest_bridge.deadline import Deadline
from rest_bridge.errors import Failure, log_refusal
from rest_bridge.head import SENTENCES, header_lines, own_answer
from rest_bridge.request_reader import RequestReader, Unfit

log = structlog.get_logger("headgate.bridge")

GOODBYE_SECONDS = 1.0
"""How long a client may take to say goodbye (close_notify, RFC 8446, 6.1) once all is sent."""

# Linux and macOS have it.
NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


def limited_protocol(limits: BridgeConfig) -> type["LimitedHttpProtocol"]:
    """The protocol class for `uvicorn.Config(http=…)`; its connections are counted together."""
    return type("LimitedHttpProtocol", (LimitedHttpProtocol,), {"limits": limits, "clients": Counter()})


def is_believed(peer: str, limits: BridgeConfig) -> bool:
    """Whether a peer may say whose requests it passes on."""
    return peer in limits.trusted_proxies or "*" in limits.trusted_proxies


class LimitedHttpProtocol(asyncio.Protocol):
    """One connection. Made by `limited_protocol`."""

    limits: ClassVar[BridgeConfig]
    clients: ClassVar[Counter[str]]
    """What each address holds: its connections, and requests that a proxy passes on for it."""
    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Takes what uvicorn's protocols take."""
        self.writable: asyncio.Event | None = None
        self._app = config.loaded_app.__call__  # bound once for all requests
        self._keep_alive_seconds: float = config.timeout_keep_alive
        self._state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._reader = RequestReader(self, self.limits.header_bytes)
        self._deadline = Deadline(self._loop, self._out_of_time)
        """Runs while a head is awaited (shorter once it has begun), and while an unread body is."""
        self._is_head_timed = False
        self._client: tuple[str, int] | None = None
        self._address = ""
        self._is_counted = False
        """Whether the connection is. Of a peer that may say whose requests it passes on, requests are."""
        self._certificate = ""
        self._is_secure = False
        self._defaults: list[tuple[bytes, bytes]] = []
        self._default_lines = b""
        self._arriving: Cycle | None = None
        """The request whose head came last."""
        self._running: Cycle | None = None
        """The request that was begun to be answered last."""
        self._waiting: list[Cycle] = []  # nearly always empty, and then a tenth of an empty deque
        """The requests behind it."""
        self._idle: asyncio.Future[Cycle | None] | None = None
        """What the task that has answered waits for: the next request, or None for the end of the connection."""
        self._task: asyncio.Task[None] | None = None
        """That task."""
        self._queued_bytes = 0
        self._discarded_bytes = 0
        self._is_paused = False
        self._is_deaf = False
        """Whether what comes is thrown away until the client closes."""
        self._is_ending = False
        """Whether the server is."""

    # ---- the connection ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts it, and awaits a head."""
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=self.limits.write_buffer_bytes)
        hold_little(transport, self.limits.write_buffer_bytes)
        self._is_secure = transport.get_extra_info("ssl_object") is not None
        shown = transport.get_extra_info("peercert")
        if shown:
            self._certificate = certificate_name(shown)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):  # that of a Unix socket is a string
            self._client = (str(peer[0]), int(peer[1]))
            self._address = self._client[0]
            self._is_counted = not is_believed(self._address, self.limits)
        if self._is_counted:
            self.clients[self._address] += 1
            open_here = self.clients[self._address]
            if open_here > self.limits.connections_per_client:
                if open_here == self.limits.connections_per_client + 1:
                    self._log(429)
                self._is_deaf = True
                transport.write(own_answer(429))
                self._close()
                return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything that the connection holds, the work on its request first."""
        self._state.connections.discard(self)
        self._deadline.close()
        self._reader.close()
        waiting, self._waiting = self._waiting, []
        if self._is_counted:
            self._uncount(self._address)
        for cycle in (self._running, *waiting):
            if cycle is not None:
                self._release(cycle)
        self._lose_running()
        self._running = self._arriving = None  # they hold the connection, and with it what was not read
        idle, self._idle, self._task = self._idle, None, None
        if idle is not None and not idle.done():
            idle.set_result(None)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Hears that the client reads slowly."""
        if self.writable is None:
            self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Hears that the client has read."""
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def pause_reading(self) -> None:
        """Reads no further."""
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads on."""
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def default_lines(self) -> bytes:
        """Header lines of every answer: the date, which uvicorn's server renews each second."""
        if self._state.default_headers is not self._defaults:
            self._defaults = self._state.default_headers
            self._default_lines = header_lines(self._defaults)
        return self._default_lines

    def shutdown(self) -> None:
        """Lets the server end: closes, at once or after the answers that are under way."""
        self._is_ending = True
        last = self._arriving
        if last is None or last.is_complete:
            self._close()
        else:
            last.keep_alive = False

    def retire(self, idle_seconds: float) -> None:
        """Lets the server end where another process goes on: the next answer that begins is the last on the connection.

        A request that is on its way while its connection is closed is lost. So none is closed without having said so,
        but those that have been idle: also one whose answer began before, and promised to go on, takes another request.
        """
        self._is_ending = True
        self._keep_alive_seconds = idle_seconds
        last = self._arriving
        if last is not None and not last.is_complete:
            last.keep_alive = last.keep_alive and last.is_started
        elif not self._reader.quiet_bytes:
            self._deadline.set(idle_seconds)

    # ---- what comes ----

    def data_received(self, data: bytes) -> None:
        """Reads requests, within the limits."""
        if self._is_deaf or self.transport.is_closing():
            self._discard(len(data))
            return
        try:
            may_go_on = self._reader.feed(data)
        except Unfit as error:
            self._refuse(error.status, error.caller)
            return
        if not may_go_on:
            self._is_deaf = True
            if self._arriving is not None:
                self._arriving.keep_alive = False
        if self._reader.quiet_bytes and self._reader.in_head and not self._is_head_timed:
            self._await_head()
        if self._waiting:
            self._queued_bytes += len(data)
            if self._queued_bytes > HELD_AT_MOST:
                self.pause_reading()

    def request_began(self, scope: Scope, headers: Fields, keep_alive: bool) -> None:
        """Answers a request, or queues it behind the running one."""
        self._deadline.clear()
        self._is_head_timed = False
        scope["client"] = self._client
        if self._certificate:
            scope[CERTIFICATE] = self._certificate
        cycle = Cycle(self, scope, headers, keep_alive and not self._is_ending)
        cycle.client = client = self._address
        if not self._is_counted:
            forwarded = headers.get(b"x-forwarded-for")
            if forwarded:
                cycle.client = client = forwarded_caller(client, forwarded, self.limits.trusted_proxies)
            if self._address:
                self._count(client)
                cycle.caller = client
        self._arriving = cycle
        if self._running is None or self._running.is_complete:
            self._start(cycle)
        else:
            self._waiting.append(cycle)
            if len(self._waiting) > self.limits.pipelined_requests:
                raise Unfit(429)

    def body_came(self, piece: bytes) -> None:
        """Hands on a piece; throws it away where the request is answered already."""
        cycle = self._arriving
        if cycle is None or cycle.is_complete:
            self._discard(len(piece))
        else:
            cycle.feed(piece)

    def request_ended(self) -> None:
        """Hears that a request is complete; the connection is free for another one where it is answered already."""
        cycle = self._arriving
        if cycle is not None:
            cycle.end_body()
            if cycle.is_complete:
                self._discarded_bytes = 0
                self._deadline.set(self._keep_alive_seconds)

    # ---- whose they are ----

    def _count(self, caller: str) -> None:
        """Counts a request for its caller, where the peer may be a proxy, whose connections are not counted.

        Else one caller of a proxy, whose callers all come from its address, could shut out the others. Raises Unfit
        where that one has too many under way.
        """
        held = self.clients.get(caller, 0)
        if held >= self.limits.connections_per_client:
            raise Unfit(429, caller)
        self.clients[caller] = held + 1

    def _release(self, cycle: Cycle) -> None:
        """Counts a request no longer."""
        caller, cycle.caller = cycle.caller, ""
        if caller:
            self._uncount(caller)

    def _uncount(self, address: str) -> None:
        left = self.clients[address] - 1
        if left:
            self.clients[address] = left
        else:
            self.clients.pop(address)

    # ---- requests and answers ----

    def _start(self, cycle: Cycle) -> None:
        """Has a request answered, by the task that answered the one before where that waits for it."""
        self._running = cycle
        idle, task = self._idle, self._task
        self._idle = self._task = None
        if idle is None or task is None or idle.done():
            task = self._loop.create_task(self._serve(cycle))
        else:
            idle.set_result(cycle)
        cycle.task = task
        self._state.tasks.add(task)

    async def _serve(self, cycle: Cycle | None) -> None:
        """Calls the app, for one request after the other; what it leaves unanswered is broken off.

        To wait for the next takes less than a task for each. Where something went wrong the next gets a new one.
        """
        while cycle is not None:
            scope = cycle.scope
            scope[CONNECTION] = cycle
            try:
                await self._app(scope, no_messages, no_messages)
            except asyncio.CancelledError:
                pass  # the end of the server's grace
            except Exception as error:
                self._fail(cycle, error)
            finally:
                del scope[CONNECTION]  # the two would hold each other
                task = self._end(cycle)
            is_last = self._running is not cycle or cycle.is_gone or task is None or task.cancelling() > 0
            del scope
            cycle.scope, cycle.headers = {}, {}
            cycle = None  # nothing of a request is kept while none is there
            if is_last:
                return
            self._task = task
            self._idle = idle = self._loop.create_future()
            try:
                cycle = await idle
            except asyncio.CancelledError:
                if not idle.cancelled():  # the server's grace ended in the moment in which the next request came
                    self._state.tasks.discard(task)
                    self._close()
                raise
            del idle  # it holds the request

    def _fail(self, cycle: Cycle, error: Exception) -> None:
        """Says what the app raised, to the log and, in the log's place, to the caller."""
        log.error("internal_error", exc_info=error, path=str(cycle.scope["path"])[:200], client=self._address)
        if not cycle.is_started and not cycle.is_gone:
            self.transport.write(own_answer(500))

    def _end(self, cycle: Cycle) -> asyncio.Task[None] | None:
        """Hears that the app has returned; tells which task called it."""
        task, cycle.task = cycle.task, None
        if task is not None:
            self._state.tasks.discard(task)
        if not cycle.is_complete and not cycle.is_gone:
            cycle.is_gone = True
            self._close()
        return task

    def answered(self, cycle: Cycle) -> None:
        """Goes on with the next request; awaits the rest of a body that nobody reads, for a while."""
        self._state.total_requests += 1
        if cycle.caller:
            self._release(cycle)
        self._queued_bytes = 0
        if not cycle.keep_alive:
            if cycle.more_body:
                self._linger()
            else:
                self._close()
            return
        if self._is_paused:
            self.resume_reading()
        if self._waiting:
            self._start(self._waiting.pop(0))
        elif cycle.more_body:
            self._deadline.set(self.limits.header_seconds)
        elif not self._is_head_timed:
            self._deadline.set(self._keep_alive_seconds)

    def _close(self) -> None:
        """Closes. TLS waits for the client's goodbye, half a minute long; one that does not look has a second."""
        self.transport.close()
        if self._is_secure:
            self._is_deaf = True
            self._deadline.set(GOODBYE_SECONDS)

    def _linger(self) -> None:
        """Closes once the client has: closing before could make its kernel drop the answer unread (RFC 9112, 9.6)."""
        self._is_deaf = True
        if self.transport.is_closing():
            return
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline.set(self.limits.header_seconds)

    def _refuse(self, status: int, caller: str) -> None:
        """Answers for the app and closes. In the middle of another answer there is no place for it: it breaks off."""
        self._log(status, caller)
        running = self._running
        if running is not None and not running.is_complete:
            if running.is_started or running is not self._arriving or not running.more_body:
                self.transport.abort()
                return
            self._lose_running()
        self.transport.write(own_answer(status))
        self._linger()

    def _lose_running(self) -> None:
        running = self._running
        if running is not None and not running.is_complete and not running.is_gone:
            running.lose()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        # A body is refused for being larger than the limit: one of up to twice its size is let pass, and its client can
        # read why.
        if self._discarded_bytes > 2 * self.limits.request_body_bytes:
            self.transport.abort()

    # ---- time ----

    def _await_head(self) -> None:
        self._is_head_timed = True
        self._deadline.set(self.limits.header_seconds)

    def _out_of_time(self) -> None:
        self._is_head_timed = False
        running = self._running
        if self._is_deaf:
            if self._is_secure and self.transport.is_closing() and self.transport.get_write_buffer_size():
                self._deadline.set(GOODBYE_SECONDS)  # bounded by the event loop, which is closing it
            else:
                self.transport.abort()
        elif running is not None and not running.is_complete:
            self._await_head()
        elif self._reader.in_head and self._reader.quiet_bytes:
            self._refuse(408, "")
        else:
            self._close()

    def _log(self, status: int, caller: str = "") -> None:
        failure = Failure(StatusCode.INVALID_ARGUMENT, "", SENTENCES[status], own_http_status=status)
        log_refusal(failure, client=caller or self._address)


async def no_messages(*message: object) -> NoReturn:
    """Stands for ASGI's `receive` and `send`, which this server's apps have no need of."""
    raise NotImplementedError("this server's apps answer through the Connection in their scope")


def hold_little(transport: asyncio.Transport, size: int) -> None:
    """Has the system take no more than `size` bytes beyond what it can send at once.

    Left alone it takes megabytes for a client that does not read. A smaller buffer would bound the speed of one far
    away too; this only bounds what has not been sent (tcp(7), tcp_notsent_lowat).
    """
    connected = transport.get_extra_info("socket")
    if NOTSENT_LOWAT is not None and connected is not None and connected.family != socket.AF_UNIX:
        connected.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, size)
