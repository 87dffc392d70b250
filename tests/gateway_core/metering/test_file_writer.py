import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway_core.metering.file_call import read_again
from gateway_core.metering.file_writer import FileWriter
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.record import Attempt, Outcome, Record
from gateway_core.storage import journal_file
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.location import Location
from tests.gateway_core.metering.rows import asked, charged_and_moved, directory_at, requests, text, told
from tests.rest_bridge.edge.eventually import eventually

MILLION = 10**6
ANSWERED = Outcome("ok", (Attempt("lab", "tiny", "ok", 1.0, 2.0, 200),))


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    kept = Ledger(database, has_files=True)
    await kept.start()
    yield kept
    await kept.close()


def writer_of(ledger: Ledger) -> FileWriter:
    assert isinstance(ledger._writer, FileWriter)
    return ledger._writer


async def failing(_: object) -> None:
    raise StorageUnavailable("It is away.")


async def kill(ledger: Ledger, database: Database) -> None:
    """Ends a ledger as a SIGKILL does: nothing is written any more, and its lock is free."""
    assert ledger._ticking is not None
    ledger._ticking.cancel()
    await asyncio.wait((ledger._ticking,))
    writer = writer_of(ledger)
    if writer._gathering is not None:
        writer._gathering.cancel()
    if writer._handed:
        await asyncio.wait(writer._handed)
    await writer._writer.rest()
    for segment in writer._journal._segments:
        segment.lines = 1  # whatever they are, they stay
    writer._journal.close(is_kept=True)
    await database.close()


async def spoken(ledger: Ledger, count: int = 1) -> Record:
    record = await ledger.open(asked())
    record.measure.note(told(count, count))
    return record


async def test_neither_the_opening_nor_the_end_of_a_call_waits(ledger: Ledger, database: Database) -> None:
    record = await spoken(ledger)
    settling = ledger.settle(record, ANSWERED)
    with pytest.raises(StopIteration):
        settling.send(None)
    opening = ledger.open(asked())
    with pytest.raises(StopIteration):
        opening.send(None)
    assert [row["status"] for row in await requests(database)] == ["ok", "open"]


async def test_what_is_read_of_the_ledger_has_all_that_has_ended(ledger: Ledger, database: Database) -> None:
    for count in range(1, 30):
        await ledger.settle(await spoken(ledger), ANSWERED)
        assert await charged_and_moved(database) == (3 * count * MILLION, 3 * count * MILLION, 0)


async def test_the_ledger_has_a_call_soon_though_nobody_reads_it(ledger: Ledger, database: Database) -> None:
    await ledger.settle(await spoken(ledger), ANSWERED)
    await eventually(lambda: not writer_of(ledger)._closed)


async def test_many_calls_share_transactions(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    write = database.write

    async def counted(work: Any) -> Any:
        nonlocal count
        count += 1
        return await write(work)

    await ledger.settle(await spoken(ledger), ANSWERED)
    monkeypatch.setattr(database, "write", counted)
    for _ in range(300):
        await ledger.settle(await spoken(ledger), ANSWERED)
    await writer_of(ledger).settled()
    assert count <= 2
    assert await charged_and_moved(database) == (903 * MILLION, 903 * MILLION, 0)


async def test_calls_go_on_while_the_database_is_away_and_are_in_the_ledger_when_it_is_back(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        for _ in range(20):
            await ledger.settle(await spoken(ledger), ANSWERED)
        await writer_of(ledger).settled()
        assert len(writer_of(ledger).unwritten) == 20
        assert await charged_and_moved(database) == (0, 0, 0)
    writer_of(ledger).retry()  # at each heartbeat
    rows = await requests(database)
    # They were delivered: nothing of them is given away.
    assert [row["status"] for row in rows] == ["ok"] * 20
    assert await charged_and_moved(database) == (60 * MILLION, 60 * MILLION, 0)


async def test_what_a_killed_process_has_in_its_file_is_charged_once(place: Location) -> None:
    theirs = Database(place)
    await theirs.open()
    killed = Ledger(theirs, has_files=True)
    await killed.start()
    silent = await killed.open(asked(reserved=5))
    heard = await killed.open(asked(count_prompt=lambda: 2))
    heard.provider = "lab"
    heard.measure.note(text("eight ch"))
    killed.checkpoint()
    in_ledger = await spoken(killed)
    await killed.settle(in_ledger, ANSWERED)
    await writer_of(killed).settled()
    in_file = await spoken(killed)
    await killed.settle(in_file, ANSWERED)
    await kill(killed, theirs)
    async with Database(place) as database:
        before = {row["id"]: row["status"] for row in await requests(database)}
        assert before == {silent.id: "open", heard.id: "open", in_ledger.id: "ok", in_file.id: "open"}
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        found = {row["id"]: row for row in await requests(database)}
        await ledger.close()
        assert {id_: row["status"] for id_, row in found.items()} == {
            silent.id: "interrupted",
            heard.id: "interrupted",
            in_ledger.id: "ok",
            in_file.id: "ok",
        }
        assert found[heard.id]["charged_pico_usd"] == (2 + 2 * 2) * MILLION
        assert found[silent.id]["charged_pico_usd"] == 0
        assert await charged_and_moved(database) == (12 * MILLION, 12 * MILLION, 0)
    assert list(directory_at(place).iterdir()) == []


async def test_a_living_process_is_left_alone_and_a_dead_one_is_found_by_the_next_heartbeat(
    place: Location, ledger: Ledger, database: Database
) -> None:
    theirs = Database(place)
    await theirs.open()
    other = Ledger(theirs, has_files=True)
    await other.start()
    await other.open(asked())
    await ledger.beat()
    assert [row["status"] for row in await requests(database)] == ["open"]
    await kill(other, theirs)
    await ledger.beat()
    assert [row["status"] for row in await requests(database)] == ["interrupted"]


async def test_a_graceful_end_leaves_no_file_and_closes_what_somebody_holds_open(
    place: Location, ledger: Ledger, database: Database
) -> None:
    await ledger.open(asked())
    await ledger.settle(await spoken(ledger), ANSWERED)
    await ledger.close()
    assert [row["status"] for row in await requests(database)] == ["interrupted", "ok"]
    assert list(directory_at(place).iterdir()) == []


async def test_an_end_without_the_database_leaves_the_file_to_the_next_start(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.metering.ledger.LAST_TRIES_SECONDS", (0.0,))
    async with Database(place) as database:
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        record = await spoken(ledger)
        with monkeypatch.context() as patched:
            patched.setattr(database, "write", failing)
            await ledger.settle(record, ANSWERED)
            await ledger.close()
        assert await charged_and_moved(database) == (0, 0, 0)
        database.process_id = "next"
        following = Ledger(database, has_files=True)
        await following.start()
        assert await charged_and_moved(database) == (3 * MILLION, 3 * MILLION, 0)
        await following.close()


async def test_one_end_that_the_database_will_not_have_takes_no_other_with_it(
    ledger: Ledger, database: Database
) -> None:
    bad = await ledger.open(asked()._replace(gateway_version=1 << 63))
    good = [await spoken(ledger) for _ in range(3)]
    await ledger.settle(bad, ANSWERED)
    for record in good:
        await ledger.settle(record, ANSWERED)
    await writer_of(ledger).settled()
    assert {row["status"] for row in await requests(database) if row["id"] != bad.id} == {"ok"}
    assert await charged_and_moved(database) == (9 * MILLION, 9 * MILLION, 0)
    assert list(writer_of(ledger).unwritten) == [bad.id]


async def test_a_call_that_finds_no_room_is_refused_and_those_that_run_end(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise StorageUnavailable("The disk is full.")

    journal = writer_of(ledger)._journal
    monkeypatch.setattr(journal, "care", full)
    running = [await spoken(ledger) for _ in range(100)]
    journal._segments[-1].end = journal_file.SEGMENT_BYTES  # the next line goes into the spare one
    running.append(await spoken(ledger))
    journal._segments[-1].end = journal_file.SPARE_LEFT
    with pytest.raises(StorageUnavailable):
        await ledger.open(asked())
    for record in running:
        await ledger.settle(record, ANSWERED)
    assert await charged_and_moved(database) == (303 * MILLION, 303 * MILLION, 0)


async def test_a_whole_answer_whose_end_cannot_be_kept_is_not_delivered_and_is_free(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await ledger.open(asked(stream=False))
    whole.measure.note(told(1, 1))
    journal = writer_of(ledger)._journal

    def full(_: bytes) -> None:
        raise StorageUnavailable("It is full.")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "put", full)
        with pytest.raises(StorageUnavailable):
            await ledger.settle(whole, ANSWERED)
    assert whole.cost == 0
    (row,) = await requests(database)
    assert (row["status"], row["charged_pico_usd"]) == ("unavailable", 0)


async def test_calls_that_take_long_keep_no_files_of_others(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(place)
    await database.open()
    ledger = Ledger(database, has_files=True)
    await ledger.start()
    monkeypatch.setattr(journal_file, "SEGMENT_BYTES", 1 << 16)
    monkeypatch.setattr(journal_file, "SPARE_LEFT", 1 << 15)
    writer = writer_of(ledger)
    writer._journal._segments[-1].end = 1 << 16
    long = await ledger.open(asked(count_prompt=lambda: 2))
    long.measure.note(text("four"))
    ledger.checkpoint()
    for _ in range(1500):
        await ledger.settle(await spoken(ledger), ANSWERED)
        if writer._caring is not None:
            await asyncio.wait((writer._caring,))
        if len(writer._closed) > 100:
            await writer.settled()
            ledger.checkpoint()
    await writer.settled()
    assert len(writer._journal) <= 10
    await kill(ledger, database)
    async with Database(place) as after:
        following = Ledger(after, has_files=True)
        await following.start()
        (row,) = [row for row in await requests(after) if row["id"] == long.id]
        await following.close()
    assert (row["status"], row["delivered_tokens"]) == ("interrupted", 1)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_each_call_is_charged_once(place: Location, seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway_core.metering.ledger.CHECKPOINT_SECONDS", 3600.0)
    chance = random.Random(seed)
    expected = 0
    ended: set[str] = set()
    for _ in range(4):
        database = Database(place)
        await database.open()
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        running: list[Record] = []
        for _ in range(60):
            step = chance.random()
            if step < 0.45:
                running.append(await spoken(ledger))
            elif step < 0.85 and running:
                record = running.pop(chance.randrange(len(running)))
                await ledger.settle(record, ANSWERED)
                ended.add(record.id)
                expected += 3 * MILLION
            elif step < 0.9:
                await writer_of(ledger).settled()
            elif step < 0.95:
                with monkeypatch.context() as patched:
                    patched.setattr(database, "write", failing)
                    await writer_of(ledger).settled()
            else:
                writer_of(ledger).retry()
        # What was told of the calls that are open was never noted, so that they cost nothing.
        await kill(ledger, database)
    async with Database(place) as database:
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        rows = await requests(database)
        await ledger.close()
        assert {row["id"] for row in rows if row["status"] == "ok"} == ended
        assert {row["status"] for row in rows} == {"ok", "interrupted"}
        assert await charged_and_moved(database) == (expected, expected, 0)


async def test_only_ends_that_are_in_the_file_are_put_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.metering.file_writer.SEGMENTS_AT_MOST", 0)
    writer = writer_of(ledger)
    journal = writer._journal
    bad = [await ledger.open(asked()._replace(gateway_version=1 << 63)) for _ in range(2)]

    def full(_: bytes) -> None:
        raise StorageUnavailable("It is full.")

    with monkeypatch.context() as patched:  # the one whose end finds no room keeps its opening there
        patched.setattr(journal, "put", full)
        with pytest.raises(StorageUnavailable):
            await ledger.settle(bad[0], ANSWERED)
    await ledger.settle(bad[1], ANSWERED)
    noted = await spoken(ledger)
    writer.note_soon(noted)
    await writer.settled()
    (old,) = journal._segments
    assert old.lines == 4
    await eventually(lambda: journal.has_spare)
    old.end = journal_file.SEGMENT_BYTES
    await ledger.settle(await spoken(ledger), ANSWERED)  # into the next
    without_line, with_line = (writer._closed[record.id] for record in bad)
    await eventually(lambda: bad[1].id in writer._writer.refused)  # `settled` does not wait for long
    writer._shorten()
    new = journal._segments[-1]
    assert writer._closed[bad[0].id] == without_line
    assert (without_line[1], without_line[2]) == ((old,), None)
    assert writer._closed[bad[1].id][1] == (new,) != with_line[1]
    assert (writer._open[noted.id][1], writer._noted[noted.id][1]) == (new, new)
    assert old.lines == 1
    await writer.settled()
    assert read_again(writer._closed[bad[1].id])[0] == bad[1].id


async def test_an_end_lets_go_of_all_lines_before_it(ledger: Ledger) -> None:
    writer = writer_of(ledger)
    (segment,) = writer._journal._segments
    record = await spoken(ledger)
    for _ in range(3):  # only the last of what was noted is needed
        writer.note_soon(record)
    assert segment.lines == 2
    await ledger.settle(record, ANSWERED)
    assert segment.lines == 1
    writer.note_soon(record)  # too late
    await writer.settled()
    assert (segment.lines, writer._open, writer._noted, writer._closed) == (0, {}, {}, {})
