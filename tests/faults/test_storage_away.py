"""A database that goes away is told as UNAVAILABLE, and as 503 with Retry-After, wherever it is missed."""

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio
from grpc_status import rpc_status
from headgate.v1.account_service_pb2 import ListAccountsRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.model_service_pb2 import ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub
from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.storage import sqlite
from gateway_core.storage.errors import RETRY_AFTER_SECONDS, TOLD, CannotOpen
from gateway_core.storage.store import Store
from tests.support import postgres
from tests.support.gateway import Gateway, running
from tests.support.kept import ROOT, SECRET_KEY, bearer
from tests.support.upstream import Upstream, Wait, answer, sse_answer

HI = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
ENDED = {"index": 0, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
HEAD = {"id": "c-1", "created": 1, "model": "tiny"}
ANSWER = {
    **HEAD,
    "object": "chat.completion",
    "choices": [{**ENDED, "message": {"role": "assistant", "content": "Hello"}}],
    "usage": USAGE,
}
CHUNK = {
    **HEAD,
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}],
}
ENDING = {**CHUNK, "choices": [{**ENDED, "delta": {}}]}
UNKNOWN = "sk-hg-unknown00000abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass
class World:
    """A gateway, what asks it, and what takes its database away."""

    gateway: Gateway
    http: httpx.AsyncClient
    take_away: Callable[[], None]

    async def chat(self, key: str = ROOT, **more: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={**HI, **more}, headers=headers(key))


def headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def world(
    url: str, directory: Path, upstream: Upstream, take_away: Callable[[], None], journal: str = "file"
) -> AsyncIterator[World]:
    store = Store.at(SecretStr(url), directory, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    config = {
        "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}]}},
        "ledger_journal": journal,
    }
    async with (
        running(Config.model_validate(config), store=store, root_key=ROOT) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False, timeout=60) as http,
    ):
        assert (await http.get("/v1/models", headers=headers(ROOT))).status_code == 200
        yield World(gateway, http, take_away)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as vendor:
        yield vendor


@pytest.fixture
async def stopped(upstream: Upstream, tmp_path: Path) -> AsyncIterator[World]:
    """On a PostgreSQL of its own, with the journal in it, which is stopped."""
    programs = next(postgres.installations(), None)
    if programs is None:
        pytest.skip("no PostgreSQL server can be had")
    with postgres.running(programs) as server:

        def stop() -> None:
            os.kill(server.pid, signal.SIGQUIT)  # at once

        async with world(await server.new_database(), tmp_path, upstream, stop, "database") as opened:
            yield opened


@pytest.fixture
async def locked(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """On a file of SQLite, its journal in it, which another program locks and does not unlock: it can be read."""
    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.2)
    path = tmp_path / "headgate.db"
    with locking(path) as lock:
        async with world(f"sqlite:///{path}", tmp_path, upstream, lock, "database") as opened:
            yield opened


@contextmanager
def locking(path: Path) -> Any:
    held: list[sqlite3.Connection] = []

    def lock() -> None:
        held.append(sqlite3.connect(path, isolation_level=None, timeout=10))
        held[0].execute("BEGIN IMMEDIATE")

    yield lock
    for connection in held:
        connection.close()


async def test_with_a_journal_beside_sqlite_calls_go_on_while_it_is_locked_and_are_charged_when_it_is_not(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.2)
    path = tmp_path / "headgate.db"
    body = json.dumps(ANSWER).encode()
    with locking(path) as lock:
        async with world(f"sqlite:///{path}", tmp_path, upstream, lock) as opened:
            opened.take_away()
            for _ in range(3):
                upstream.script(answer([body], headers={"content-type": "application/json"}))
                assert (await opened.chat()).status_code == 200
            upstream.script(sse_answer([CHUNK, ENDING]))
            assert "Hello" in (await opened.chat(stream=True)).text
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT status, COUNT(*) FROM ledger_requests GROUP BY 1").fetchall() == []
    async with world(f"sqlite:///{path}", tmp_path, upstream, lock) as opened:
        found = (await opened.http.get("/api/v1/usage/records", headers=headers(ROOT))).json()["data"]
        assert [record["status"] for record in found] == ["ok"] * 4


def assert_unavailable(response: httpx.Response, sentence: Any) -> None:
    assert (response.status_code, response.headers.get("retry-after")) == (503, "1"), response.text
    assert sentence(response.json()) == TOLD


def openai_message(document: dict[str, Any]) -> str:
    error = document["error"]
    assert (error["type"], error["code"]) == ("server_error", None)
    return str(error["message"])


def admin_message(document: dict[str, Any]) -> str:
    assert document["details"]["reason"] is None
    return str(document["error"])


async def assert_grpc_unavailable(call: Any) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), caught.value.details()) == (StatusCode.UNAVAILABLE, TOLD)
    status = rpc_status.from_call(caught.value)
    assert status is not None
    (retry,) = status.details
    assert retry.type_url.endswith("RetryInfo")


async def test_without_postgresql_every_part_that_needs_it_says_unavailable(stopped: World) -> None:
    stopped.take_away()

    assert_unavailable(await stopped.chat(), openai_message)
    assert_unavailable(await stopped.chat(stream=True), openai_message)
    assert_unavailable(await stopped.chat(UNKNOWN), openai_message)
    assert_unavailable(await stopped.http.get("/v1/models", headers=headers(UNKNOWN)), openai_message)
    for path in ("accounts", "keys", "gateways", "balance", "usage/records", "usage/summary?group_by=model"):
        response = await stopped.http.get(f"/api/v1/{path}", headers=headers(ROOT))
        assert_unavailable(response, admin_message)
    made = await stopped.http.post("/api/v1/gateways", json={"name": "a", "model": "small"}, headers=headers(ROOT))
    assert_unavailable(made, admin_message)
    ollama = await stopped.http.post("/api/chat", json={**HI, "stream": False}, headers=headers(ROOT))
    assert_unavailable(ollama, lambda document: document["error"])


async def test_without_postgresql_grpc_calls_end_with_unavailable_and_a_wait(stopped: World) -> None:
    stopped.take_away()

    async with aio.insecure_channel(stopped.gateway.grpc_address) as channel:
        await assert_grpc_unavailable(
            ModelServiceStub(channel).ListModels(ListModelsRequest(), metadata=bearer(UNKNOWN))
        )
        accounts = AccountServiceStub(channel)
        await assert_grpc_unavailable(accounts.ListAccounts(ListAccountsRequest(), metadata=bearer(ROOT)))


async def answered_without_database(opened: World, upstream: Upstream) -> httpx.Response:
    go_on = asyncio.Event()
    body = json.dumps(ANSWER).encode()
    upstream.script(answer([body[:1], Wait(go_on), body[1:]], headers={"content-type": "application/json"}))

    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(opened.chat())
        await upstream.received()
        opened.take_away()
        go_on.set()

    return asked.result()


async def test_an_answer_that_postgresql_cannot_settle_is_unavailable(stopped: World, upstream: Upstream) -> None:
    assert_unavailable(await answered_without_database(stopped, upstream), openai_message)


async def test_an_answer_that_sqlite_cannot_settle_is_unavailable(locked: World, upstream: Upstream) -> None:
    assert_unavailable(await answered_without_database(locked, upstream), openai_message)


async def test_a_stream_that_cannot_be_settled_ends_with_the_error(locked: World, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([CHUNK, Wait(go_on), ENDING]))

    async with locked.http.stream(
        "POST", "/v1/chat/completions", json={**HI, "stream": True}, headers=headers(ROOT)
    ) as answered:
        lines = answered.aiter_lines()
        assert "Hello" in await anext(lines)
        locked.take_away()
        go_on.set()
        said = [line.removeprefix("data: ") async for line in lines if line]

    assert openai_message(json.loads(said[-1])) == TOLD


async def test_where_sqlite_is_locked_what_must_be_written_is_refused_as_unavailable(locked: World) -> None:
    locked.take_away()

    assert_unavailable(await locked.chat(), openai_message)
    made = await locked.http.post("/api/v1/accounts", json={"name": "a"}, headers=headers(ROOT))
    assert_unavailable(made, admin_message)
    assert (await locked.http.get("/api/v1/accounts", headers=headers(ROOT))).status_code == 200
    assert (await locked.chat(UNKNOWN)).status_code == 401


def test_the_operator_is_told_what_callers_are_not() -> None:
    error = CannotOpen("database_url: cannot connect to db.internal:5432")

    assert str(error) == "database_url: cannot connect to db.internal:5432"
    assert (error.message, error.retry_after_seconds) == (TOLD, RETRY_AFTER_SECONDS)
    assert b"db.internal" not in error.to_status().SerializeToString()
