"""Leases in a Redis or Valkey server, and what is known while it does not answer.

A server that was restarted, or fell back to an older copy of its data, has forgotten leases. It is found out by each
process itself: it appears there once a second, and takes nothing where that was forgotten. Whoever finds the server
forgetful, or back after a silence, says first what it has, and takes nothing until all others have had the time to.

The client is never cancelled: it waits for its writes by `asyncio.wait_for`, which in Python 3.11 loses a cancellation
that comes as they end (https://github.com/python/cpython/issues/86296). Commands end by themselves, in seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway_core.redis_store.script import ALL, APPEAR, PROCESSES, SINCE, TAKE, window_key
from gateway_core.redis_store.server import CONNECTIONS, KEY, RedisServer, is_for_the_operator
from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.identifier import now_us as clock
from gateway_core.storage.lease import LeaseRequest
from gateway_core.storage.lease_store import Away, Claims, Lease, LeasesAway
from gateway_core.storage.steady import whole

log = structlog.get_logger("headgate.limits")

KEEP_MS = 60_000
"""For how long a window is kept beyond its end."""
COUNTS_MS = 15_000
FORGOTTEN_MS = 3_600_000
CLAIMS_AT_ONCE = 100
FAILURES = (RedisError, OSError)
"""The client wraps what it meets while it connects and reads, and not all that it meets while it disconnects."""
FORGETFUL = "has forgotten what processes had"


class Timing(NamedTuple):
    """Seconds."""

    connect: float = 1.0
    read: float = 1.0
    appear: float = 1.0
    """Between two signs of life of a process."""
    again: float = 0.25
    """Between two attempts while the server is away."""
    settle: float = 3.0
    """Longer than it takes any process to find out that the server was away, and to tell it what it has."""


class Appeared(NamedTuple):
    """What the server says to a process that appears."""

    was_forgotten: bool
    """Though it was there before."""
    age_seconds: float
    """For how long the server has forgotten nothing, as far as any process has found out."""


def nothing(_away: Away, _now_us: int) -> Sequence[LeaseRequest]:
    """Claims nothing."""
    return ()


class RedisLeases:
    """Leases in a server. Belongs to one event loop, between `open` and `close`."""

    def __init__(
        self, url: SecretStr, process_id: str, timing: Timing | None = None, now_us: Callable[[], int] = clock
    ) -> None:
        """Takes where the server is, and the process's name; raises CannotOpen where that is no such URL."""
        self.server = RedisServer.at(url)
        self.away: Away | None = None
        self._process_id = process_id
        self._timing = timing = timing or Timing()
        self._now_us = now_us
        self._redis = self.server.client(timing.connect, timing.read)
        self._take = self._redis.register_script(TAKE)
        self._appear = self._redis.register_script(APPEAR)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._told = ""
        self._processes: int | None = None
        self._settled_at = 0.0
        self._claims: Claims = nothing
        self._appearing: asyncio.Task[None] | None = None

    async def open(self, claims: Claims) -> None:
        """Connects; where the server cannot be reached, goes on without it until it can.

        Raises CannotOpen where it does not accept the password, or refuses what is needed.
        """
        self._claims = claims
        try:
            age = (await whole(self._appeared())).age_seconds
        except FAILURES as error:
            if is_for_the_operator(error):
                await self._redis.aclose()
                raise CannotOpen(self.server.told(error)) from None
            self._lose(self.server.told(error))
        else:
            # It may have been restarted just now, and others may still have to say what they have.
            await asyncio.sleep(max(0.0, self._timing.settle - age))
        self._appearing = asyncio.create_task(self._appear_often(), name="appearing at the store of leases")

    async def close(self) -> None:
        """Disappears, and disconnects."""
        if self._appearing is not None:
            self._appearing.cancel()
            await asyncio.wait({self._appearing})
        try:
            if self._told and self.away is None:
                await whole(self._redis.zrem(PROCESSES, self._process_id))
        except FAILURES as error:
            log.warning("limits_store_not_left", message=self.server.told(error))
        finally:
            await self._redis.aclose()

    async def take(self, request: LeaseRequest) -> Lease:
        """Takes a lease in one script; raises LeasesAway."""
        async with self._answering():
            got, of_all = await whole(self._script(request))
            if got < 0:
                raise LeasesAway(self._lose(f"{KEY}: {self.server} {FORGETFUL}"))
        return Lease(got, of_all)

    async def give_back(self, request: LeaseRequest, *, is_last: bool = False) -> None:
        """Says what is still had: the rest is of all again."""
        await self.take(replace(request, units=0))

    async def granted(self, scope: str, window_start_us: int) -> int:
        """Reads it; raises LeasesAway."""
        async with self._answering():
            return int(await whole(self._redis.hget(window_key(scope, window_start_us), ALL)) or 0)

    async def forget(self, before_us: int) -> None:
        """Nothing is to be done: what is over expires."""

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """While the server answers, at most so many commands at once."""
        async with self._places:
            if self.away is not None:
                raise LeasesAway(f"{self.server} does not answer")
            try:
                yield
            except FAILURES as error:
                raise LeasesAway(self._lose(self.server.told(error))) from None

    async def _script(self, request: LeaseRequest, client: Redis | None = None) -> Any:
        ttl_ms = max(0, request.expires_us - self._now_us()) // 1000 + KEEP_MS
        keys = [window_key(request.scope, request.window_start_us), PROCESSES]
        args: list[str | int] = [self._process_id, self._told, f"{request.holder}/{request.limit}"]
        args += [request.held, request.units, request.limit, ttl_ms]
        return await self._take(keys, args, client)

    def _lose(self, problem: str) -> str:
        """Goes on without the server; the problem is told once, until it is back."""
        if self.away is None:
            self.away = Away(self._now_us(), self._processes)
            log.warning("limits_store_away", message=problem, processes=self._processes)
        else:
            self.away = self.away._replace(is_settling=False)
        return problem

    async def _appear_often(self) -> None:
        while True:
            await asyncio.sleep(self._timing.appear if self.away is None else self._timing.again)
            try:
                await whole(self._look())
            except FAILURES as error:
                self._lose(self.server.told(error))
                # A name may stand for another server by now: the one that has become the primary.
                await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def _look(self) -> None:
        """Appears, and comes back step by step where the server was away."""
        appeared = await self._appeared()
        if appeared.was_forgotten:
            self._lose(f"{KEY}: {self.server} {FORGETFUL}")
        away, now = self.away, asyncio.get_running_loop().time()
        if away is None:
            return
        if not away.is_settling:
            # From here on nothing more is used than what is claimed.
            self.away = away._replace(is_settling=True)
            await self._claim(self._claims(away, self._now_us()))
            self._settled_at = now + self._timing.settle
        elif now >= self._settled_at:
            self.away = None
            log.warning("limits_store_back", message=f"{KEY}: {self.server} answers", processes=self._processes)

    async def _appeared(self) -> Appeared:
        args: list[str | int] = [self._process_id, self._told, COUNTS_MS, FORGOTTEN_MS]
        forgot, age_ms, self._processes, seen = await self._appear([PROCESSES, SINCE], args)
        self._told = str(seen)
        return Appeared(bool(forgot), age_ms / 1000)

    async def _claim(self, requests: Sequence[LeaseRequest]) -> None:
        for first in range(0, len(requests), CLAIMS_AT_ONCE):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for request in requests[first : first + CLAIMS_AT_ONCE]:
                    await self._script(request, pipeline)
                await pipeline.execute()
