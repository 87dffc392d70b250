"""What a part of the core that shares something by Redis knows of the server: whether it answers, told now and then."""

import time

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway_core.redis_store.server import RedisServer

log = structlog.get_logger("headgate.redis")

FAILURES = (RedisError, OSError)
"""The client wraps what it meets while it connects and reads, and not all that it meets while it disconnects."""
CONNECT_SECONDS = 1.0
READ_SECONDS = 1.0
TOLD_SECONDS = 60.0
"""So long nothing more is logged of a server that comes and goes."""


class Away(Exception):
    """The server does not answer, or refuses."""


class Link:
    """A client of the server, and how it does. Belongs to one event loop."""

    def __init__(self, url: SecretStr, of: str, read_seconds: float = READ_SECONDS) -> None:
        """Takes where the server is, what is shared by it, in a word, and how long an answer may take."""
        self.server = RedisServer.at(url)
        self.client: Redis = self.server.client(CONNECT_SECONDS, read_seconds)
        self.is_up = True
        """Whether it answers, as far as is known."""
        self._of = of
        self._told_at = -TOLD_SECONDS
        self._is_told = False

    async def lose(self, error: Exception) -> None:
        """Hears that a command has failed; connections that nobody uses are given up."""
        self.is_up = False
        now = time.monotonic()
        if not self._is_told and now - self._told_at >= TOLD_SECONDS:
            self._is_told, self._told_at = True, now
            log.warning("redis_away", of=self._of, message=self.server.told(error))
        # A name may stand for another server by now: the one that has become the primary.
        await self.client.connection_pool.disconnect(inuse_connections=False)

    def found(self) -> None:
        """Hears that a command was answered."""
        if self.is_up:
            return
        self.is_up = True
        if self._is_told:
            self._is_told = False
            log.warning("redis_back", of=self._of, message=f"{self.server} answers")

    async def close(self) -> None:
        """Disconnects."""
        await self.client.aclose()
