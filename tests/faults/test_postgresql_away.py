"""PostgreSQL stops, is cut off, or swallows what is sent: calls of keys that are known go on, and each is charged once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import SecretStr
from sqlalchemy import select

from gateway_core.config import Config
from gateway_core.storage.database import Database
from gateway_core.storage.errors import TOLD
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.location import location
from gateway_core.storage.store import Store
from gateway_core.storage.tables.metering import balances, ledger_requests
from tests.faults.test_storage_away import ANSWER, HI, UNKNOWN, assert_unavailable, headers, openai_message
from tests.headgate_cli.program import ended, serving
from tests.support import postgres
from tests.support.gateway import Gateway, running
from tests.support.kept import ROOT, SECRET_KEY
from tests.support.postgres import PostgresServer
from tests.support.relay import Relay
from tests.support.upstream import Answer, Received, Upstream, json_answer, reached

COST = 5 * 10**6
"""Picodollars: three tokens in for a dollar per million, and one out for two."""
CALLERS = 6
PLAN = {"windows": [{"window_seconds": 3600, "requests": 100}]}


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One of its own, which can be stopped."""
    programs = next(postgres.installations(), None)
    if programs is None:
        pytest.skip("no PostgreSQL server can be had")
    with postgres.running(programs) as started:
        yield started


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as vendor:
        vendor.script(answered)
        yield vendor


def answered(_: Received) -> Answer:
    return json_answer(ANSWER)


def configuration(upstream: Upstream, **settings: Any) -> dict[str, Any]:
    price = {"input_per_million": "1", "output_per_million": "2"}
    return {
        "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}], "price": price}},
        "plans": {"hourly": PLAN},
        **settings,
    }


@dataclass
class World:
    """A gateway on PostgreSQL, and who asks it."""

    gateway: Gateway
    http: httpx.AsyncClient
    statuses: Counter[int] = field(default_factory=Counter)

    async def chat(self, key: str) -> httpx.Response:
        response = await self.http.post("/v1/chat/completions", json=HI, headers=headers(key))
        self.statuses[response.status_code] += 1
        return response

    async def account(self, amount_usd: str, **more: Any) -> tuple[str, str]:
        """The id and the key of an account that has credit."""
        return await account(self.http, amount_usd, **more)

    @property
    def is_away(self) -> bool:
        store = self.gateway.core._store
        assert store is not None
        return store.database.changes.outage.is_on

    async def call_on_and_on(self, key: str, until: asyncio.Event) -> None:
        while not until.is_set():
            response = await self.chat(key)
            assert response.status_code == 200, response.text


async def account(http: httpx.AsyncClient, amount_usd: str, **more: Any) -> tuple[str, str]:
    made = await http.post("/api/v1/accounts", json={"name": "a", **more}, headers=headers(ROOT))
    told = made.raise_for_status().json()["data"]
    id_ = told["account"]["id"]
    credit = {"account_id": id_, "amount_usd": amount_usd, "reference": "1"}
    (await http.post("/api/v1/balance/credits", json=credit, headers=headers(ROOT))).raise_for_status()
    return id_, told["secret"]


@asynccontextmanager
async def world(url: str, directory: Path, upstream: Upstream, **settings: Any) -> AsyncIterator[World]:
    store = Store.at(SecretStr(url), directory, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    config = Config.model_validate(configuration(upstream, **settings))
    async with (
        running(config, store=store, root_key=ROOT) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False, timeout=60) as http,
    ):
        yield World(gateway, http)


async def assert_charged(url: str, directory: Path, account_id: str, count: int, credit_usd: int) -> None:
    """So many calls are in the ledger, each once, and the balance has moved by what they cost."""
    async with Database(location(SecretStr(url), directory)) as database, database.reading() as connection:
        proved = await proof(connection)
        assert (proved.faults, proved.open_count) == ((), 0)
        of_account = ledger_requests.c.account_id == account_id
        found = list(await connection.execute(select(ledger_requests).where(of_account)))
        settled = await connection.scalar(
            select(balances.c.settled_pico_usd).where(balances.c.account_id == account_id)
        )
    assert Counter(row.status for row in found) == {"ok": count}
    assert len({row.request_id for row in found}) == count
    assert {row.charged_pico_usd for row in found} == {COST}
    assert settled == credit_usd * 10**12 - count * COST


async def test_postgresql_is_stopped_and_started_in_the_middle_of_load(
    server: PostgresServer, upstream: Upstream, tmp_path: Path
) -> None:
    url = await server.new_database()
    over = asyncio.Event()
    async with world(url, tmp_path, upstream) as opened:
        id_, key = await opened.account("10")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(opened.call_on_and_on(key, over))
            for _ in range(2):
                await reached(lambda before=opened.statuses[200]: opened.statuses[200] > before + 20)  # type: ignore[misc]
                await asyncio.to_thread(server.stop)
                await reached(lambda: opened.is_away)
                assert_unavailable(await opened.chat(UNKNOWN), openai_message)
                await reached(lambda before=opened.statuses[200]: opened.statuses[200] > before + 100)  # type: ignore[misc]
                await asyncio.to_thread(server.start)
                await reached(lambda: not opened.is_away, within=30)
            over.set()
        count = opened.statuses.pop(200)
        assert opened.statuses == {503: 2}
        assert (await opened.chat(UNKNOWN)).status_code == 401
        ledger = opened.gateway.core._ledger
        assert ledger is not None
        ledger._writer.retry()
        await reached(lambda: not ledger._writer._closed)  # type: ignore[attr-defined]
        told = await opened.http.get("/api/v1/balance", headers=headers(key))
        assert told.status_code == 200, told.text
    await assert_charged(url, tmp_path, id_, count, 10)


async def test_a_network_that_swallows_everything_holds_no_call_of_a_known_key(
    server: PostgresServer, upstream: Upstream, tmp_path: Path
) -> None:
    url = await server.new_database()
    async with Relay(server.port) as link:
        linked = url.replace(f":{server.port}/", f":{link.port}/")
        async with world(linked, tmp_path, upstream) as opened:
            id_, key = await opened.account("10")
            assert (await opened.chat(key)).status_code == 200
            link.open.clear()
            async with asyncio.timeout(60):
                while not opened.is_away:
                    assert (await opened.chat(key)).status_code == 200
                async with asyncio.timeout(10):
                    for _ in range(20):
                        assert (await opened.chat(key)).status_code == 200
                assert_unavailable(await opened.chat(UNKNOWN), openai_message)
            link.open.set()
            await reached(lambda: not opened.is_away, within=30)
            count = opened.statuses[200]
        await assert_charged(url, tmp_path, id_, count, 10)


async def test_what_is_remembered_is_believed_no_longer_than_configured(
    server: PostgresServer, upstream: Upstream, tmp_path: Path
) -> None:
    url = await server.new_database()
    async with world(url, tmp_path, upstream, storage_outage_seconds=1.0) as opened:
        id_, key = await opened.account("10")
        assert (await opened.chat(key)).status_code == 200
        await asyncio.to_thread(server.stop)
        async with asyncio.timeout(20):
            while (response := await opened.chat(key)).status_code == 200:
                pass
        assert response.json()["error"]["message"] == TOLD
        await asyncio.to_thread(server.start)
        await reached(lambda: not opened.is_away, within=30)
        assert (await opened.chat(key)).status_code == 200
        count = opened.statuses[200]
    await assert_charged(url, tmp_path, id_, count, 10)


async def test_processes_share_what_is_left_and_go_on_with_their_part_of_limits(
    server: PostgresServer, upstream: Upstream, tmp_path: Path
) -> None:
    url = await server.new_database()
    async with world(url, tmp_path, upstream) as first, world(url, tmp_path, upstream) as second:
        # A call may cost 0.002007 dollars, as estimated: what is left is enough for one, and a part of it is not.
        _, poor = await first.account("0.0030")
        _, limited = await first.account("1", plan="hourly")
        for opened in (first, second):
            for key in (poor, limited):
                assert (await opened.chat(key)).status_code == 200
            assert opened.gateway.core._ledger is not None
            await opened.gateway.core._ledger.beat()  # how many processes there are
        await asyncio.to_thread(server.stop)
        await reached(lambda: first.is_away and second.is_away)
        for opened in (first, second):
            assert (await opened.chat(poor)).status_code == 402
        answers = Counter([(await first.chat(limited)).status_code for _ in range(120)])
        assert 0 < answers[200] <= 50
        assert set(answers) == {200, 429}
        await asyncio.to_thread(server.start)
        await reached(lambda: not (first.is_away or second.is_away), within=30)
        more = Counter([(await opened.chat(limited)).status_code for _ in range(60) for opened in (first, second)])
        assert set(more) == {200, 429}
        # Whatever was used alone counts afterwards, for all; but for a lease of each.
        assert 90 <= answers[200] + more[200] + 2 <= 110
        async with asyncio.timeout(20):
            while (await first.chat(poor)).status_code != 200:
                pass


async def test_a_process_killed_while_postgresql_is_away_loses_and_doubles_nothing(
    server: PostgresServer, upstream: Upstream, tmp_path: Path
) -> None:
    url = await server.new_database()
    config = tmp_path / "headgate.yaml"
    settings = {"database_url": url, "listen": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"}}
    config.write_text(yaml.safe_dump(configuration(upstream, **settings)))
    variables = {"HEADGATE_ROOT_KEY": ROOT, "HEADGATE_SECRET_KEY": SECRET_KEY}
    count = 0

    async def call(http: httpx.AsyncClient, key: str, times: int) -> int:
        for _ in range(times):
            response = await http.post("/v1/chat/completions", json=HI, headers=headers(key))
            assert response.status_code == 200, response.text
        return times

    async with serving("--config", str(config), home=tmp_path, variables=variables) as program:
        async with httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=60) as http:
            id_, key = await account(http, "10")
            count += await call(http, key, 10)
            await asyncio.to_thread(server.stop)
            count += await call(http, key, 50)
            program.process.kill()
        await program.process.wait()
    began = time.monotonic()
    started = await ended("serve", "--config", str(config), home=tmp_path, variables=variables)
    assert started.code != 0
    assert "cannot connect" in started.err
    assert time.monotonic() - began < 20
    await asyncio.to_thread(server.start)
    async with serving("--config", str(config), home=tmp_path, variables=variables) as program:
        async with httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=60) as http:
            count += await call(http, key, 5)
        program.terminate()
        assert await program.code() == 0
    await assert_charged(url, tmp_path / "data", id_, count, 10)
    (directory,) = (tmp_path / "data").glob("calls-*")
    assert list(directory.iterdir()) == []
