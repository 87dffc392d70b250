"""What the dead left open is closed once, whatever is in the way, and keeps nobody from starting."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text, update
from sqlalchemy.util import await_only

from gateway_core.metering.ledger import Ledger
from gateway_core.metering.price import price_of_texts
from gateway_core.metering.process import HEARTBEAT_SECONDS, SILENCE_SECONDS, Watch
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import now_us
from gateway_core.storage.ledger import ProcessRow
from gateway_core.storage.location import Location, location
from gateway_core.storage.postgresql import PostgresqlBackend, PostgresqlStatements
from gateway_core.storage.tables.coordination import processes
from gateway_core.storage.tables.metering import ledger_journal
from tests.gateway_core.metering.rows import asked, charged_and_moved, requests, told
from tests.gateway_core.metering.test_ledger import ANSWERED, MILLION, dead_pid
from tests.gateway_core.metering.test_ledger_outage import flushed, stop_ticking
from tests.support.postgres import PostgresServer

DEAR = price_of_texts(("600", None, None, "20000", None, None))
STRANGE = "0" * 36


async def begun(database: Database) -> Ledger:
    """A ledger of which nothing more is heard."""
    ledger = Ledger(database)
    await ledger.start()
    stop_ticking(ledger)
    return ledger


async def mark_dead(database: Database, process_id: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(update(processes).where(processes.c.id == process_id).values(pid=dead_pid()))


async def start_and_end(database: Database) -> None:
    ledger = Ledger(database)
    await ledger.start()
    await ledger.close()


async def journal_rows(database: Database, process_id: str) -> Sequence[int]:
    async with database.reading() as connection:
        found = select(ledger_journal.c.number).where(ledger_journal.c.process_id == process_id)
        return list(await connection.scalars(found))


async def test_a_row_that_cannot_be_read_stays_and_keeps_nobody_from_starting(database: Database) -> None:
    bodies = ('[[["x", "y"]], []]', "[99, [], []]", "not even JSON", "7")
    async with database.transaction() as connection:
        for number, body in enumerate(bodies):
            values = {"process_id": STRANGE, "number": number, "body": body}
            await connection.execute(ledger_journal.insert().values(values))
    ledger = Ledger(database)
    await ledger.start()
    assert await requests(database) == []
    assert ledger._set_aside == {STRANGE}
    await ledger.beat()
    await ledger.close()
    assert await journal_rows(database, STRANGE) == [0, 1, 2, 3]


async def test_a_row_of_the_first_format_is_read(place: Location, database: Database) -> None:
    async with Database(place) as theirs:
        killed = await begun(theirs)
        await killed.open(asked(reserved=7))
        async with database.transaction() as connection:
            body = await connection.scalar(select(ledger_journal.c.body))
            assert body is not None
            assert body.startswith("[1,")
            await connection.execute(update(ledger_journal).values(body="[" + body.removeprefix("[1,")))
        assert await charged_and_moved(database) == (0, 0, 7)
        await mark_dead(database, theirs.process_id)
    await start_and_end(database)
    assert [row["status"] for row in await requests(database)] == ["interrupted"]


async def test_a_call_left_open_that_cost_beyond_a_column_is_closed(place: Location, database: Database) -> None:
    async with Database(place) as theirs:
        killed = await begun(theirs)
        record = await killed.open(asked(price=DEAR))
        record.measure.note(told(10**9, 10**9))
        killed.checkpoint()
        await flushed(killed)
        await mark_dead(database, theirs.process_id)
    await start_and_end(database)
    assert [(row["status"], row["cost_pico_usd"]) for row in await requests(database)] == [("interrupted", 10**18)]


async def test_a_call_that_cannot_be_closed_stays_and_the_others_are_closed(
    place: Location, database: Database
) -> None:
    async with Database(place) as theirs:
        killed = await begun(theirs)
        good = [await killed.open(asked()) for _ in range(5)]
        bad = await killed.open(asked())
        async with database.transaction() as connection:
            found = await connection.execute(select(ledger_journal).where(ledger_journal.c.body.contains(bad.id)))
            (row,) = found.all()
            body = row.body.replace('"1"', '"dear"')
            changed = update(ledger_journal).where(ledger_journal.c.number == row.number)
            await connection.execute(changed.values(body=body))
        await mark_dead(database, theirs.process_id)
    ledger = Ledger(database)
    await ledger.start()
    found_now = {row["id"]: row["status"] for row in await requests(database)}
    assert found_now == {bad.id: "open"} | dict.fromkeys([record.id for record in good], "interrupted")
    assert await journal_rows(database, theirs.process_id) == [row.number]
    await ledger.beat()
    await ledger.close()


async def test_a_burial_that_the_database_does_not_allow_now_is_made_up_for(
    place: Location, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise StorageUnavailable("It is away.")

    async with Database(place) as theirs:
        killed = await begun(theirs)
        await killed.open(asked())
        await mark_dead(database, theirs.process_id)
    ledger = Ledger(database)
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", away)
        await ledger.start()
    await ledger.beat()
    assert [row["status"] for row in await requests(database)] == ["interrupted"]
    await ledger.close()


async def test_a_process_whose_clock_is_behind_is_alive_as_long_as_it_tells(
    place: Location, database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(place) as theirs:
        with monkeypatch.context() as behind:
            behind.setattr(rows, "now_us", lambda: now_us() - 120_000_000)
            other = Ledger(theirs)
            other._host = "another machine"
            await other.start()
            await other.open(asked())
            await other.beat()
        await ledger.beat()
        assert [row["status"] for row in await requests(database)] == ["open"]
        await other.close()


def test_a_process_of_another_machine_is_dead_after_its_silence() -> None:
    now = 0.0
    watch = Watch("here", lambda: now)

    def dead(seen_us: int) -> bool:
        return bool(watch.dead([ProcessRow("p", "there", 1, 0, seen_us)]))

    assert not dead(5)
    for _ in range(int(SILENCE_SECONDS // HEARTBEAT_SECONDS)):
        now += HEARTBEAT_SECONDS
        assert not dead(6)
    now += HEARTBEAT_SECONDS
    assert not dead(6)
    now += HEARTBEAT_SECONDS
    assert dead(6)
    assert not dead(7)


def test_who_could_not_look_for_long_takes_nobody_for_dead() -> None:
    now = 0.0
    watch = Watch("here", lambda: now)
    other = ProcessRow("p", "there", 1, 0, 5)
    assert watch.dead([other]) == []
    now = 10 * SILENCE_SECONDS  # the database was away, and the other has told nothing either
    assert watch.dead([other]) == []


@pytest.fixture
async def server_place(postgres_server: PostgresServer, tmp_path: Path) -> Location:
    return location(SecretStr(await postgres_server.new_database()), tmp_path)


async def wait_for_a_lock(database: Database) -> None:
    """Until some transaction waits for another."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(10):
        while True:
            async with database.reading() as connection:
                if await connection.scalar(waiting):
                    return


async def test_a_commit_that_comes_after_the_death_counts_and_keeps_nobody_from_starting(
    server_place: Location,
) -> None:
    async with Database(server_place) as theirs, Database(server_place) as database:
        killed = await begun(theirs)
        record = await killed.open(asked())
        record.measure.note(told(10, 3))
        await mark_dead(database, theirs.process_id)
        assert isinstance(theirs._backend, PostgresqlBackend)
        batch = rows.Batch(closed=[record.closing(ANSWERED)])
        async with theirs._backend.writing.connect() as late:
            await late.begin()
            await late.run_sync(lambda own: rows.write(PostgresqlStatements(own), batch, careful=False))
            ledger = Ledger(database)
            starting = asyncio.create_task(ledger.start())
            await wait_for_a_lock(database)
            await late.commit()
        await starting
        assert [row["status"] for row in await requests(database)] == ["ok"]
        assert await charged_and_moved(database) == (16 * MILLION, 16 * MILLION, 0)
        await ledger.close()


async def test_what_a_silent_process_opens_while_it_is_buried_stays(
    server_place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, goes_on = asyncio.Event(), asyncio.Event()
    end_process = rows.end_process

    def held(*arguments: Any) -> None:
        begins.set()
        await_only(goes_on.wait())
        end_process(*arguments)

    async with Database(server_place) as theirs, Database(server_place) as database:
        silent = await begun(theirs)
        first = await silent.open(asked())
        ledger = await begun(database)
        monkeypatch.setattr(rows, "end_process", held)
        burying = asyncio.create_task(ledger._bury(theirs.process_id))
        await begins.wait()
        second = await silent.open(asked())
        goes_on.set()
        await burying
        found = {row["id"]: row["status"] for row in await requests(database)}
        assert found == {first.id: "interrupted", second.id: "open"}
        await ledger.beat()  # nobody has told that it lives
        found = {row["id"]: row["status"] for row in await requests(database)}
        assert found == {first.id: "interrupted", second.id: "interrupted"}
        await ledger.close()
