import asyncio

from sqlalchemy import func, select

from gateway_core.storage.database import Database
from gateway_core.storage.lease import LeaseRequest, taken
from gateway_core.storage.tables.coordination import leases, rate_windows
from tests.gateway_core.storage.program import Program, line, rest

HOLDERS = 3


async def take(database: Database, units: int, limit: int = 10, window_start_us: int = 0) -> int:
    request = LeaseRequest("key:a", window_start_us, limit, units, database.process_id, 1)
    async with database.transaction() as connection:
        return await taken(connection, request)


async def test_a_window_gives_no_more_than_its_limit(database: Database) -> None:
    assert [await take(database, 4) for _ in range(4)] == [4, 4, 2, 0]
    async with database.reading() as connection:
        assert list(await connection.scalars(select(leases.c.units).order_by(leases.c.id))) == [4, 4, 2]


async def test_each_window_begins_anew(database: Database) -> None:
    assert [await take(database, 10, window_start_us=start) for start in (0, 60)] == [10, 10]


async def test_a_limit_that_became_lower_gives_nothing(database: Database) -> None:
    assert await take(database, 8) == 8
    assert await take(database, 8, limit=5) == 0


async def test_what_is_rolled_back_was_not_taken(database: Database) -> None:
    try:
        async with database.transaction() as connection:
            await taken(connection, LeaseRequest("key:a", 0, 10, 10, "p", 1))
            raise LookupError
    except LookupError:
        assert await take(database, 10) == 10


async def test_leases_go_with_their_window(database: Database) -> None:
    await take(database, 1)
    async with database.transaction() as connection:
        await connection.execute(rate_windows.delete())
        assert await connection.scalar(select(func.count()).select_from(leases)) == 0


async def test_tasks_that_take_at_once_share_the_limit(database: Database) -> None:
    assert sum(await asyncio.gather(*(take(database, 3, limit=25) for _ in range(20)))) == 25


async def test_processes_that_take_at_once_share_the_limit(database: Database, program: Program) -> None:
    processes = [program.start("take", "scope", "200", "3") for _ in range(HOLDERS)]
    assert [await line(process) for process in processes] == ["ready"] * HOLDERS
    totals = await asyncio.gather(*(rest(process) for process in processes))
    assert sum(int(total) for total in totals) == 200
    async with database.reading() as connection:
        assert await connection.scalar(select(func.sum(leases.c.units))) == 200
        assert await connection.scalar(select(rate_windows.c.granted)) == 200
