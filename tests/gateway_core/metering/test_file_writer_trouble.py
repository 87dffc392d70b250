import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway_core.metering.balance import IDLE_REFRESHES, Balances
from gateway_core.metering.journal_place import journals
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.record import Record
from gateway_core.storage import journal_file
from gateway_core.storage.account import add_account
from gateway_core.storage.balance import CreditRow, add_credit
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import new_id
from gateway_core.storage.journal_file import JournalFile
from gateway_core.storage.journal_line import FORMAT, opened_line
from gateway_core.storage.location import Location
from tests.gateway_core.metering.rows import asked, charged_and_moved, directory_at, requests, text, told
from tests.gateway_core.metering.test_file_writer import ANSWERED, MILLION, failing, kill, spoken, writer_of

ACCOUNT = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
async def database(place: Location) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        async with opened.transaction() as connection:
            await add_account(connection, {"id": ACCOUNT, "name": "a"})
        yield opened


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    kept = Ledger(database, has_files=True)
    await kept.start()
    yield kept
    await kept.close()


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracebacks are not drawn: on a busy machine that takes longer than whoever reads waits."""
    monkeypatch.setattr("gateway_core.metering.ledger_writer.log.exception", lambda *_, **__: None)


def full(*_: object) -> None:
    raise StorageUnavailable("It is full.")


async def add(database: Database, reference: str, amount: int) -> None:
    async with database.transaction() as connection:
        await add_credit(connection, CreditRow(new_id(), ACCOUNT, reference, None, amount, amount, None, 1))


async def spoken_for_account(ledger: Ledger) -> Record:
    record = await ledger.open(asked(account_id=ACCOUNT))
    record.measure.note(told(1, 1))
    return record


async def refused(ledger: Ledger) -> str:
    """The id of a call whose end the database will never have."""
    record = await ledger.open(asked()._replace(gateway_version=1 << 63))
    await ledger.settle(record, ANSWERED)
    return record.id


async def test_an_end_that_is_never_written_keeps_no_balance_from_being_read(
    ledger: Ledger, database: Database
) -> None:
    balances = Balances(database)
    await add(database, "first", 4 * MILLION)
    held = await balances.balance(ACCOUNT)
    assert held is not None
    await refused(ledger)
    await ledger.settle(await spoken_for_account(ledger), ANSWERED)
    held.settle(0, 3 * MILLION)
    await add(database, "second", 10 * MILLION)
    await balances.refresh()
    held.reserve(11 * MILLION)  # all that is left


async def test_what_is_not_in_the_ledger_counts_however_often_the_balance_is_read(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    balances = Balances(database)
    await add(database, "first", 4 * MILLION)
    held = await balances.balance(ACCOUNT)
    assert held is not None
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        await ledger.settle(await spoken_for_account(ledger), ANSWERED)
        held.settle(0, 3 * MILLION)
        for _ in range(IDLE_REFRESHES + 2):
            await balances.refresh()
        assert balances.known(ACCOUNT) is held
    await balances.refresh()
    with pytest.raises(Exception, match="balance is left"):
        held.reserve(MILLION + 1)
    writer_of(ledger).retry()
    for _ in range(IDLE_REFRESHES + 2):
        await balances.refresh()
    assert balances.known(ACCOUNT) is None


async def test_whoever_reads_waits_for_nothing_that_ends_meanwhile(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = database.write
    writer = writer_of(ledger)

    async def slow(work: Any) -> Any:
        await ledger.settle(await spoken(ledger), ANSWERED)
        writer._hand()  # as the timer does while the disk is slow
        return await write(work)

    await ledger.settle(await spoken(ledger), ANSWERED)
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", slow)
        async with asyncio.timeout(10):
            assert await writer.settled() == {}
    await writer.settled()


async def test_whoever_reads_waits_for_no_database_that_does_not_answer(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = database.write
    goes_on = asyncio.Event()

    async def locked(work: Any) -> Any:
        await goes_on.wait()
        return await write(work)

    monkeypatch.setattr(database, "write", locked)
    monkeypatch.setattr("gateway_core.metering.file_writer.SETTLED_SECONDS", 0.01)
    await ledger.settle(await spoken_for_account(ledger), ANSWERED)
    async with asyncio.timeout(10):
        assert await writer_of(ledger).settled() == {ACCOUNT: 3 * MILLION}
    goes_on.set()
    await writer_of(ledger)._writer.rest()
    assert await writer_of(ledger).settled() == {}


async def test_an_end_for_which_there_was_no_room_leaves_the_opening_to_whoever_comes_next(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(place)
    await database.open()
    killed = Ledger(database, has_files=True)
    await killed.start()
    record = await killed.open(asked(count_prompt=lambda: 2))
    record.measure.note(text("eight ch"))
    killed.checkpoint()
    journal = writer_of(killed)._journal
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        patched.setattr(journal, "put", full)
        with pytest.raises(StorageUnavailable):
            await killed.settle(record, ANSWERED)
        await writer_of(killed).settled()
    assert journal._segments[-1].lines == 2
    await kill(killed, database)
    async with Database(place) as after:
        following = Ledger(after, has_files=True)
        await following.start()
        (row,) = await requests(after)
        await following.close()
    assert (row["status"], row["charged_pico_usd"]) == ("interrupted", (2 + 2 * 2) * MILLION)


async def test_ends_that_are_never_written_keep_few_files(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "SEGMENT_BYTES", 1 << 16)
    monkeypatch.setattr(journal_file, "SPARE_LEFT", 1 << 15)
    monkeypatch.setattr("gateway_core.metering.file_writer.SETTLED_SECONDS", 60.0)
    writer = writer_of(ledger)
    writer._journal._segments[-1].end = 1 << 16
    ids = set()
    for _ in range(20):
        ids.add(await refused(ledger))
        for _ in range(60):
            await ledger.settle(await spoken(ledger), ANSWERED)
            if writer._caring is not None:
                await asyncio.wait((writer._caring,))
        await writer.settled()
        for _ in range(3):
            writer.note(())
    assert len(writer._journal) <= 10
    assert set(writer.unwritten) == ids == set(writer._closed)


async def test_what_is_to_do_in_the_journal_while_something_is_done_is_done_too(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(ledger)
    journal = writer._journal
    care = journal.care

    def used_meanwhile() -> None:
        monkeypatch.setattr(journal, "care", care)
        care()
        while journal._spares:
            journal._spares.pop().remove()

    monkeypatch.setattr(journal, "care", used_meanwhile)
    writer._wants_care()
    assert writer._caring is not None
    await asyncio.wait((writer._caring,))
    assert journal.has_spare


async def killed_at(place: Location) -> Record:
    """A call that a killed process had ended in its file."""
    theirs = Database(place)
    await theirs.open()
    ledger = Ledger(theirs, has_files=True)
    await ledger.start()
    record = await spoken(ledger)
    await ledger.settle(record, ANSWERED)
    await kill(ledger, theirs)
    return record


async def test_a_journal_that_cannot_be_opened_keeps_no_other_from_being_closed(place: Location) -> None:
    await killed_at(place)
    (directory_at(place) / "0.lock").mkdir()  # as if it were another user's
    async with Database(place) as database:
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        assert await charged_and_moved(database) == (3 * MILLION, 3 * MILLION, 0)
        await ledger.close()


async def test_files_of_a_journal_that_cannot_be_read_keep_no_other_from_being_closed(place: Location) -> None:
    await killed_at(place)
    directory = directory_at(place)
    (directory / "0.lock").touch()
    (directory / "0-00000001.calls").mkdir()
    async with Database(place) as database:
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        assert await charged_and_moved(database) == (3 * MILLION, 3 * MILLION, 0)
        await ledger.beat()
        await ledger.close()
    assert {each.name for each in directory.iterdir()} == {"0.lock", "0-00000001.calls"}


async def test_files_are_closed_by_a_process_whose_journal_is_in_the_database(place: Location) -> None:
    await killed_at(place)
    async with Database(place) as database:
        ledger = Ledger(database)
        await ledger.start()
        assert await charged_and_moved(database) == (3 * MILLION, 3 * MILLION, 0)
        await ledger.close()
    assert list(directory_at(place).iterdir()) == []


async def test_where_another_version_wrote_of_ends_no_call_is_closed_without_its_end(place: Location) -> None:
    async with Database(place) as database:
        directory = await journals(database)
        theirs = JournalFile(directory, "theirs", lambda: None)
        theirs.open()
        record = Record(asked(account_id=ACCOUNT), "theirs")
        theirs.put(opened_line(record.opening))
        theirs.put(orjson.dumps((FORMAT + 1, "whatever", record.id)))
        theirs.close(is_kept=True)
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        assert [row["status"] for row in await requests(database)] == ["open"]
        await ledger.close()
    assert len(list(directory.iterdir())) == 2


async def test_a_call_whose_price_cannot_be_read_keeps_no_other_of_its_file_from_being_closed(place: Location) -> None:
    async with Database(place) as database:
        directory = await journals(database)
        theirs = JournalFile(directory, "theirs", lambda: None)
        theirs.open()
        records = [Record(asked(account_id=ACCOUNT), "theirs") for _ in range(5)]
        bad = records[2]
        for record in records:
            line = opened_line(record.opening)
            theirs.put(line.replace(b'"1"', b'"dear"') if record is bad else line)
        theirs.close(is_kept=True)
        ledger = Ledger(database, has_files=True)
        await ledger.start()
        found = {row["id"]: row["status"] for row in await requests(database)}
        await ledger.close()
    assert found == dict.fromkeys([record.id for record in records], "interrupted") | {bad.id: "open"}
    assert len(list(directory.iterdir())) == 2
