import asyncio
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from gateway_core.storage.database import Database
from gateway_core.storage.errors import CannotOpen, Conflict, StorageError, StorageUnavailable
from gateway_core.storage.identifier import new_id
from gateway_core.storage.location import Location, location
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.coordination import settings
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import balances
from tests.gateway_core.storage.rows import account, balance, key, ledger_request
from tests.support.postgres import PostgresServer


async def names(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list(await connection.scalars(select(settings.c.name).order_by(settings.c.name)))


async def keep(database: Database, name: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(settings.insert().values(name=name, value=b"", updated_us=0))


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


async def test_closing_ends_every_thread_and_task(place: Location) -> None:
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with Database(place) as database:
        await keep(database, "a")
        await names(database)
    left = {thread for thread in set(threading.enumerate()) - threads if "asyncio" not in thread.name}
    for thread in left:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
    assert asyncio.all_tasks() == tasks


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


async def test_the_file_of_sqlite_is_its_owners(tmp_path: Path) -> None:
    async with Database(location(None, tmp_path / "new" / "data")) as database:
        await keep(database, "a")
        files = sorted((tmp_path / "new" / "data").iterdir())
        assert [file.name for file in files] == ["headgate.db", "headgate.db-shm", "headgate.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o700


async def test_a_commit_on_sqlite_is_on_the_disk(tmp_path: Path) -> None:
    async with Database(location(None, tmp_path)) as database, database.transaction() as connection:
        pragmas = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "headgate.db").write_text("Once upon a time there was a file that was none. " * 100)
    with pytest.raises(CannotOpen, match=r"database_url: cannot open .*: file is not a database"):
        await Database(location(None, tmp_path)).open()


async def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotOpen, match=r"database_url: cannot open .*: Not a directory"):
        await Database(location(None, tmp_path / "file" / "data")).open()
    with pytest.raises(CannotOpen, match=r"database_url: cannot open .*: Is a directory"):
        await Database(location(SecretStr(f"sqlite:///{tmp_path}"), tmp_path)).open()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"password": "hush-hush"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
async def test_a_server_that_refuses_is_told_without_the_password(
    postgres_server: PostgresServer, tmp_path: Path, wrong: dict[str, str], problem: str
) -> None:
    with pytest.raises(CannotOpen) as failure:
        await Database(location(SecretStr(postgres_server.url(**wrong)), tmp_path)).open()
    told = f"{failure.value} {failure.value!r}"
    assert "database_url: cannot connect to postgresql://127.0.0.1" in told
    assert problem in told
    assert "hush" not in told
    assert postgres_server.password not in told


async def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match=r"cannot connect to postgresql://127.0.0.1:1/x: "):
        await Database(location(SecretStr("postgresql://me:hush@127.0.0.1:1/x"), tmp_path)).open()


async def test_a_connection_that_dies_is_told_and_replaced(postgres_server: PostgresServer, tmp_path: Path) -> None:
    url = await postgres_server.new_database()
    async with Database(location(SecretStr(url), tmp_path)) as database:
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}'"

        async def write() -> None:
            async with database.transaction() as connection:
                await connection.execute(settings.insert().values(name="a", value=b"", updated_us=0))
                await postgres_server.run(kill)
                await connection.execute(settings.insert().values(name="b", value=b"", updated_us=0))

        with pytest.raises(StorageUnavailable, match="cannot answer now"):
            await write()
        assert await names(database) == []
        await keep(database, "c")
        await postgres_server.run(kill)
        assert await names(database) == ["c"]
