"""Two processes and two accounts at one limit each: the limits alone, and whole servers over REST and gRPC.

`python -m tests.faults.test_shared_limits` is a process that has the limits alone.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import structlog
import yaml
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from pydantic import SecretStr

from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.window import SECOND_US
from gateway_core.redis_store.lease import RedisLeases
from gateway_core.storage.database import Database
from gateway_core.storage.location import location
from tests.headgate_cli.program import Serving, serving
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.redis import running

__all__ = ["postgres_server"]

ROOT = Path(__file__).parents[2]
NOW = 6_000 * SECOND_US
ACCOUNTS = ("first", "second")
LIMIT = 400
ASKED = 600
TASKS = 20
LEASE = LIMIT // 20
PROCESSES = 2
WAIT_SECONDS = 60

ROOT_KEY = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
WINDOWS = (86_400, 100_000)
SERVED = 200
SERVED_LEASE = SERVED // 20
CALLS = 110
"""Of each account, at each process, over REST; and as many over gRPC: one process alone would reach the limit."""
AT_ONCE = 8


class Place(NamedTuple):
    """Where processes share what they keep, and limits."""

    database_url: str
    redis_url: str | None

    def configuration(self) -> dict[str, str]:
        urls = {"database_url": self.database_url, "redis_url": self.redis_url}
        return {name: url for name, url in urls.items() if url is not None}


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Limits in a fresh database, and in a fresh Redis beside one."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield Place(await server.new_database(), None)
        return
    file = f"sqlite:///{tmp_path}/data/headgate.db"
    if request.param == "sqlite":
        yield Place(file, None)
        return
    with running() as redis:
        yield Place(file, redis.url)


async def admitted(limits: SharedLimits, account: str) -> int:
    """How many of ASKED calls of an account are admitted, TASKS at a time."""
    limit = limits.limit(f"account:{account}:requests", LIMIT, 1_000_000)
    limit.turn(NOW)

    async def hammer() -> int:
        return sum([await limit.acquire(1, NOW) for _ in range(ASKED // TASKS)])

    return sum(await asyncio.gather(*(hammer() for _ in range(TASKS))))


async def main() -> None:
    """Says how many calls of each account were admitted, once it has been told to begin."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with Database(location(SecretStr(os.environ["DATABASE_URL"]), Path())) as database:
        url = os.environ.get("REDIS_URL")
        leases = None if url is None else RedisLeases(SecretStr(url), database.process_id)
        limits = SharedLimits(database, lambda: NOW, leases)
        await limits.open()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(*await asyncio.gather(*(admitted(limits, account) for account in ACCOUNTS)))
        await limits.close()


def started(place: Place, directory: Path) -> "subprocess.Popen[str]":
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    urls = {name.upper(): url for name, url in place.configuration().items()}
    env = {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", **urls}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", __name__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=directory, env=env,
    )  # fmt: skip


async def test_two_processes_admit_no_more_than_the_limit_and_their_leases(place: Place, tmp_path: Path) -> None:
    processes = [started(place, tmp_path) for _ in range(PROCESSES)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        said = await asyncio.gather(
            *(asyncio.to_thread(process.communicate, "\n", WAIT_SECONDS) for process in processes)
        )
        assert [process.returncode for process in processes] == [0] * PROCESSES
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    counts = [[int(count) for count in out.split()] for out, _ in said]
    totals = [sum(of_account) for of_account in zip(*counts, strict=True)]
    assert all(LIMIT - PROCESSES * LEASE <= total <= LIMIT + PROCESSES * LEASE for total in totals), counts
    # They are even less: a lease is taken from the limit before it is used.
    assert all(total <= LIMIT for total in totals), counts


def window() -> int:
    """The length of a window that does not end in the next minutes, in seconds."""
    return next(seconds for seconds in WINDOWS if -time.time() % seconds > 600)


def configuration(place: Place, seconds: int) -> dict[str, Any]:
    windows = [{"window_seconds": seconds, "requests": SERVED}]
    listen = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"}
    log = {"level": "error"}
    return {**place.configuration(), "listen": listen, "log": log, "plans": {"small": {"windows": windows}}}


async def account(http: httpx.AsyncClient) -> str:
    """The key of a new account that has the plan."""
    root = {"authorization": f"Bearer {ROOT_KEY}"}
    made = await http.post("/api/v1/accounts", json={"name": "a", "plan": "small"}, headers=root)
    assert made.status_code == 200, made.text
    secret: str = made.json()["data"]["secret"]
    credit = {"account_id": made.json()["data"]["account"]["id"], "amount_usd": "1", "reference": "r"}
    assert (await http.post("/api/v1/balance/credits", json=credit, headers=root)).status_code == 200
    return secret


async def asked_over_rest(http: httpx.AsyncClient, key: str, numbers: Iterator[int]) -> Counter[bool]:
    """How many calls were admitted (True) and refused, of those that are numbered."""
    counts: Counter[bool] = Counter()
    body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in numbers:
        answer = await http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        counts[answer.status_code == 200] += 1
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited"), answer.text
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-ratelimit-limit-requests"] == str(SERVED)
    return counts


async def asked_over_grpc(channel: aio.Channel, key: str, numbers: Iterator[int]) -> Counter[bool]:
    """The same over gRPC."""
    counts: Counter[bool] = Counter()
    stub = ChatCompletionServiceStub(channel)
    spec: Any = {"model": "echo/echo", "messages": [{"role": ROLE_USER, "text": "Hi"}]}
    for _ in numbers:
        metadata = (("authorization", f"Bearer {key}"),)
        try:
            await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), metadata=metadata, timeout=30)
        except aio.AioRpcError as error:
            check_refusal(error)
            counts[False] += 1
        else:
            counts[True] += 1
    return counts


def check_refusal(error: aio.AioRpcError) -> None:
    """It says that it is the limit, and when to come again."""
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED, error
    status = rpc_status.from_call(error)
    assert status is not None
    kinds = {detail.type_url.rpartition(".")[2]: detail for detail in status.details}
    retry = error_details_pb2.RetryInfo()
    assert kinds["RetryInfo"].Unpack(retry)
    assert retry.retry_delay.ToSeconds() > 0
    assert "QuotaFailure" in kinds


async def hammered(program: Serving, key: str, all_begin: asyncio.Barrier) -> Counter[bool]:
    """What one process admitted of an account, which calls it over REST and gRPC at the same time."""
    rest, grpc = iter(range(CALLS)), iter(range(CALLS))
    async with (
        httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=30) as http,
        aio.insecure_channel(program.grpc) as channel,
    ):
        first = await asked_over_rest(http, key, iter(range(1)))  # so that each process has a lease
        await all_begin.wait()
        found = await asyncio.gather(
            *(asked_over_rest(http, key, rest) for _ in range(AT_ONCE)),
            *(asked_over_grpc(channel, key, grpc) for _ in range(AT_ONCE)),
        )
    return sum(found, first)


async def test_two_servers_and_two_accounts_admit_no_more_than_the_limit_of_their_plan(
    place: Place, tmp_path: Path
) -> None:
    config = tmp_path / "headgate.yaml"
    config.write_text(yaml.safe_dump(configuration(place, window())))
    async with AsyncExitStack() as stack, asyncio.timeout(WAIT_SECONDS):
        programs = [
            await stack.enter_async_context(
                serving("--config", str(config), home=tmp_path, variables={"HEADGATE_ROOT_KEY": ROOT_KEY})
            )
            for _ in range(PROCESSES)
        ]
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=programs[0].url, trust_env=False))
        keys = [await account(http) for _ in ACCOUNTS]
        all_begin = asyncio.Barrier(len(keys) * PROCESSES)
        found = await asyncio.gather(*(hammered(program, key, all_begin) for key in keys for program in programs))
        for number, key in enumerate(keys):
            of_account = found[number * PROCESSES : (number + 1) * PROCESSES]
            total = sum(of_account, Counter[bool]())
            assert total.total() == PROCESSES * (2 * CALLS + 1)
            assert total[True] <= SERVED + PROCESSES * SERVED_LEASE, of_account
            # It is even less: a lease is taken from the limit before it is used. What is left is of leases.
            assert SERVED - PROCESSES * (SERVED_LEASE + SERVED_LEASE // 4) <= total[True] <= SERVED, of_account
            assert all(counts[True] and counts[False] for counts in of_account), of_account
            own = {"authorization": f"Bearer {key}"}
            summary = await http.get("/api/v1/usage/summary?group_by=day", headers=own)
            # What was refused is no call of the ledger's.
            assert summary.json()["data"]["total"]["request_count"] == total[True]


async def test_two_servers_admit_no_more_of_a_public_key_than_its_window(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "headgate.yaml"
    windows = {"per_address": [], "per_key": [{"seconds": window(), "requests": 40}]}
    config.write_text(yaml.safe_dump({**configuration(place, window()), "public_keys": windows}))
    root = {"authorization": f"Bearer {ROOT_KEY}"}
    variables = {"HEADGATE_ROOT_KEY": ROOT_KEY}
    async with AsyncExitStack() as stack, asyncio.timeout(WAIT_SECONDS):
        clients = []
        for _ in range(PROCESSES):
            program = await stack.enter_async_context(
                serving("--config", str(config), home=tmp_path, variables=variables)
            )
            client = httpx.AsyncClient(base_url=program.url, trust_env=False)
            clients.append(await stack.enter_async_context(client))
        gateway = await clients[0].post("/api/v1/gateways", json={"name": "g", "model": "echo/echo"}, headers=root)
        key = await clients[0].post("/api/v1/keys", json={"label": "page", "kind": "public"}, headers=root)
        body = {"model": gateway.json()["data"]["id"], "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {key.json()['data']['secret']}"}
        # Another process knows of a gateway within a second.
        while (await clients[1].post("/v1/chat/completions", json=body, headers=root)).status_code == 404:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

        async def asked(client: httpx.AsyncClient) -> Counter[int]:
            answers = [await client.post("/v1/chat/completions", json=body, headers=headers) for _ in range(35)]
            return Counter(answer.status_code for answer in answers)

        statuses = sum(await asyncio.gather(*map(asked, clients)), Counter[int]())
    assert set(statuses) == {200, 429}, statuses
    assert 40 - PROCESSES * 2 <= statuses[200] <= 40


if __name__ == "__main__":
    asyncio.run(main())
