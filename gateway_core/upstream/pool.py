"""Connections to one provider: the last used serves first, and who waits for one is served in turn."""

import asyncio
from collections.abc import Callable
from contextvars import Context

from gateway_core import errors
from gateway_core.upstream import faults
from gateway_core.upstream.connection import WHOLE_READ_BYTES, Connection
from gateway_core.upstream.dial import Dial
from gateway_core.upstream.exchange import Exchange

# Shorter than the idle limit of the usual load balancers (60 s), so that it is mostly we who close.
KEEP_ALIVE_SECONDS = 50

# A host that closes an idle connection has done so before the request reaches it, so it shows within a round trip. One
# that closes later may have worked on the request.
STALE_SECONDS = 1

Waiter = asyncio.Future[Connection]


class Pool:
    """Belongs to the loop in which it is first used."""

    def __init__(self, provider: str, dial: Dial, max_connections: int) -> None:
        """Opens nothing yet."""
        self.room = memoryview(bytearray(WHOLE_READ_BYTES))
        self._provider = provider
        self._dial = dial
        self._free = max_connections
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the last used is the last
        self._dials: dict[Waiter, asyncio.Task[Connection]] = {}
        self._waiters: dict[Waiter, bool] = {}
        """Who waits for a place, first come first, and whether a used connection will do."""
        self._reaper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._emptied: asyncio.Future[None] | None = None

    def idle(self) -> Connection | None:
        """A connection that stands and is free, if there is one."""
        return self._idle.popitem()[0] if self._idle else None

    async def connect(
        self, until: float, late: Callable[[], errors.GatewayError], *, may_be_used: bool = True
    ) -> Connection:
        """A new connection, or a used one that becomes free before there is a place for a new one.

        Until a time of the loop's clock; then raises what `late` returns. Raises ProviderUnreachable and ShuttingDown.
        """
        if self._is_closed:
            raise errors.ShuttingDown("The server is shutting down.")
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        timer = loop.call_at(until, _expire, waiter, late)
        if self._free > 0:
            self._begin(waiter)
        else:
            self._waiters[waiter] = may_be_used
        try:
            return await waiter
        except BaseException:
            self._waiters.pop(waiter, None)
            if (dial := self._dials.get(waiter)) is not None:
                dial.cancel()
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())  # the caller left just when it came
            raise
        finally:
            timer.cancel()

    def release(self, connection: Connection) -> None:
        """Keeps a connection for the next, unless one waits for it."""
        if connection.is_lost or connection.early:
            connection.abort()
            return
        while self._waiters:
            waiter = next(iter(self._waiters))
            if not self._waiters[waiter]:
                connection.abort()  # its place is for a new one
                return
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_result(connection)
                return
        if not connection.has_served:
            connection.abort()  # who wanted it has left
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[connection] = None
        if self._reaper is None:
            self._reaper = loop.call_at(connection.idle_since + KEEP_ALIVE_SECONDS, self._reap)

    def lose(self, connection: Connection) -> None:
        """Forgets a connection that has ended."""
        self._idle.pop(connection, None)
        if connection in self._open:
            self._open.remove(connection)
            self._vacate()

    def was_stale(self, connection: Connection, exchange: Exchange) -> bool:
        """Whether a request failed because the host had closed an idle connection, so that nothing was asked of it."""
        is_soon = asyncio.get_running_loop().time() - connection.sent_at <= STALE_SECONDS
        return connection.has_served and exchange.is_unanswered and is_soon

    async def close(self) -> None:
        """Closes every connection, and ends what is being opened."""
        self._is_closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        for waiter in [*self._waiters, *self._dials]:
            if not waiter.done():
                waiter.set_exception(errors.ShuttingDown("The server is shutting down."))
        self._waiters.clear()
        dials = list(self._dials.values())
        for dial in dials:
            dial.cancel()
        self._dial.close()
        for connection in list(self._open):
            connection.abort()
        if dials:
            await asyncio.wait(dials)
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    def _begin(self, waiter: Waiter) -> None:
        self._free -= 1
        # A connection outlives the call that wants it first: nothing of that call's context stays with it.
        dial = asyncio.create_task(self._dialled(), context=Context())
        self._dials[waiter] = dial
        dial.add_done_callback(lambda done: self._hand_over(waiter, done))

    async def _dialled(self) -> Connection:
        connection = Connection(self, asyncio.get_running_loop())
        try:
            await self._dial.connect(connection)
        except faults.DIAL_ERRORS as error:
            raise faults.unreachable(self._provider, error) from None
        return connection

    def _hand_over(self, waiter: Waiter, dial: "asyncio.Task[Connection]") -> None:
        del self._dials[waiter]
        error = asyncio.CancelledError() if dial.cancelled() else dial.exception()
        if error is not None:
            if not waiter.done():
                waiter.set_exception(error)
            self._vacate()
            return
        connection = dial.result()
        self._open.add(connection)
        if connection.is_lost:
            self.lose(connection)
        if self._is_closed:
            connection.abort()
        if waiter.done():
            self.release(connection)
        else:
            waiter.set_result(connection)

    def _vacate(self) -> None:
        self._free += 1
        while self._waiters and self._free > 0 and not self._is_closed:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                self._begin(waiter)

    def _reap(self) -> None:
        self._reaper = None
        loop = asyncio.get_running_loop()
        oldest_kept = loop.time() - KEEP_ALIVE_SECONDS
        for connection in list(self._idle):
            if connection.idle_since > oldest_kept:
                self._reaper = loop.call_at(connection.idle_since + KEEP_ALIVE_SECONDS, self._reap)
                return
            connection.abort()


def _expire(waiter: Waiter, late: Callable[[], errors.GatewayError]) -> None:
    if not waiter.done():
        waiter.set_exception(late())
