import asyncio

import pytest
from sqlalchemy import func, select

from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.window import SECOND_US
from gateway_core.storage.tables.coordination import leases
from tests.support.leases import Processes, postgres_server, processes

__all__ = ["postgres_server", "processes"]

NOW = 6_000 * SECOND_US
SCOPE = "account:a:requests"


async def limit(processes: Processes, units: int = 100, seconds: int = 10_000_000) -> SharedLimit:
    """The limit as another process has it."""
    return limit_of(await processes.start(lambda: NOW), units, seconds)


def limit_of(limits: SharedLimits, units: int, seconds: int) -> SharedLimit:
    made = limits.limit(SCOPE, units, seconds)
    made.turn(NOW)
    return made


async def admitted(limited: SharedLimit, times: int) -> int:
    return sum([await limited.acquire(1, NOW) for _ in range(times)])


async def test_one_process_admits_exactly_the_limit(processes: Processes) -> None:
    assert await admitted(await limit(processes, 37), 60) == 37


async def test_tasks_at_once_admit_exactly_the_limit(processes: Processes) -> None:
    limited = await limit(processes, 37)
    assert sum(await asyncio.gather(*(limited.acquire(1, NOW) for _ in range(80)))) == 37


async def test_two_processes_together_admit_the_limit(processes: Processes) -> None:
    both = [await limit(processes) for _ in range(2)]
    counts = await asyncio.gather(*(admitted(limited, 100) for limited in both))
    assert 100 - 2 * 5 <= sum(counts) <= 100


async def test_a_held_lease_is_used_without_the_store(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = await processes.start(lambda: NOW)
    limited = limit_of(limits, 1000, 10_000_000)
    assert await limited.acquire(1, NOW)
    with monkeypatch.context() as patched:
        patched.setattr(limits.leases, "take", None)
        assert [limited.take(1, NOW) for _ in range(30)] == [True] * 30


async def test_what_is_not_used_is_given_back(processes: Processes) -> None:
    limits = await processes.start(lambda: NOW)
    first = limit_of(limits, 40, 10_000_000)
    assert await first.acquire(1, NOW)
    await first.give_back()
    assert await limits.leases.granted(f"{SCOPE}:10000000", first.window.start_us) == 1
    async with limits.database.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(leases)) == 0
    assert await admitted(await limit(processes, 40), 60) == 39


async def test_a_call_that_needs_more_than_a_lease_gets_it(processes: Processes) -> None:
    limited = await limit(processes, 100)
    assert await limited.acquire(90, NOW)
    assert not await limited.acquire(11, NOW)
    assert await limited.acquire(10, NOW + SECOND_US)


async def test_a_new_window_needs_a_new_lease(processes: Processes) -> None:
    limited = await limit(processes, 10, seconds=60)
    assert await admitted(limited, 20) == 10
    limited.turn(NOW + 60 * SECOND_US)
    assert limited.window.left == 0
    assert await limited.acquire(1, NOW + 60 * SECOND_US)


async def test_each_limit_and_each_window_is_counted_by_itself(processes: Processes) -> None:
    limits = await processes.start(lambda: NOW)
    for scope, seconds in (("a", 60), ("b", 60), ("a", 3600)):
        limited = limits.limit(scope, 10, seconds)
        limited.turn(NOW)
        assert await limited.acquire(10, NOW)
        assert not await limited.acquire(1, NOW)


async def test_a_limit_that_was_changed_counts_what_was_used_under_the_old_one(processes: Processes) -> None:
    limits = await processes.start(lambda: NOW)
    old, new, newest = (limit_of(limits, units, 10_000_000) for units in (40, 50, 60))
    assert await old.acquire(30, NOW)
    assert not await new.acquire(21, NOW)
    await old.settled()
    await new.give_back()
    assert not await newest.acquire(31, NOW)
    assert await newest.acquire(28, NOW)


async def test_the_next_lease_of_a_small_limit_is_taken_before_this_one_is_used_up(processes: Processes) -> None:
    limited, waited = await limit(processes, 60), 0
    for _ in range(30):
        if not limited.take(1, NOW):
            waited += 1
            assert await limited.acquire(1, NOW)
        await limited.settled()
    assert waited == 1  # the first


async def test_corrections_of_one_process_are_known_to_the_others(processes: Processes) -> None:
    one, other = [await limit(processes, 1000) for _ in range(2)]
    assert await one.acquire(900, NOW)
    one.correct(50, one.window.start_us)
    await one.settled()
    assert not await other.acquire(60, NOW)
    one.correct(-850, one.window.start_us)
    await one.settled()
    assert await other.acquire(800, NOW + SECOND_US)


async def test_what_is_left_is_told_less_what_others_hold(processes: Processes) -> None:
    one, other = [await processes.start(lambda: NOW) for _ in range(2)]
    assert await limit_of(one, 100, 10_000_000).acquire(2, NOW)
    assert (await one.left(SCOPE, 100, 10_000_000))[0] == 98
    assert (await other.left(SCOPE, 100, 10_000_000))[0] == 95
    assert await limit_of(other, 100, 10_000_000).acquire(1, NOW)
    assert (await one.left(SCOPE, 100, 10_000_000))[0] == 93
    assert (await other.left(SCOPE, 100, 10_000_000))[0] == 94


async def test_leases_of_a_limit_that_was_idle_and_is_still_held_are_given_back(processes: Processes) -> None:
    now = NOW
    limits = await processes.start(lambda: now)
    held = limits.limit(SCOPE, 1000, 60)  # as the stage `admit` holds it
    held.turn(now)
    assert await held.acquire(1, now)
    now += 61 * SECOND_US
    limits._forget_ended()  # as from time to time
    held.turn(now)
    assert await held.acquire(1, now)
    await held.settled()
    assert limits.limit(SCOPE, 1000, 60) is held
    limits._forget_ended()
    await limits._give_back()
    assert await limits.leases.granted(f"{SCOPE}:60", held.window.start_us) == 1
