import asyncio

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

from gateway_core.storage.database import Database
from gateway_core.storage.errors import SchemaTooNew
from gateway_core.storage.location import Location
from gateway_core.storage.migration import FOLDER
from gateway_core.storage.open_calls import open_calls
from gateway_core.storage.tables import catalog, coordination, identity, metering, webhook
from gateway_core.storage.tables.schema import metadata
from tests.gateway_core.storage.program import Program, go, line, rest

STARTS = 4


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def test_the_migrations_make_the_tables_that_the_statements_are_written_for(database: Database) -> None:
    assert {module.__name__.rpartition(".")[2] for module in (catalog, coordination, identity, metering, webhook)}
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_every_index_has_its_condition(database: Database) -> None:
    def conditions(connection: Connection) -> dict[str, bool]:
        dialect = connection.dialect.name
        found = inspect(connection)
        rows = (row for table in metadata.tables for row in found.get_indexes(table))
        return {str(row["name"]): f"{dialect}_where" in row.get("dialect_options", {}) for row in rows}

    async with database.reading() as connection:
        made = await connection.run_sync(conditions)
    meant = {
        str(index.name): index.dialect_options["sqlite"]["where"] is not None
        for table in metadata.tables.values()
        for index in table.indexes
    }
    assert made == meant


async def test_migrating_again_changes_nothing(database: Database) -> None:
    await database.migrate()
    async with database.reading() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


async def test_the_tables_of_a_newer_version_are_left_alone(place: Location) -> None:
    async with Database(place) as database, database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="revision 9999, which a newer version of Headgate made"):
        await Database(place).open()


async def test_a_migration_that_fails_leaves_nothing(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE half (x INTEGER)"))
        raise LookupError

    monkeypatch.setattr("gateway_core.storage.database.upgrade", broken)
    with pytest.raises(LookupError):
        await Database(place).open()
    monkeypatch.undo()
    async with Database(place) as database, database.reading() as connection:
        assert "half" not in await connection.run_sync(lambda sync: inspect(sync).get_table_names())


async def test_processes_that_start_at_once_all_come_up(program: Program, place: Location) -> None:
    processes = [program.start("migrate") for _ in range(STARTS)]
    assert [await line(process) for process in processes] == ["ready"] * STARTS
    go(processes)
    assert [await line(process) for process in processes] == ["open"] * STARTS
    await asyncio.gather(*(rest(process) for process in processes))
    async with Database(place) as database, database.reading() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1
        assert await connection.run_sync(differences) == []


def first_tables(connection: Connection) -> None:
    """What the first version had, with a call that a dead process left open, and one that has ended."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER))
    command.upgrade(config, "0001")
    columns = "id, request_id, process_id, account_id, operation, streamed, requested_model, status, started_us, metadata, delivered_tokens"
    for id_, status in (("1" * 36, "open"), ("2" * 36, "ok")):
        row = f"'{id_}', 'r', 'dead', 'a', 'chat', true, 'small', '{status}', 7, '{{\"team\": \"x\"}}', 3"
        connection.execute(text(f"INSERT INTO ledger_requests ({columns}) VALUES ({row})"))


async def test_calls_that_were_open_are_in_the_journal(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("gateway_core.storage.database.upgrade", first_tables)
        async with Database(place):
            pass
    async with Database(place) as database, database.reading() as connection:
        (call,) = await open_calls(connection)
        ended = list(await connection.scalars(select(metering.ledger_requests.c.id)))
    assert ended == ["2" * 36]
    assert (call.id, call.process_id, call.account_id, call.streamed) == ("1" * 36, "dead", "a", True)
    assert (call.metadata, call.delivered_tokens, call.started_us, call.status) == ({"team": "x"}, 3, 7, "open")
