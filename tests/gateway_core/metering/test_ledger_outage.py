"""What the ledger does while its database fails, is slow, or is away, and afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway_core.call import Cover
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.price import price_of_texts
from gateway_core.metering.record import Outcome, Record
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.location import Location
from gateway_core.storage.tables.coordination import processes
from gateway_core.storage.tables.metering import ledger_journal
from tests.gateway_core.metering.rows import asked, attempts, charged_and_moved, requests, text, told, writer_of
from tests.gateway_core.metering.test_ledger import ANSWERED, MILLION, dead_pid
from tests.rest_bridge.edge.eventually import eventually

Write = Callable[[Callable[[Any], Any]], Awaitable[Any]]


async def failing(_: object) -> None:
    raise StorageUnavailable("It is away.")


def failing_times(write: Write, times: int) -> Write:
    """Writes, but for so many times first."""
    left = times

    async def fails_first(work: Callable[[Any], Any]) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise StorageUnavailable("It is away.")
        return await write(work)

    return fails_first


def held(write: Write, gate: asyncio.Event) -> Write:
    """Writes when the gate is open."""

    async def slow(work: Callable[[Any], Any]) -> Any:
        await gate.wait()
        return await write(work)

    return slow


async def flushed(ledger: Ledger) -> None:
    await writer_of(ledger).rest()


def stop_ticking(ledger: Ledger) -> None:
    assert ledger._ticking is not None
    ledger._ticking.cancel()


async def journal_numbers(database: Database) -> list[int]:
    async with database.reading() as connection:
        return list(await connection.scalars(select(ledger_journal.c.number)))


async def test_a_checkpoint_that_could_not_be_written_is_written_again_and_takes_none_with_it(
    place: Location, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(place) as theirs:
        killed = Ledger(theirs)
        await killed.start()
        stop_ticking(killed)
        record = await killed.open(asked())
        record.measure.note(text("eight ch"))
        killed.checkpoint()
        await flushed(killed)
        record.measure.note(text("four"))
        with monkeypatch.context() as patched:
            patched.setattr(theirs, "write", failing)
            killed.checkpoint()
            await flushed(killed)
        killed.checkpoint()  # nothing was delivered since
        await killed.open(asked(stream=False))
        await flushed(killed)
        async with database.transaction() as connection:
            await connection.execute(update(processes).values(pid=dead_pid()))
    ledger = Ledger(database)
    await ledger.start()
    (row,) = [row for row in await requests(database) if row["id"] == record.id]
    await ledger.close()
    assert (row["status"], row["delivered_tokens"]) == ("interrupted", 3)


async def test_checkpoints_do_not_gather_while_the_database_is_slow(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_ticking(ledger)
    gate = asyncio.Event()
    record = await ledger.open(asked())
    monkeypatch.setattr(database, "write", held(database.write, gate))
    for _ in range(100):
        record.measure.note(text("four"))
        ledger.checkpoint()
        await asyncio.sleep(0)
    assert len(writer_of(ledger)._batch) <= 1
    gate.set()
    await flushed(ledger)
    assert [row["delivered_tokens"] for row in await requests(database)] == [100]


async def test_checkpoints_leave_no_rows_behind(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_ticking(ledger)
    gate = asyncio.Event()
    record = await ledger.open(asked())
    monkeypatch.setattr(database, "write", held(database.write, gate))
    for _ in range(3):
        record.measure.note(text("four"))
        ledger.checkpoint()
        await asyncio.sleep(0)
    gate.set()
    await flushed(ledger)
    await ledger.settle(record, ANSWERED)
    ledger._writer.retry()  # at each heartbeat
    await flushed(ledger)
    assert await journal_numbers(database) == []
    assert writer_of(ledger)._journal._left == {}


async def test_an_idle_process_has_an_empty_journal_after_a_heartbeat(database: Database, ledger: Ledger) -> None:
    await ledger.settle(await ledger.open(asked()), ANSWERED)
    ledger._writer.retry()
    await flushed(ledger)
    assert await journal_numbers(database) == []


async def test_calls_that_are_refused_while_the_database_is_away_leave_nothing(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        for _ in range(200):
            with pytest.raises(StorageUnavailable):
                await ledger.open(asked())
        writer = writer_of(ledger)
        assert not writer.unwritten
        assert writer._calls == len(writer._journal._emptied) == 0
    await ledger.settle(await ledger.open(asked()), ANSWERED)
    assert [row["status"] for row in await requests(database)] == ["ok"]


async def test_a_call_whose_opening_was_written_and_not_told_is_forgotten(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = database.write

    async def written_and_lost(work: Callable[[Any], Any]) -> None:
        await write(work)
        raise StorageUnavailable("The connection was lost after the commit.")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", written_and_lost)
        with pytest.raises(StorageUnavailable):
            await ledger.open(asked())
    assert [row["status"] for row in await requests(database)] == ["open"]
    ledger._writer.retry()
    await flushed(ledger)
    assert await requests(database) == []


async def test_ends_that_could_not_be_written_are_written_as_soon_as_others_can(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.metering.ledger_writer.RETRIED_AT_ONCE", 3)
    records = await asyncio.gather(*(ledger.open(asked()) for _ in range(10)))
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        for record in records:
            record.measure.note(told(1, 1))
            ledger.end(record, ANSWERED)
        await flushed(ledger)
        assert len(ledger._writer.unwritten) == 10
    await ledger.settle(await ledger.open(asked()), ANSWERED)
    await flushed(ledger)
    assert [row["status"] for row in await requests(database)] == ["ok"] * 11
    assert await charged_and_moved(database) == (30 * MILLION, 30 * MILLION, 0)


async def test_an_end_that_the_database_refuses_is_kept_and_holds_no_other(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_ticking(ledger)
    bad, *others = await asyncio.gather(*(ledger.open(asked()) for _ in range(4)))
    with monkeypatch.context() as patched:
        patched.setattr(bad, "started_us", 1 << 70)
        ends = [ledger.settle(record, ANSWERED) for record in (others[0], bad, *others[1:])]
        found = await asyncio.gather(*ends, return_exceptions=True)
    assert [isinstance(each, Exception) for each in found] == [False, True, False, False]
    assert list(ledger._writer.unwritten) == [bad.id]
    ledger._writer.retry()
    await flushed(ledger)
    assert list(ledger._writer.unwritten) == [bad.id]
    assert sorted(row["status"] for row in await requests(database)) == ["ok", "ok", "ok", "open"]


async def test_an_end_that_is_known_is_not_an_interruption_when_the_process_ends(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await ledger.open(asked())
    for event in (text("hello"), told(10, 3)):
        record.measure.note(event)
    monkeypatch.setattr(database, "write", failing_times(database.write, 2))
    with pytest.raises(StorageUnavailable):
        await ledger.settle(record, ANSWERED)
    await ledger.close()
    (row,) = await requests(database)
    assert (row["status"], row["charged_pico_usd"]) == ("ok", 16 * MILLION)


async def test_the_end_of_a_process_waits_a_while_for_the_database(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.metering.ledger.LAST_TRIES_SECONDS", (0.0, 0.0))
    record = await ledger.open(asked())
    record.measure.note(told(10, 3))
    monkeypatch.setattr(database, "write", failing_times(database.write, 5))
    with pytest.raises(StorageUnavailable):
        await ledger.settle(record, ANSWERED)
    await ledger.close()
    assert [row["status"] for row in await requests(database)] == ["ok"]


async def settled_without_database(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, **values: Any
) -> Record:
    record = await ledger.open(asked(**values))
    record.measure.note(told(10, 3))
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        with pytest.raises(StorageUnavailable):
            await ledger.settle(record, ANSWERED)
    ledger._writer.retry()
    await flushed(ledger)
    return record


async def test_a_whole_answer_that_was_kept_back_is_free(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    cover = Cover(lambda cost: cost, 77)
    for values in ({}, {"cover": cover}):
        record = await settled_without_database(database, ledger, monkeypatch, stream=False, **values)
        assert record.cost == 0
    assert cover.micro_units == 0
    rows = await requests(database)
    assert [(row["status"], row["cost_pico_usd"], row["reserve_units"]) for row in rows] == [("unavailable", 0, 0)] * 2
    assert [row["completion_tokens"] for row in rows] == [3, 3]
    assert [row["cost_pico_usd"] for row in await attempts(database)] == [0, 0]
    async with database.reading() as connection:
        assert (await proof(connection)).faults == ()


async def test_a_stream_that_was_delivered_is_charged_though_its_end_came_late(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await settled_without_database(database, ledger, monkeypatch, stream=True)
    assert record.cost == 16 * MILLION
    assert [row["status"] for row in await requests(database)] == ["ok"]
    assert await charged_and_moved(database) == (16 * MILLION, 16 * MILLION, 0)


async def test_a_cost_beyond_a_column_is_written_all_the_same(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(price=price_of_texts(("600", None, None, "20000", None, None))))
    record.measure.note(told(10**9, 10**9))
    await ledger.settle(record, ANSWERED)
    (row,) = await requests(database)
    assert (row["status"], row["cost_pico_usd"]) == ("ok", 10**18)


async def test_a_fault_in_a_heartbeat_does_not_end_the_heartbeats(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asyncio.Semaphore(0)

    async def broken() -> None:
        seen.release()
        raise ValueError("a row that nobody thought of")

    monkeypatch.setattr("gateway_core.metering.ledger.HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(ledger, "beat", broken)
    async with asyncio.timeout(10):
        for _ in range(3):
            await seen.acquire()
    monkeypatch.undo()


async def test_a_fault_in_a_checkpoint_does_not_end_the_checkpoints(database: Database, ledger: Ledger) -> None:
    def broken() -> int:
        raise ValueError("a prompt that nobody thought of")

    bad = await ledger.open(asked(count_prompt=broken))
    bad.measure.note(text("four"))
    ledger.checkpoint()
    await flushed(ledger)
    good = await ledger.open(asked())
    good.measure.note(text("four"))
    await eventually(lambda: good.checkpointed == len("four"))
    await flushed(ledger)
    assert [row["delivered_tokens"] for row in await requests(database)] == [0, 1]
    bad.estimated_prompt = 0
    await ledger.settle(bad, Outcome("cancelled"))
