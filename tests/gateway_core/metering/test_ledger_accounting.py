import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway_core.metering.ledger import Ledger
from gateway_core.metering.record import Attempt, Outcome
from gateway_core.storage.database import Database
from tests.gateway_core.metering.rows import asked, attempts, charged_and_moved, requests, text, told
from tests.support.postgres import PostgresServer

MILLION = 10**6
ANSWERED = Outcome("ok", (Attempt("lab", "tiny", "ok", 1.0, 2.0, 200),))


@pytest.fixture(params=["sqlite", "sqlite, with files", "postgresql", "postgresql, with files"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param.startswith("postgresql"):
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return await server.new_database()
    return f"sqlite:///{tmp_path}/{request.param}/headgate.db"


@pytest.fixture
async def ledger(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Ledger]:
    kept = Ledger(database, has_files="files" in request.node.callspec.params["database_url"])
    await kept.start()
    yield kept
    await kept.close()


async def test_texts_that_no_database_takes_are_mended(database: Database, ledger: Ledger) -> None:
    record = await ledger.open(asked(requested_model="a\0b", tag="\0", metadata={"n\0": "v\0"}))
    event = text("hello")
    event.model = "m\0"
    record.measure.note(event)
    await ledger.settle(record, Outcome("ok", (Attempt("lab", "t\0", "ok", 1.0, 2.0, 200),)))
    (row,) = await requests(database)
    assert (row["requested_model"], row["tag"], row["response_model"]) == ("a\ufffdb", "\ufffd", "m\ufffd")
    assert row["metadata"] == {"n\ufffd": "v\ufffd"}


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
