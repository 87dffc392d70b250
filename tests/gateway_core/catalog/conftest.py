"""Gateways in a real database, SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.call import Caller
from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.gateway_book import GatewayBook
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.listing import Listing
from gateway_core.config_file import parse
from gateway_core.metering.plan import Plans
from gateway_core.services.askable import AskedBy
from gateway_core.services.gateway import rules
from gateway_core.storage.database import Database
from gateway_core.storage.location import location
from gateway_core.storage.secret_box import SecretBox
from gateway_core.storage.store import Store
from gateway_core.upstream.reach import Reach
from tests.gateway_core.storage.rows import account
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]

CONFIG = """
providers:
  lab: {kind: openai, base_url: http://lab.test/v1}
models:
  small:
    targets: [{provider: lab, model: tiny}]
    unsupported_parameters: [top_k, prefill]
    context_length: 4096
    max_output_tokens: 512
"""


@dataclass
class Desk:
    """A process that keeps gateways."""

    store: Store
    cache: GatewayCache
    book: GatewayBook


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/headgate.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return await server.new_database()


async def desk_at(database_url: str, tmp_path: Path) -> Desk:
    store = Store(Database(location(SecretStr(database_url), tmp_path)), SecretBox("k" * 32, "the test"))
    await store.open()
    cache = GatewayCache()
    await cache.start(store.database)
    config = parse(CONFIG, "headgate.yaml", {})
    catalog = Catalog(config, Listing({}, every_seconds=60))
    asked_by = AskedBy(Plans(config), lambda name: False)
    return Desk(store, cache, GatewayBook(store, cache, rules(catalog, Reach(), asked_by)))


async def close(desk: Desk) -> None:
    await desk.cache.close()
    await desk.store.close()


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    opened = await desk_at(database_url, tmp_path)
    yield opened
    await close(opened)


@pytest.fixture
async def other_desk(desk: Desk, database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """Another process on the same database."""
    opened = await desk_at(database_url, tmp_path)
    yield opened
    await close(opened)


async def some_caller(desk: Desk, name: str) -> Caller:
    async with desk.store.database.transaction() as connection:
        made = account(name=name)
        await connection.execute(made)
    return Caller(account_id=str(made.compile().params["id"]), key_id="", kind="private")


@pytest.fixture
async def caller(desk: Desk) -> Caller:
    return await some_caller(desk, "Acme")


@pytest.fixture
async def stranger(desk: Desk) -> Caller:
    return await some_caller(desk, "Other")
