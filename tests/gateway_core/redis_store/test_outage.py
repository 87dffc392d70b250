"""A real Redis that dies, hangs, forgets or is full: calls go on with less, and what was used is told when it is back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.window import SECOND_US
from gateway_core.redis_store.lease import RedisLeases, Timing
from tests.support.leases import QUICK, Processes
from tests.support.redis import RunningRedis, redis_server

__all__ = ["redis_server"]

LONG = 10_000_000
"""Seconds: a window that does not end in a test."""
LIMIT = 100
LEASE = 5
WAIT_SECONDS = 20


class Clock:
    def __init__(self) -> None:
        self.us = 6_000 * SECOND_US

    def __call__(self) -> int:
        return self.us


class Process:
    """One process, and one limit of it."""

    def __init__(self, limits: SharedLimits, clock: Clock, seconds: int) -> None:
        self.limits = limits
        self.clock = clock
        self.limit: SharedLimit = limits.limit("a", LIMIT, seconds)
        assert isinstance(limits.leases, RedisLeases)
        self.leases = limits.leases

    async def admits(self, calls: int) -> int:
        """How many of so many calls."""
        count = 0
        for _ in range(calls):
            self.limit.turn(self.clock())
            count += await self.limit.acquire(1, self.clock())
            self.clock.us += 1  # so that an empty store is asked again some time
        return count

    async def until(self, state: Callable[["Process"], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not state(self):  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.01)

    @property
    def is_away(self) -> bool:
        return self.leases.away is not None


class World:
    """Processes on one server, and the time as they see it."""

    def __init__(self, server: RunningRedis, directory: Path, stack: AsyncExitStack) -> None:
        self.server = server
        self.directory = directory
        self.stack = stack
        self.clock = Clock()

    async def process(self, seconds: int = LONG, timing: Timing = QUICK) -> Process:
        url = f"sqlite:///{self.directory}/headgate.db"
        processes = Processes(url, self.server.url, self.directory, timing, self.stack)
        return Process(await processes.start(self.clock), self.clock, seconds)

    def later(self, seconds: float) -> None:
        self.clock.us += int(seconds * SECOND_US)

    async def counted(self, *processes: Process) -> None:
        """Until these know of one another, and of no others."""
        for process in processes:
            await process.until(lambda one: one.leases._processes == len(processes))

    async def away(self, *processes: Process) -> None:
        for process in processes:
            await process.until(lambda one: one.is_away)
        self.later(1)

    async def back(self, *processes: Process) -> None:
        for process in processes:
            await process.until(lambda one: not one.is_away)
        self.later(1)


@pytest.fixture
async def world(redis_server: RunningRedis, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(redis_server, tmp_path, stack)
        for task in asyncio.all_tasks():
            assert "lease" not in task.get_name() or task.get_name() == "appearing at the store of leases"


async def test_a_server_that_is_killed_and_started_anew_lets_no_more_than_a_lease_of_each_process_through(
    world: World,
) -> None:
    one, other = await world.process(), await world.process()
    # Each has half: the prefetched leases, too.
    total = await one.admits(50) + await other.admits(40)
    world.later(1)
    total += await one.admits(LIMIT) + await other.admits(LIMIT)
    assert total <= LIMIT
    world.server.kill()
    await world.away(one, other)
    more = [await process.admits(LIMIT) for process in (one, other)]
    assert all(LEASE <= each <= 2 * LEASE for each in more), more
    total += sum(more)
    world.server.start()
    await world.back(one, other)
    total += await one.admits(LIMIT) + await other.admits(LIMIT)
    assert LIMIT <= total <= LIMIT + 2 * LEASE
    # Nor does a process that comes later get anything: what was used is known again.
    assert await (await world.process()).admits(LIMIT) == 0


async def test_a_server_that_is_away_again_and_again_lets_no_more_through_in_one_window(world: World) -> None:
    one, other = await world.process(), await world.process()
    total = await one.admits(50) + await other.admits(40)
    for _ in range(3):
        world.later(1)
        total += await one.admits(LIMIT) + await other.admits(LIMIT)
        world.server.kill()
        await world.away(one, other)
        total += await one.admits(LIMIT) + await other.admits(LIMIT)
        world.server.start()
        await world.back(one, other)
    assert LIMIT <= total <= LIMIT + 2 * LEASE


async def test_under_load_a_server_that_is_killed_in_the_midst_fails_no_call_and_holds_the_limit(world: World) -> None:
    limit = 20 * LIMIT
    processes = [await world.process() for _ in range(2)]
    await world.counted(*processes)
    shared = [process.limits.limit("b", limit, LONG) for process in processes]
    counts, refused, stopped = [0, 0], [0, 0], asyncio.Event()

    async def hammer(number: int) -> None:
        while not stopped.is_set():
            world.clock.us += 1000
            shared[number].turn(world.clock())
            is_admitted = await shared[number].acquire(1, world.clock())
            counts[number] += is_admitted
            refused[number] = 0 if is_admitted else refused[number] + 1
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(hammer(number)) for number in (0, 1) for _ in range(8)]
    for _ in range(2):
        wanted = sum(counts) + 100
        await processes[0].until(lambda _, wanted=wanted: sum(counts) > wanted)  # type: ignore[misc]
        await asyncio.to_thread(world.server.kill)
        await world.away(*processes)
        await asyncio.to_thread(world.server.start)
        await world.back(*processes)
    refused[:] = [0, 0]
    # A thousand calls in a row: an empty store is asked again in between.
    await processes[0].until(lambda _: min(refused) > 1000)
    stopped.set()
    await asyncio.gather(*tasks)
    assert limit - 2 * limit // 20 <= sum(counts) <= limit + 2 * limit // 20


async def test_what_was_used_before_a_restart_is_missing_after_it(world: World) -> None:
    one, other = await world.process(), await world.process()
    assert (await one.admits(60), await other.admits(10)) == (60, 10)
    world.server.kill()
    world.server.start()
    # Without a word of the two, which have not yet found out.
    third = await world.process()
    total = 70 + await third.admits(LIMIT)
    await world.back(one, other)
    for process in (one, other, third):
        total += await process.admits(LIMIT)
    assert LIMIT - 2 * LEASE <= total <= LIMIT


async def test_in_a_window_that_begins_while_the_server_is_away_each_process_has_its_share(world: World) -> None:
    one, other = await world.process(60), await world.process(60)
    assert await one.admits(1) == await other.admits(1) == 1
    await world.counted(one, other)
    world.server.kill()
    await world.away(one, other)
    world.later(120)
    assert [await process.admits(LIMIT) for process in (one, other)] == [LIMIT // 2, LIMIT // 2]
    world.server.start()
    await world.back(one, other)
    assert [await process.admits(LIMIT) for process in (one, other)] == [0, 0]
    world.later(60)
    total = sum([await process.admits(LIMIT) for process in (one, other)])
    assert LIMIT - LEASE <= total <= LIMIT


async def test_in_a_window_that_begins_while_the_server_settles_each_process_has_a_lease(world: World) -> None:
    one, other = await world.process(60), await world.process(60)
    assert await one.admits(1) == await other.admits(1) == 1
    world.server.kill()
    await world.away(one, other)
    world.server.start()
    await one.until(lambda process: process.leases.away is not None and process.leases.away.is_settling)
    world.later(60)
    total = await one.admits(LIMIT)
    assert total == LEASE
    await world.back(one, other)
    total += sum([await process.admits(LIMIT) for process in (one, other)])
    assert LIMIT - LEASE <= total <= LIMIT


async def test_a_window_that_had_begun_gives_a_lease_more_with_each_minute(world: World) -> None:
    one, other = await world.process(), await world.process()
    assert await one.admits(2) == await other.admits(2) == 2
    await world.counted(one, other)
    world.server.kill()
    await world.away(one, other)
    assert await one.admits(LIMIT) == 2 * LEASE - 2
    for _ in range(3):
        world.later(60)
        assert await one.admits(LIMIT) == LEASE
    world.later(86_400)
    assert await one.admits(LIMIT) == LIMIT // 2 - 5 * LEASE
    assert await other.admits(LIMIT) == LIMIT // 2 - 2


async def test_a_server_that_hangs_longer_than_is_waited_for_holds_nobody_and_nothing_is_lost(world: World) -> None:
    one, other = await world.process(), await world.process()
    assert await one.admits(3) == 3
    world.server.pause()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await one.admits(20) == 2 * LEASE - 3
    assert one.is_away
    world.server.go_on()
    await world.back(one, other)
    # What was asked of it meanwhile, it has answered: to nobody.
    total = 2 * LEASE + await one.admits(LIMIT) + await other.admits(LIMIT)
    assert LIMIT - LEASE <= total <= LIMIT


async def test_a_server_that_is_emptied_gives_nothing_until_all_have_said_what_they_have(world: World) -> None:
    one, other = await world.process(), await world.process()
    assert (await one.admits(70), await other.admits(20)) == (70, 20)
    with world.server.client() as client:
        client.flushall()
    # At once: nobody has looked since.
    total = 90 + await one.admits(LIMIT)
    assert total <= LIMIT + LEASE
    await world.back(one, other)
    for process in (one, other):
        total += await process.admits(LIMIT)
    assert total <= LIMIT + 2 * LEASE


async def test_a_window_that_was_evicted_is_told_anew_by_whoever_takes_of_it(world: World) -> None:
    one, other = await world.process(), await world.process()
    assert (await one.admits(42), await other.admits(23)) == (42, 23)
    with world.server.client() as client:
        (key,) = client.keys("headgate:*window*")
        before = int(client.hget(key, "all") or 0)
        client.delete(key)
        for process in (one, other):
            await process.limit._lease(0, world.clock())
        assert int(client.hget(key, "all") or 0) == before


async def test_a_server_that_has_no_room_is_away_until_it_has(world: World) -> None:
    one = await world.process()
    assert await one.admits(3) == 3
    with world.server.client() as client:
        client.config_set("maxmemory", "1")
        assert await one.admits(20) == 2 * LEASE - 3
        assert one.is_away
        client.config_set("maxmemory", "0")
    await world.back(one)
    assert await one.admits(LIMIT) == LIMIT - 2 * LEASE


async def test_scripts_that_the_server_has_forgotten_are_sent_again(world: World) -> None:
    one = await world.process()
    assert await one.admits(3) == 3
    with world.server.client() as client:
        client.script_flush()
    assert await one.admits(LIMIT) == LIMIT - 3
    assert not one.is_away


async def test_a_process_that_has_never_reached_the_server_has_a_lease_of_each_window(world: World) -> None:
    world.server.kill()
    one = await world.process(60)
    assert await one.admits(20) == LEASE
    world.later(60)
    assert await one.admits(20) == LEASE
    world.server.start()
    await world.back(one)
    assert await one.admits(LIMIT) == LIMIT - LEASE


async def test_what_is_left_is_told_while_the_server_is_away(world: World) -> None:
    one, other = await world.process(), await world.process()
    assert await one.admits(3) == 3
    world.server.kill()
    await world.away(one, other)
    assert (await other.limits.left("a", LIMIT, LONG))[0] == LIMIT
    assert await one.admits(20) == 2 * LEASE - 3
    assert (await one.limits.left("a", LIMIT, LONG))[0] == one.limit.remaining(world.clock()) == 0


async def test_it_is_told_once_that_the_server_is_away_and_once_that_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger keeps the way to its log.
    monkeypatch.setattr("gateway_core.redis_store.lease.log", structlog.get_logger("headgate.limits"))
    with capture_logs() as lines:
        one = await world.process()
        world.server.kill()
        await world.away(one)
        for _ in range(5):
            await one.admits(10)
            world.later(1)
        world.server.start()
        await world.back(one)
        assert await one.admits(1) == 1
    told = [(line["log_level"], line["event"]) for line in lines if line["event"].startswith("limits_store")]
    assert told == [("warning", "limits_store_away"), ("warning", "limits_store_back")]
    (away,) = (line for line in lines if line["event"] == "limits_store_away")
    assert away["message"].startswith(f"redis_url: redis://127.0.0.1:{world.server.port}/0 cannot be reached: ")
    assert world.server.password not in str(lines)


async def test_a_process_that_ends_is_no_longer_counted(world: World) -> None:
    one, other = await world.process(), await world.process()
    await world.counted(one, other)
    await other.limits.close()
    await world.counted(one)


async def test_many_limits_are_told_when_the_server_is_back(world: World) -> None:
    one, other = await world.process(), await world.process()
    names = [f"account:{number}" for number in range(250)]
    for name in names:
        limited = one.limits.limit(name, LIMIT, LONG)
        limited.turn(world.clock())
        assert await limited.acquire(61, world.clock())
    world.server.kill()
    world.server.start()
    await world.away(one)
    await world.back(one, other)
    left = [(await other.limits.left(name, LIMIT, LONG))[0] for name in names]
    assert max(left) <= LIMIT - 61
