import asyncio
import threading

import pytest

from gateway_core.storage.backend import Statements
from gateway_core.storage.database import Database
from gateway_core.storage.tables.coordination import settings
from tests.gateway_core.storage.rows import KEEP, keep, names
from tests.support.upstream import reached


async def test_a_cancelled_transaction_is_whole_or_not_there(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.transaction() as connection:
            for part in ("a", "b"):
                await connection.execute(settings.insert().values(name=f"{number}{part}", value=b"", updated_us=0))

    for number in range(60):
        task = asyncio.create_task(write(number))
        for _ in range(number):
            await asyncio.sleep(0)
        if number % 3 == 0:
            await asyncio.sleep(number / 20_000)
        task.cancel()
        await asyncio.wait([task])
    found = await names(database)
    numbers = {name[:-1] for name in found}
    assert sorted(found) == sorted(f"{number}{part}" for number in numbers for part in "ab")
    await keep(database, "after")


async def test_a_cancellation_while_it_commits_comes_after_the_commit(database: Database) -> None:
    heard = []
    database.changes.subscribe("topic", lambda change: heard.append(change.key))
    at_the_end = asyncio.Event()

    async def write() -> None:
        async with database.transaction() as connection:
            await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))
            await database.changes.publish(connection, "topic", "key")
            at_the_end.set()

    task = asyncio.create_task(write())
    await at_the_end.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(database) == ["a"]
    assert heard == ["key"]


async def test_work_that_is_cancelled_is_done(database: Database) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(statements: Statements) -> None:
        loop.call_soon_threadsafe(begun.set)
        for number in range(50):
            statements.many(KEEP, [(f"{number:02}",)])

    task = asyncio.create_task(database.write(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await names(database)) == 50


async def test_whoever_waits_for_its_turn_can_be_cancelled(database: Database) -> None:
    release, holding = asyncio.Event(), []

    async def hold() -> None:
        async with database.transaction():
            holding.append(True)
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(30)]
    await reached(lambda: bool(holding))
    for task in tasks[1:]:
        task.cancel()
    _, waiting = await asyncio.wait(tasks[1:], timeout=10)
    assert not waiting
    release.set()
    await tasks[0]
    await keep(database, "after")


async def test_cancellations_cost_no_connection_and_leave_no_task(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.transaction() as connection:
            for part in ("a", "b"):
                await connection.execute(settings.insert().values(name=f"{number}{part}", value=b"", updated_us=0))

    await asyncio.gather(write(0), *(names(database) for _ in range(8)))
    before, threads = asyncio.all_tasks(), threading.active_count()
    for number in range(1, 40):
        tasks = [asyncio.create_task(write(number)), *(asyncio.create_task(names(database)) for _ in range(4))]
        await asyncio.sleep(number / 10_000)  # some instant of their work, not a state that is waited for
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert asyncio.all_tasks() == before
    found = await names(database)
    assert sorted(found) == sorted(f"{stem}{part}" for stem in {name[:-1] for name in found} for part in "ab")
    assert threading.active_count() <= threads + 1  # one that reads may have begun since
