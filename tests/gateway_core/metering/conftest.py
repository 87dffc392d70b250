"""The ledger over SQLite and a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from gateway_core.metering.ledger import Ledger
from gateway_core.storage.database import Database
from tests.gateway_core.storage.conftest import database, database_url, place, postgres_server

__all__ = ["database", "database_url", "place", "postgres_server"]


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    kept = Ledger(database)
    await kept.start()
    yield kept
    await kept.close()
