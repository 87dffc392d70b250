import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.window import SECOND_US
from gateway_core.storage.database import Database
from gateway_core.storage.limit import granted
from gateway_core.storage.location import location
from gateway_core.storage.tables.coordination import leases

NOW = 6_000 * SECOND_US


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(location(None, tmp_path)) as opened:
        yield opened


def limit(database: Database, units: int = 100, seconds: int = 10_000_000) -> SharedLimit:
    made = SharedLimits(database, lambda: NOW).limit("account:a:requests", units, seconds)
    made.turn(NOW)
    return made


async def admitted(limited: SharedLimit, times: int) -> int:
    return sum([await limited.acquire(1, NOW) for _ in range(times)])


async def test_one_process_admits_exactly_the_limit(database: Database) -> None:
    assert await admitted(limit(database, 37), 60) == 37


async def test_tasks_at_once_admit_exactly_the_limit(database: Database) -> None:
    limited = limit(database, 37)
    assert sum(await asyncio.gather(*(limited.acquire(1, NOW) for _ in range(80)))) == 37


async def test_two_processes_together_admit_the_limit(database: Database, tmp_path: Path) -> None:
    async with Database(location(None, tmp_path)) as other:
        both = [limit(database), limit(other)]
        counts = await asyncio.gather(*(admitted(limited, 100) for limited in both))
    assert 100 - 2 * 5 <= sum(counts) <= 100


async def test_a_held_lease_is_used_without_the_store(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = limit(database, 1000)
    assert await limited.acquire(1, NOW)
    monkeypatch.setattr(database, "transaction", None)
    assert [limited.take(1, NOW) for _ in range(30)] == [True] * 30


async def test_what_is_not_used_is_given_back(database: Database, tmp_path: Path) -> None:
    first = limit(database, 40)
    assert await first.acquire(1, NOW)
    await first.give_back()
    async with database.reading() as connection:
        assert await granted(connection, "account:a:requests:10000000", first.window.start_us) == 1
        assert await connection.scalar(select(func.count()).select_from(leases)) == 0
    async with Database(location(None, tmp_path)) as other:
        assert await admitted(limit(other, 40), 60) == 39


async def test_a_call_that_needs_more_than_a_lease_gets_it(database: Database) -> None:
    limited = limit(database, 100)
    assert await limited.acquire(90, NOW)
    assert not await limited.acquire(11, NOW)
    assert await limited.acquire(10, NOW + SECOND_US)


async def test_a_new_window_needs_a_new_lease(database: Database) -> None:
    limited = limit(database, 10, seconds=60)
    assert await admitted(limited, 20) == 10
    limited.turn(NOW + 60 * SECOND_US)
    assert limited.window.left == 0
    assert await limited.acquire(1, NOW + 60 * SECOND_US)


async def test_the_next_lease_of_a_small_limit_is_taken_before_this_one_is_used_up(database: Database) -> None:
    limited, waited = limit(database, 60), 0
    for _ in range(30):
        if not limited.take(1, NOW):
            waited += 1
            assert await limited.acquire(1, NOW)
        await limited.settled()
    assert waited == 1  # the first


async def test_leases_of_a_limit_that_was_idle_and_is_still_held_are_given_back(database: Database) -> None:
    now = NOW
    limits = SharedLimits(database, lambda: now)
    held = limits.limit("account:a:requests", 1000, 60)  # as the stage `admit` holds it
    held.turn(now)
    assert await held.acquire(1, now)
    now += 61 * SECOND_US
    limits._forget_ended()  # as from time to time
    held.turn(now)
    assert await held.acquire(1, now)
    await held.settled()
    assert limits.limit("account:a:requests", 1000, 60) is held
    limits._forget_ended()
    await limits.close()
    async with database.reading() as connection:
        assert await granted(connection, "account:a:requests:60", held.window.start_us) == 1
