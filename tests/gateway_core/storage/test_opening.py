import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.storage.database import Database
from gateway_core.storage.errors import CannotOpen, StorageUnavailable
from gateway_core.storage.location import Location, location
from gateway_core.storage.sqlite import prepared
from gateway_core.storage.tables.coordination import settings
from tests.gateway_core.storage.rows import keep, names
from tests.support.postgres import PostgresServer


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


async def test_the_file_of_sqlite_is_its_owners(tmp_path: Path) -> None:
    async with Database(location(None, tmp_path / "new" / "data")) as database:
        await keep(database, "a")
        files = sorted((tmp_path / "new" / "data").iterdir())
        assert [file.name for file in files] == ["headgate.db", "headgate.db-shm", "headgate.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o700


async def test_a_file_that_another_process_locks_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "headgate.db"
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(asyncio.to_thread(prepared, file))
        done, _ = await asyncio.wait([opening], timeout=0.2)
        assert not done
        other.execute("COMMIT")
        await opening
        other.execute("SELECT x FROM other")  # only then does it see the new mode
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        other.close()


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
