"""Stores over SQLite and a real PostgreSQL, and the keyrings of two processes on one of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.identity.keyring import Keyring
from gateway_core.identity.root import root_established
from gateway_core.storage.store import Store
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
ENVIRON = {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"}


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/headgate.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return await server.new_database()


@asynccontextmanager
async def opened(url: str, directory: Path) -> AsyncIterator[Store]:
    """A store, as one process has it."""
    store = Store.at(SecretStr(url), directory, ENVIRON)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(database_url: str, tmp_path: Path) -> AsyncIterator[Store]:
    """A store whose root key is ROOT."""
    async with opened(database_url, tmp_path) as kept:
        await root_established(kept.database, ROOT)
        yield kept


@asynccontextmanager
async def keyring_of(store: Store, *, optional: bool = False) -> AsyncIterator[Keyring]:
    """The keyring of a process."""
    keyring = Keyring(store.database, optional=optional)
    keyring.open()
    try:
        yield keyring
    finally:
        await keyring.close()


@pytest.fixture
async def keyring(store: Store) -> AsyncIterator[Keyring]:
    """The keyring of this process."""
    async with keyring_of(store) as made:
        yield made
