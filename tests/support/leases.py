"""Processes that share limits: one test body over SQLite, a real PostgreSQL, a real Redis and a real Valkey.

A module that imports the fixtures `processes`, `redis_server` and `postgres_server` has them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from gateway_core.metering.lease import SharedLimits
from gateway_core.redis_store.lease import RedisLeases, Timing
from gateway_core.storage.database import Database
from gateway_core.storage.lease_store import LeaseStore
from gateway_core.storage.location import location
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.redis import Kind, running

__all__ = ["postgres_server"]

QUICK = Timing(connect=0.2, read=0.2, appear=0.05, again=0.02, settle=0.4)


@dataclass
class Processes:
    """Makes processes, as far as limits are concerned: each has a connection and a name of its own."""

    database_url: str
    redis_url: str | None
    directory: Path
    timing: Timing
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self, now_us: Callable[[], int]) -> SharedLimits:
        place = location(SecretStr(self.database_url), self.directory)
        database = await self.stack.enter_async_context(Database(place))
        leases: LeaseStore | None = None
        if self.redis_url is not None:
            leases = RedisLeases(SecretStr(self.redis_url), database.process_id, self.timing, now_us)
        limits = SharedLimits(database, now_us, leases)
        await limits.open()
        self.stack.push_async_callback(limits.close)
        return limits


@pytest.fixture(params=["sqlite", "postgresql", "redis", "valkey"])
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Processes]:
    """On a fresh store of each kind."""
    kind: Kind | Literal["sqlite", "postgresql"] = request.param
    async with AsyncExitStack() as stack:
        url, redis_url = f"sqlite:///{tmp_path}/headgate.db", None
        if kind == "redis" or kind == "valkey":
            redis_url = stack.enter_context(running(kind)).url
        elif kind == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = await server.new_database()
        yield Processes(url, redis_url, tmp_path, QUICK, stack)
