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
from tests.gateway_core.metering.rows import asked, attempts, charged_and_moved, requests, text, told

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


async def test_texts_that_no_database_takes_are_mended(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(requested_model="a\0b", tag="\0", metadata={"n\0": "v\0"}))
    event = text("hello")
    event.model = "m\0"
    record.measure.note(event)
    await ledger.settle(record, Outcome("ok", (Attempt("lab", "t\0", "ok", 1.0, 2.0, 200),)))
    (row,) = await requests(database)
    assert (row["requested_model"], row["tag"], row["response_model"]) == ("a\ufffdb", "\ufffd", "m\ufffd")
    assert row["metadata"] == {"n\ufffd": "v\ufffd"}


async def test_a_call_that_cannot_be_written_does_not_take_others_with_it(database: Database, ledger: Ledger) -> None:
    await ledger.open(asked())  # the writer is at rest, so that the next go together
    bad = asked()._replace(gateway_version=1 << 70)
    opened = await asyncio.gather(ledger.open(asked()), ledger.open(bad), ledger.open(asked()), return_exceptions=True)
    assert [isinstance(each, Exception) for each in opened] == [False, True, False]
    assert [row["status"] for row in await requests(database)] == ["open"] * 3


async def test_a_closed_call_has_its_cost_and_the_balance_has_moved(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked())
    for event in (text("hello"), told(10, 3)):
        record.measure.note(event)
    await ledger.settle(record, ANSWERED)
    (row,) = await requests(database)
    assert (row["status"], row["prompt_tokens"], row["completion_tokens"]) == ("ok", 10, 3)
    assert row["cost_pico_usd"] == row["charged_pico_usd"] == record.cost == 16 * MILLION
    assert (row["provider"], row["response_model"], row["finish_reason"], row["attempt_count"]) == (
        "lab",
        "tiny",
        "stop",
        1,
    )
    assert await charged_and_moved(database) == (16 * MILLION, 16 * MILLION, 0)
    (attempt,) = await attempts(database)
    assert (attempt["status"], attempt["http_status"], attempt["cost_pico_usd"]) == ("ok", 200, 16 * MILLION)


async def test_a_call_is_closed_once(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked())
    record.measure.note(told(10, 3))
    await asyncio.gather(ledger.settle(record, ANSWERED), ledger.settle(record, ANSWERED))
    ledger.end(record, Outcome("cancelled"))
    await ledger.settle(await ledger.open(asked()), Outcome("cancelled"))
    assert [row["status"] for row in await requests(database)] == ["ok", "cancelled"]
    assert await charged_and_moved(database) == (16 * MILLION, 16 * MILLION, 0)


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


async def test_what_broke_off_is_charged_with_what_was_delivered(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(count_prompt=lambda: 7))
    record.measure.note(text("twelve chars"))
    await ledger.settle(record, Outcome("cancelled", (Attempt("lab", "tiny", "cancelled", 1.0, 2.0, 200),)))
    (row,) = await requests(database)
    assert (row["estimated_prompt_tokens"], row["delivered_tokens"], row["prompt_tokens"]) == (7, 3, None)
    assert row["cost_pico_usd"] == (7 + 3 * 2) * MILLION
    assert await charged_and_moved(database) == (13 * MILLION, 13 * MILLION, 0)


async def test_what_was_delivered_after_the_provider_told_is_added(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked())
    for event in (told(10, 1), text("eight ch")):
        record.measure.note(event)
    await ledger.settle(record, Outcome("cancelled"))
    (row,) = await requests(database)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 3)


async def test_a_providers_zero_is_zero(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(count_prompt=lambda: 7))
    for event in (text("hello"), told(0, 0)):
        record.measure.note(event)
    await ledger.settle(record, ANSWERED)
    (row,) = await requests(database)
    assert (row["cost_pico_usd"], row["prompt_tokens"], row["completion_tokens"]) == (0, 0, 0)


async def test_failed_attempts_cost_nothing(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked())
    record.measure.note(told(1, 1))
    tried = (Attempt("a", "m", "provider_refused", 1.0, 2.0, 500), Attempt("b", "m", "ok", 2.0, 3.0, 200))
    await ledger.settle(record, Outcome("ok", tried))
    first, second = await attempts(database)
    assert (first["number"], first["cost_pico_usd"], first["prompt_tokens"]) == (1, 0, None)
    assert (second["number"], second["cost_pico_usd"], second["prompt_tokens"]) == (2, 3 * MILLION, 1)


async def test_a_call_that_fails_before_an_answer_costs_nothing(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(count_prompt=lambda: 7))
    await ledger.settle(record, Outcome("provider_refused", (Attempt("a", "m", "provider_refused", 1.0, 2.0, 500),)))
    (row,) = await requests(database)
    assert (row["status"], row["charged_pico_usd"]) == ("provider_refused", 0)
    assert [attempt["cost_pico_usd"] for attempt in await attempts(database)] == [0]


async def test_without_a_price_the_cost_is_not_known(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(price=None))
    record.measure.note(told(5, 5))
    await ledger.settle(record, ANSWERED)
    (row,) = await requests(database)
    assert (row["cost_pico_usd"], row["charged_pico_usd"], row["prompt_tokens"]) == (None, 0, 5)


async def test_what_is_reserved_is_released(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(reserved=50))
    assert await charged_and_moved(database) == (0, 0, 50)
    await ledger.settle(record, Outcome("cancelled"))
    assert await charged_and_moved(database) == (0, 0, 0)


async def test_a_caller_that_leaves_while_its_call_is_opened_leaves_none_open(
    database: Database, ledger: Ledger
) -> None:
    await ledger.open(asked())
    opening = asyncio.create_task(ledger.open(asked()))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await ledger.settle(await ledger.open(asked()), ANSWERED)
    assert [row["status"] for row in await requests(database)] == ["open", "cancelled", "ok"]


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
        return ledger_rows.Closing(
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
