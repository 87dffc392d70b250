"""Two replicas behind a real Envoy are restarted one after the other, under load, and no caller notices."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.config import Config
from gateway_core.config_envoy import EnvoyConfig
from headgate_cli.envoy.commands import rendered
from tests.headgate_cli.program import Serving, serving
from tests.support.envoy import needs_envoy, started
from tests.support.openai_vendor import completion, event
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.redis import RunningRedis, redis_server
from tests.support.upstream import Answer, Delay, Received, Upstream, json_answer, reached, sse_answer

HEALTH_SECONDS = 0.2
"""How often Envoy asks; the replicas go on for fifteen times as long after they have said that they leave."""
PIECES = 12
LOOPS = 2
"""Callers of each kind, each with one call after another."""
Ask = Callable[[], Awaitable[str]]

pytestmark = needs_envoy
__all__ = ["postgres_server", "redis_server"]


def vendor(received: Received) -> Answer:
    """What a model says: at once as a whole, or for more than a second in pieces."""
    if not json.loads(received.body).get("stream"):
        return json_answer(completion({"content": "whole"}))
    pieces = [step for number in range(PIECES) for step in (event({"content": f"{number} "}), Delay(0.1))]
    return sse_answer([*pieces, event({}, "stop")])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def front(replicas: list[tuple[int, int]]) -> str:
    """The configuration that `headgate envoy render` writes before replicas, with ports of its own."""
    section = {
        "listen": ["127.0.0.1:0"],
        "admin": "127.0.0.1:0",
        "health_seconds": HEALTH_SECONDS,
        "replicas": [{"host": "127.0.0.1", "http": http, "grpc": grpc} for http, grpc in replicas],
    }
    return rendered(Config(envoy=EnvoyConfig.model_validate(section)))


async def until(question: Callable[[], Awaitable[bool]], within: float = 30) -> None:
    """Asks until the answer is yes; raises TimeoutError where it is not in as many seconds."""
    async with asyncio.timeout(within):
        yes = await question()
        while not yes:
            await asyncio.sleep(0.02)
            yes = await question()


async def healthy(admin: httpx.AsyncClient, port: int) -> bool:
    """Whether Envoy sends calls to a replica."""
    for status in (await admin.get("/clusters", params={"format": "json"})).json()["cluster_statuses"]:
        for host in status["host_statuses"]:
            if host["address"]["socket_address"]["port_value"] == port:
                return "failed_active_health_check" not in host["health_status"]
    raise AssertionError(f"Envoy knows no port {port}")


class Load:
    """Steady calls of every kind."""

    def __init__(self, address: str, http: httpx.AsyncClient, channel: aio.Channel) -> None:
        self._url = f"http://{address}/v1/chat/completions"
        self._http = http
        self._chat: Any = ChatCompletionServiceStub(channel)
        self.answered: dict[str, int] = {}
        self.failures: list[str] = []
        self._over = asyncio.Event()

    async def rest_unary(self) -> str:
        answer = await self._http.post(self._url, json=body(stream=False))
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])

    async def rest_stream(self) -> str:
        async with self._http.stream("POST", self._url, json=body(stream=True)) as answer:
            answer.raise_for_status()
            data = [line.removeprefix("data: ") async for line in answer.aiter_lines() if line.startswith("data: ")]
        assert data[-1] == "[DONE]", data
        choices = [choice for text in data[:-1] for choice in json.loads(text)["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    async def grpc_unary(self) -> str:
        request = CreateChatCompletionRequest(spec=spec())
        return str((await self._chat.CreateChatCompletion(request, timeout=30)).completion.choices[0].message.content)

    async def grpc_stream(self) -> str:
        call = self._chat.StreamChatCompletion(StreamChatCompletionRequest(spec=spec()), timeout=30)
        said = [choice.delta.content async for answer in call for choice in answer.chunk.choices]
        assert await call.code() is StatusCode.OK
        return "".join(said)

    async def _repeat(self, ask: Ask, expected: str) -> None:
        kind = getattr(ask, "__name__", "")
        while not self._over.is_set():
            try:
                said = await ask()
            except (httpx.HTTPError, aio.AioRpcError, AssertionError) as error:
                self.failures.append(f"{kind}: {error!r}")
                return
            if said != expected:
                self.failures.append(f"{kind}: {said!r}")
            self.answered[kind] = self.answered.get(kind, 0) + 1

    async def run(self) -> None:
        """Calls until it is over; a caller whose call fails stops."""
        whole, streamed = "whole", "".join(f"{number} " for number in range(PIECES))
        async with asyncio.TaskGroup() as callers:
            for _ in range(LOOPS):
                callers.create_task(self._repeat(self.rest_unary, whole))
                callers.create_task(self._repeat(self.rest_stream, streamed))
                callers.create_task(self._repeat(self.grpc_unary, whole))
                callers.create_task(self._repeat(self.grpc_stream, streamed))

    def end(self) -> None:
        """Lets the calls under way be the last."""
        self._over.set()

    async def goes_on(self) -> None:
        """Waits until each kind was answered once more from beginning to end, or one has failed."""
        before = dict(self.answered)
        kinds = ("rest_unary", "rest_stream", "grpc_unary", "grpc_stream")
        await reached(
            lambda: bool(self.failures) or all(self.answered.get(kind, 0) > before.get(kind, 0) + 2 for kind in kinds),
            within=30,
        )
        assert not self.failures


def body(*, stream: bool) -> dict[str, Any]:
    return {"model": "lab/tiny", "messages": [{"role": "user", "content": "hi"}], "stream": stream}


def spec() -> Any:
    return {"model": "lab/tiny", "messages": [{"role": ROLE_USER, "text": "hi"}]}


@dataclass(frozen=True, slots=True)
class House:
    """What two replicas share, and what each has for itself."""

    homes: tuple[Path, Path]
    """Where each is started. Its configuration is there, and its data are."""
    kept: Callable[[], Awaitable[dict[str, int]]]
    """How many calls the ledger has, by what became of them."""


COUNTED = "SELECT status, count(*) FROM ledger_requests GROUP BY status"


@pytest.fixture(params=["sqlite", "postgresql"])
async def house(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> House:
    """Two replicas' stores: one file on one machine, or PostgreSQL and Redis with a data directory for each."""
    if request.param == "sqlite":
        configure(tmp_path, upstream, "")

        async def in_file() -> dict[str, int]:
            with sqlite3.connect(tmp_path / "data" / "headgate.db") as database:
                return dict(database.execute(COUNTED).fetchall())

        return House((tmp_path, tmp_path), in_file)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    redis: RunningRedis = request.getfixturevalue("redis_server")
    url = await server.new_database()
    homes = (tmp_path / "one", tmp_path / "other")
    for home in homes:
        home.mkdir()
        configure(home, upstream, f"database_url: {url}\nredis_url: {redis.url}\n")

    async def in_database() -> dict[str, int]:
        connection = await asyncpg.connect(url)
        try:
            return {row["status"]: row["count"] for row in await connection.fetch(COUNTED)}
        finally:
            await connection.close()

    return House(homes, in_database)


def configure(home: Path, upstream: Upstream, more: str) -> None:
    (home / "headgate.yaml").write_text(
        f"providers: {{lab: {{kind: openai, base_url: {upstream.base_url}, lists_models: false}}}}\n"
        f"authentication: optional\ndrain_delay_seconds: {15 * HEALTH_SECONDS}\ndrain_seconds: 20\n{more}"
    )


def replica(home: Path, http: int, grpc: int) -> Any:
    variables = {"HEADGATE_SECRET_KEY": "s" * 64, "HEADGATE_ROOT_KEY": "sk-hg-" + "c3" * 22}
    return serving("--http", f"127.0.0.1:{http}", "--grpc", f"127.0.0.1:{grpc}", home=home, variables=variables)


async def restarted(
    stack: AsyncExitStack, running: Serving, home: Path, ports: tuple[int, int], admin: httpx.AsyncClient
) -> Serving:
    """Ends a replica as an operator does, and starts it again where it was."""
    running.terminate()
    await running.line("leaving")
    await until(lambda: left(admin, ports))
    assert await running.code() == 0
    again: Serving = await stack.enter_async_context(replica(home, *ports))
    for port in ports:
        await until(lambda port=port: healthy(admin, port))  # type: ignore[misc]
    return again


async def left(admin: httpx.AsyncClient, ports: tuple[int, int]) -> bool:
    return not any([await healthy(admin, port) for port in ports])


async def test_replicas_restarted_one_after_the_other_under_load_fail_no_call(
    house: House, tmp_path: Path, upstream: Upstream
) -> None:
    upstream.script(vendor)
    ports = [(free_port(), free_port()) for _ in range(2)]
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(replica(home, *at)) for home, at in zip(house.homes, ports, strict=True)
        ]
        admin, _, _ = await stack.enter_async_context(started(front(ports), tmp_path))
        (listener,) = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
        address = f"127.0.0.1:{listener['local_address']['socket_address']['port_value']}"
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))
        channel = await stack.enter_async_context(aio.insecure_channel(address))
        load = Load(address, http, channel)
        running = asyncio.create_task(load.run())
        await load.goes_on()
        for number, at in enumerate(ports):
            replicas[number] = await restarted(stack, replicas[number], house.homes[number], at, admin)
            await load.goes_on()
        load.end()
        await running
        for one in replicas:
            one.terminate()
            assert await one.code() == 0
    assert not load.failures
    assert await house.kept() == {"ok": sum(load.answered.values())}
