import asyncio

import pytest
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import DBAPIError

from gateway_core.storage.backend import Statements
from gateway_core.storage.database import Database
from gateway_core.storage.errors import Conflict, StorageError, StorageUnavailable
from gateway_core.storage.identifier import new_id
from gateway_core.storage.location import Location, PostgresqlServer
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.coordination import settings
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import balances
from tests.gateway_core.storage.rows import KEEP, NAMES, account, balance, keep, key, ledger_request, names


async def test_what_is_committed_is_there_after_a_restart(place: Location) -> None:
    async with Database(place) as database:
        await keep(database, "a")
    async with Database(place) as database:
        assert await names(database) == ["a"]


async def test_what_raises_is_rolled_back(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as connection:
            await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))
            raise LookupError

    with pytest.raises(LookupError):
        await write()
    assert await names(database) == []
    await keep(database, "b")
    assert await names(database) == ["b"]


async def test_values_come_back_as_they_were(database: Database) -> None:
    row = {
        "id": new_id(),
        "allowed_models": ["small", "ä/\u0001\u2028"],
        "spend_cap_pico_usd": 2**63 - 1,
        "hook_secret": b"\0\xff",
        "root": True,
    }
    async with database.transaction() as connection:
        await connection.execute(account(**row))
        await connection.execute(account(parent_id=row["id"], allowed_models=None))
    async with database.reading() as connection:
        first, second = (await connection.execute(select(accounts).order_by(accounts.c.id))).mappings()
    assert {name: first[name] for name in row} == row
    assert first["root"] is True
    assert second["allowed_models"] is None
    assert second["deleted_us"] is None


async def test_null_for_a_document_is_null_in_the_database(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(account(allowed_models=None))
        assert await connection.scalar(select(func.count()).where(accounts.c.allowed_models.is_(None))) == 1


async def test_there_is_one_root_account(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(account(root=True))
    with pytest.raises(Conflict):
        async with database.transaction() as connection:
            await connection.execute(account(root=True))


async def test_an_external_ref_is_free_again_when_its_account_is_deleted(database: Database) -> None:
    parent = new_id()
    async with database.transaction() as connection:
        await connection.execute(account(id=parent, root=True))
        await connection.execute(account(parent_id=parent, external_ref="x", deleted_us=1))
        await connection.execute(account(parent_id=parent, external_ref="x"))
        await connection.execute(account(parent_id=parent))
        await connection.execute(account(parent_id=parent))
    with pytest.raises(Conflict):
        async with database.transaction() as connection:
            await connection.execute(account(parent_id=parent, external_ref="x"))


async def test_a_key_belongs_to_an_account_that_exists(database: Database) -> None:
    with pytest.raises(Conflict):
        async with database.transaction() as connection:
            await connection.execute(key(account_id=new_id(), lookup="abcd"))


async def test_a_conflict_tells_no_value(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(account(id="one", root=True))
    with pytest.raises(Conflict) as failure:
        async with database.transaction() as connection:
            await connection.execute(account(id="two", root=True, hook_secret=b"hush", name="hush"))
    assert "hush" not in f"{failure.value!r} {failure.value.__cause__}"


async def test_a_savepoint_lets_go_on_after_a_conflict(database: Database) -> None:
    await keep(database, "a")
    async with database.transaction() as connection:
        with pytest.raises(DBAPIError):
            async with connection.begin_nested():
                await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))
        await connection.execute(settings.insert().values(name="b", value=b"", updated_us=0))
    assert await names(database) == ["a", "b"]


async def test_an_insert_says_what_becomes_of_a_conflict(database: Database) -> None:
    async with database.transaction() as connection:
        for value in (b"1", b"2"):
            row = insert(connection, settings).values(name="a", value=value, updated_us=0)
            await connection.execute(
                row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value})
            )
        row = insert(connection, settings).values(name="a", value=b"3", updated_us=0)
        await connection.execute(row.on_conflict_do_nothing())
        assert await connection.scalar(select(settings.c.value)) == b"2"


async def test_a_reading_connection_cannot_write(database: Database) -> None:
    with pytest.raises((StorageError, DBAPIError), match=r"read-?only"):
        async with database.reading() as connection:
            await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))


async def test_a_reading_connection_sees_one_moment(database: Database) -> None:
    async with database.reading() as connection:
        count = select(func.count()).select_from(settings)
        assert await connection.scalar(count) == 0
        await keep(database, "a")
        assert await connection.scalar(count) == 0
    assert await names(database) == ["a"]


async def test_reading_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))
        assert await asyncio.create_task(names(database)) == []


async def test_many_writers_lose_nothing(database: Database) -> None:
    owner = new_id()
    async with database.transaction() as connection:
        await connection.execute(account(id=owner, root=True))
        await connection.execute(balance(owner))

    async def add() -> None:
        for _ in range(5):
            async with database.transaction() as connection:
                before = (await connection.execute(select(balances.c.settled_pico_usd).with_for_update())).scalar_one()
                await connection.execute(update(balances).values(settled_pico_usd=before + 1))

    await asyncio.gather(*(add() for _ in range(20)))
    async with database.reading() as connection:
        assert await connection.scalar(select(balances.c.settled_pico_usd)) == 100


async def test_a_transaction_in_a_transaction_is_refused(database: Database) -> None:
    with pytest.raises(RuntimeError, match="would wait for itself"):
        async with database.transaction(), database.transaction():
            pass
    await keep(database, "a")


async def test_work_that_runs_is_committed_or_rolled_back(database: Database) -> None:
    def insert_two(connection: Connection) -> str:
        for name in ("a", "b"):
            connection.execute(settings.insert().values(name=name, value=b"", updated_us=0))
        return "done"

    assert await database.run(insert_two) == "done"
    with pytest.raises(Conflict):
        await database.run(insert_two)
    assert await names(database) == ["a", "b"]

    def fail(connection: Connection) -> None:
        connection.execute(settings.delete())
        raise LookupError

    with pytest.raises(LookupError):
        await database.run(fail)
    assert await names(database) == ["a", "b"]


async def test_what_is_written_as_the_driver_has_it_is_committed_or_rolled_back(database: Database) -> None:
    def insert_two(statements: Statements) -> str:
        statements.many(KEEP, [("a",), ("b",)])
        return "done"

    assert await database.write(insert_two) == "done"
    with pytest.raises(Conflict):
        await database.write(insert_two)
    assert await database.write(lambda statements: list(statements.rows(NAMES, ["a"]))) == [("b",)]

    def fail(statements: Statements) -> None:
        statements.many("DELETE FROM settings WHERE name = ?", [("a",), ("b",)])
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    assert await names(database) == ["a", "b"]


async def test_a_statement_that_fails_leaves_the_writer_usable(database: Database) -> None:
    with pytest.raises(Exception, match="nowhere"):
        await database.write(lambda statements: statements.rows("SELECT * FROM nowhere"))
    await database.write(lambda statements: statements.many(KEEP, [("a",)]))
    assert await names(database) == ["a"]


async def test_work_and_transactions_take_turns(database: Database) -> None:
    def count_up_as_the_driver_has_it(statements: Statements) -> None:
        statements.many("UPDATE settings SET updated_us = updated_us + ? WHERE name = ?", [(1, "a")])

    def count_up(connection: Connection) -> None:
        number = connection.execute(select(settings.c.updated_us).with_for_update()).scalar_one()
        connection.execute(update(settings).values(updated_us=number + 1))

    async def count_up_in_a_transaction() -> None:
        async with database.transaction() as connection:
            await connection.run_sync(count_up)

    await keep(database, "a")
    await asyncio.gather(
        *(
            work
            for _ in range(25)
            for work in (
                database.run(count_up), count_up_in_a_transaction(), database.write(count_up_as_the_driver_has_it),
            )
        )
    )  # fmt: skip
    async with database.reading() as connection:
        assert await connection.scalar(select(settings.c.updated_us)) == 75


async def test_work_in_a_transaction_of_the_same_task_is_refused(database: Database) -> None:
    async with database.transaction():
        with pytest.raises(RuntimeError, match="would wait for itself"):
            await database.write(lambda _: None)


async def test_records_page_by_time_and_id(database: Database) -> None:
    async with database.transaction() as connection:
        for number in range(4):
            await connection.execute(ledger_request(started_us=number // 2))
        plan = (
            "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "SET LOCAL enable_seqscan = off; EXPLAIN"
        )
        *before, explain = plan.split("; ")
        for statement in before:
            await connection.execute(text(statement))
        page = "SELECT id FROM ledger_requests WHERE account_id = 'a' AND (started_us, id) < (2, 'x') ORDER BY started_us DESC, id DESC LIMIT 2"
        told = str((await connection.execute(text(f"{explain} {page}"))).all())
        assert "ledger_requests_account_id_started_us_id" in told
        assert "TEMP B-TREE" not in told
        assert "Sort" not in told


async def test_a_server_that_only_reads_is_not_there_for_whoever_writes(database: Database, place: Location) -> None:
    if not isinstance(place, PostgresqlServer):
        pytest.skip("SQLite has no server that takes over")

    async def write() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("SET TRANSACTION READ ONLY"))
            await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))

    with pytest.raises(StorageUnavailable, match="read-only transaction"):
        await write()
