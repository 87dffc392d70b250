"""Whole servers whose Redis is killed, started anew, and held: their callers see nothing but the limit."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import yaml

from tests.faults.test_shared_limits import ROOT_KEY, SERVED, SERVED_LEASE, Place, account, configuration, window
from tests.headgate_cli.program import Serving, serving
from tests.support.redis import RunningRedis, redis_server

__all__ = ["redis_server"]

WAIT_SECONDS = 60
BODY = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}
PROCESSES = 2
ANSWERS_SECONDS = 10.0


class Servers:
    """Two of `headgate serve`, one plan of SERVED requests in a window that does not end, and one account's key."""

    def __init__(self, programs: list[Serving], clients: list[httpx.AsyncClient], key: str) -> None:
        self.programs = programs
        self.clients = clients
        self.headers = {"authorization": f"Bearer {key}"}

    async def admit(self, calls: int) -> Counter[int]:
        """The statuses of so many calls at each."""
        statuses: Counter[int] = Counter()
        for client in self.clients:
            for _ in range(calls):
                answer = await client.post("/v1/chat/completions", json=BODY, headers=self.headers)
                statuses[answer.status_code] += 1
        return statuses

    async def until(self, is_up: bool) -> None:
        """Until the metrics of both say so."""
        async with asyncio.timeout(WAIT_SECONDS):
            for client in self.clients:
                wanted = f"headgate_limits_store_up {float(is_up)}"
                while wanted not in (await client.get("/metrics")).text:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.05)


async def started(stack: AsyncExitStack, redis: RunningRedis, directory: Path) -> Servers:
    config = directory / "headgate.yaml"
    place = Place(f"sqlite:///{directory}/data/headgate.db", "${REDIS_URL}")
    written = configuration(place, window())
    config.write_text(yaml.safe_dump({**written, "log": {"level": "warning", "format": "json"}}))
    variables = {"HEADGATE_ROOT_KEY": ROOT_KEY, "REDIS_URL": redis.url}
    programs = [
        await stack.enter_async_context(serving("--config", str(config), home=directory, variables=variables))
        for _ in range(PROCESSES)
    ]
    clients = [
        await stack.enter_async_context(
            httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=ANSWERS_SECONDS)
        )
        for program in programs
    ]
    return Servers(programs, clients, await account(clients[0]))


async def outage(
    redis: RunningRedis, directory: Path, begin: Callable[[], None], end: Callable[[], None]
) -> tuple[Counter[int], ...]:
    """The statuses before, while and after Redis was away; the servers end well."""
    async with AsyncExitStack() as stack:
        servers = await started(stack, redis, directory)
        before = await servers.admit(60)
        begin()
        while_away = await servers.admit(20)
        await servers.until(False)
        end()
        await servers.until(True)
        after = await servers.admit(SERVED)
        for program in servers.programs:
            program.terminate()
            assert await program.code() == 0
    return before, while_away, after


def check(statuses: tuple[Counter[int], ...]) -> None:
    before, while_away, after = statuses
    assert before == {200: 120}
    # Each goes on with what it has and a lease more, and refuses nobody for any other reason.
    assert set(while_away) <= {200, 429}
    assert PROCESSES * SERVED_LEASE <= while_away[200] <= PROCESSES * 2 * SERVED_LEASE
    assert set(after) == {200, 429}
    total = sum(statuses, Counter[int]())[200]
    assert SERVED - PROCESSES * SERVED_LEASE <= total <= SERVED + PROCESSES * SERVED_LEASE


async def test_two_servers_go_on_while_redis_is_killed_and_started_anew(
    redis_server: RunningRedis, tmp_path: Path
) -> None:
    check(await outage(redis_server, tmp_path, redis_server.kill, redis_server.start))


async def test_two_servers_go_on_while_redis_hangs(redis_server: RunningRedis, tmp_path: Path) -> None:
    check(await outage(redis_server, tmp_path, redis_server.pause, redis_server.go_on))


async def test_a_server_starts_without_its_redis_and_says_so(redis_server: RunningRedis, tmp_path: Path) -> None:
    redis_server.kill()
    async with AsyncExitStack() as stack:
        servers = await started(stack, redis_server, tmp_path)
        await servers.until(False)
        # It knows of no others: a lease is its own.
        assert await servers.admit(SERVED_LEASE) == {200: PROCESSES * SERVED_LEASE}
        assert set(await servers.admit(1)) == {429}
        redis_server.start()
        await servers.until(True)
        assert (await servers.admit(1))[200] == PROCESSES
        for program in servers.programs:
            program.terminate()
            assert await program.code() == 0
