"""Whether the database can be asked at all: while it cannot, what is remembered of it is believed for a while."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import now_us

TOLD_AGAIN_SECONDS = 60.0
"""After which it is told again what cannot be read or written because the database is away."""

log = structlog.get_logger("headgate.storage")

GIVEN_UP_SECONDS = 2.0
"""After which nobody waits for the database, until it is back: a network that swallows packets says nothing."""


class Outage:
    """Of one database, as one process sees it. Whoever hears changes tells when they are not heard, and when again."""

    def __init__(self, answers: Callable[[], Awaitable[bool]], missed: Callable[[], None]) -> None:
        """Takes what asks the database something, and what tells everybody that anything may have changed."""
        self.believed_seconds = 0.0
        """How long what is remembered counts while the database cannot be asked. 0: not at all."""
        self.since_us = 0
        """When it began, of the clock."""
        self._answers = answers
        self._missed = missed
        self.is_on = False
        """Whether the database cannot be asked, and is gone on without."""
        self._since: float | None = None
        self._is_doubted = False
        self._is_unheard = False
        self._told: dict[str, float] = {}
        """When what was told last, by its event."""
        self._running: set[asyncio.Timeout] = set()

    @property
    def is_up(self) -> bool:
        """Whether the database answers, as far as this process has heard. Any thread may ask."""
        return self._since is None and not self._is_unheard

    def tells(self, event: str) -> bool:
        """Whether a failure is to be told that comes again and again while the database is away: once a minute."""
        now = time.monotonic()
        last = self._told.get(event, self._since)
        if last is not None and now - last < TOLD_AGAIN_SECONDS:
            return False
        self._told[event] = now
        return True

    @property
    def began(self) -> float:
        """When it began, of the monotonic clock; now, where there is none."""
        return time.monotonic() if self._since is None else self._since

    async def doubt(self) -> None:
        """Changes are not heard, to be said again and again: they may be missed.

        Where nobody can be asked what is true now, what is remembered stands, for a while.
        """
        self._is_unheard = True
        await self.look()
        if self._since is not None:
            seconds = time.monotonic() - self._since
            if seconds >= GIVEN_UP_SECONDS:
                self._cut()
            if seconds < self.believed_seconds:
                return
            if not self._is_doubted:
                self._is_doubted = True
                log.error("database_away_too_long", believed_seconds=self.believed_seconds)
        self._missed()

    async def look(self) -> None:
        """Finds out whether the database can be asked, where it matters."""
        if not self.believed_seconds:
            return
        if await self._answers():
            self._end()
        elif self._since is None:
            self._since, self.since_us = time.monotonic(), now_us()
            self.is_on = True
            self._is_doubted = False
            log.warning("database_away", believed_seconds=self.believed_seconds)

    def end(self) -> None:
        """Changes are heard again."""
        self._is_unheard = False
        self._told.clear()
        self._end()
        self._missed()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """A block in which the database is asked; raises StorageUnavailable where it is given up.

        TimeoutError where that is within the block.
        """
        if self._since is not None and time.monotonic() - self._since >= GIVEN_UP_SECONDS:
            raise StorageUnavailable("The database is away.")
        async with asyncio.timeout(None) as limit:
            self._running.add(limit)
            try:
                yield
            finally:
                self._running.discard(limit)

    def _end(self) -> None:
        if self._since is not None:
            log.warning("database_back", after_seconds=round(time.monotonic() - self._since, 1))
            self._since = None
            self.is_on = False

    def _cut(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in tuple(self._running):
            if not limit.expired():
                limit.reschedule(now)
