"""One test body over SQLite and a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.storage.database import Database
from gateway_core.storage.location import Location, location
from tests.gateway_core.storage.program import Program
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/headgate.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return await server.new_database()


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Location:
    return location(SecretStr(database_url), tmp_path)


@pytest.fixture
async def database(place: Location) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        yield opened


@pytest.fixture
def program(database_url: str, tmp_path: Path) -> Iterator[Program]:
    """Starts processes of their own on the database."""
    with Program(database_url, tmp_path) as started:
        yield started
