import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from gateway_core.call import Cover
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.record import Attempt, Outcome
from gateway_core.storage import ledger as ledger_rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.journal import OPENED
from gateway_core.storage.location import Location
from gateway_core.storage.tables.coordination import processes
from tests.gateway_core.metering.rows import asked, charged_and_moved, requests, text, told

MILLION = 10**6
ANSWERED = Outcome("ok", (Attempt("lab", "tiny", "ok", 1.0, 2.0, 200),))


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    return dead.pid


async def test_a_call_is_in_the_database_when_it_is_open(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(tag="night", metadata={"team": "x"}))
    (row,) = await requests(database)
    assert (row["id"], row["status"], row["tag"], row["metadata"]) == (record.id, "open", "night", {"team": "x"})
    assert row["cost_pico_usd"] is None


async def test_a_call_that_cannot_be_written_does_not_take_others_with_it(database: Database, ledger: Ledger) -> None:
    await ledger.open(asked())  # the writer is at rest, so that the next go together
    bad = asked()._replace(gateway_version=1 << 70)
    opened = await asyncio.gather(ledger.open(asked()), ledger.open(bad), ledger.open(asked()), return_exceptions=True)
    assert [isinstance(each, Exception) for each in opened] == [False, True, False]
    assert [row["status"] for row in await requests(database)] == ["open"] * 3


async def test_many_calls_share_transactions(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.open(asked())
    count = 0
    write = database.write

    async def counted(work: Callable[[Any], Any]) -> Any:
        nonlocal count
        count += 1
        return await write(work)

    monkeypatch.setattr(database, "write", counted)
    records = await asyncio.gather(*(ledger.open(asked()) for _ in range(100)))
    for record in records:
        record.measure.note(told(1, 1))
    await asyncio.gather(*(ledger.settle(record, ANSWERED) for record in records))
    assert count <= 4
    assert await charged_and_moved(database) == (300 * MILLION, 300 * MILLION, 0)


@pytest.mark.parametrize("status", ["cancelled", "interrupted"])
async def test_a_caller_that_leaves_while_its_call_is_opened_leaves_none_open(
    database: Database, ledger: Ledger, status: str
) -> None:
    if status == "interrupted":
        ledger.end_comes()
    await ledger.open(asked())
    opening = asyncio.create_task(ledger.open(asked()))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await ledger.settle(await ledger.open(asked()), ANSWERED)
    assert [row["status"] for row in await requests(database)] == ["open", status, "ok"]


async def test_a_caller_that_leaves_while_its_call_is_closed_has_it_closed(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked())
    record.measure.note(told(1, 1))
    closing = asyncio.create_task(ledger.settle(record, ANSWERED))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await ledger.close()
    assert [row["status"] for row in await requests(database)] == ["ok"]
    assert await charged_and_moved(database) == (3 * MILLION, 3 * MILLION, 0)


async def test_a_database_that_fails_for_a_while_loses_nothing(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await ledger.open(asked())
    record.measure.note(told(1, 1))

    async def failing(_: object) -> None:
        raise StorageUnavailable("It is away.")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        with pytest.raises(StorageUnavailable):
            await ledger.settle(record, ANSWERED)
        with pytest.raises(StorageUnavailable):
            await ledger.open(asked())
    await ledger.close()
    assert [row["status"] for row in await requests(database)] == ["ok"]
    assert await charged_and_moved(database) == (3 * MILLION, 3 * MILLION, 0)


async def test_what_a_dead_process_left_open_is_charged_with_what_it_delivered(
    place: Location, database: Database
) -> None:
    async with Database(place) as theirs:
        killed = Ledger(theirs)
        await killed.start()
        silent = await killed.open(asked(reserved=5))
        spoken = await killed.open(asked(count_prompt=lambda: 2))
        spoken.provider = "lab"
        spoken.measure.note(text("eight ch"))
        reported = await killed.open(asked())
        reported.measure.note(told(10, 1))
        reported.measure.note(text("four"))
        covered = await killed.open(asked(cover=Cover(lambda cost: cost, 77)))
        covered.measure.note(told(10, 1))
        killed.checkpoint()
        await killed.settle(await killed.open(asked()), ANSWERED)
        assert killed._ticking is not None
        killed._ticking.cancel()
        await asyncio.wait((killed._ticking,))
        async with database.transaction() as connection:
            await connection.execute(update(processes).values(pid=dead_pid()))
    ledger = Ledger(database)
    await ledger.start()
    found = {row["id"]: row for row in await requests(database)}
    assert found[silent.id]["status"] == found[spoken.id]["status"] == found[reported.id]["status"] == "interrupted"
    assert found[silent.id]["charged_pico_usd"] == 0
    assert found[spoken.id]["charged_pico_usd"] == (2 + 2 * 2) * MILLION
    assert found[reported.id]["charged_pico_usd"] == (10 + 2 * 2) * MILLION
    # What the plan's reserve paid for is not charged once more.
    assert (found[covered.id]["charged_pico_usd"], found[covered.id]["reserve_units"]) == (0, 77)
    assert found[covered.id]["cost_pico_usd"] == 12 * MILLION
    assert await charged_and_moved(database) == (20 * MILLION, 20 * MILLION, 0)
    await ledger.beat()
    assert await charged_and_moved(database) == (20 * MILLION, 20 * MILLION, 0)
    await ledger.close()


async def test_calls_of_a_living_process_stay_open(place: Location, database: Database, ledger: Ledger) -> None:
    await ledger.open(asked())
    async with Database(place) as theirs:
        async with theirs.transaction() as connection:
            # Another process of this machine, which is there: the parent of this one, whoever it is.
            await connection.execute(update(processes).values(pid=1))
        other = Ledger(theirs)
        await other.start()
        await other.close()
    assert [row["status"] for row in await requests(database)] == ["open"]


async def test_two_ledgers_of_one_process_leave_each_other_alone(
    place: Location, database: Database, ledger: Ledger
) -> None:
    await ledger.open(asked())
    async with Database(place) as theirs:
        other = Ledger(theirs)
        await other.start()
        await ledger.beat()
        await other.close()
    assert [row["status"] for row in await requests(database)] == ["open"]


async def test_an_older_process_of_the_same_id_is_dead(place: Location, database: Database, ledger: Ledger) -> None:
    await ledger.open(asked())
    async with Database(place) as theirs:
        async with theirs.transaction() as connection:
            await connection.execute(update(processes).values(started_us=1))
        other = Ledger(theirs)
        await other.start()
        await other.close()
    assert [row["status"] for row in await requests(database)] == ["interrupted"]


async def test_two_that_find_a_dead_process_charge_once(place: Location, database: Database) -> None:
    def closing(row: Any) -> ledger_rows.Closing:
        return (
            row["id"],
            row["account_id"],
            9,
            (
                *(row[name] for name in OPENED),
                *("interrupted", *(None,) * 3, 0, *(None,) * 7, None, 0, 9, 9, 0, 1, None, None),
            ),
            (),
        )

    left = Ledger(database)
    await left.start()
    await left.open(asked())
    async with Database(place) as other:
        found = await asyncio.gather(
            *(
                each.write(lambda statements: ledger_rows.close_left_open(statements, database.process_id, closing))
                for each in (database, other)
            )
        )
    assert sorted(len(each.calls) for each in found) == [0, 1]
    assert await charged_and_moved(database) == (9, 9, 0)
    await left.close()
