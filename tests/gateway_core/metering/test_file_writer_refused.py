"""The journal in a file over a database that answers, and does not write: a disk that is full, a server that only reads."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway_core.metering.file_writer import MOST_TOGETHER
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.ledger_writer import RETRIED_AT_ONCE
from gateway_core.storage.database import Database
from gateway_core.storage.location import Location, PostgresqlServer
from tests.gateway_core.metering.rows import charged_and_moved
from tests.gateway_core.metering.test_file_writer import ANSWERED, MILLION, failing, spoken, writer_of
from tests.support.upstream import reached

COUNT = 4 * MOST_TOGETHER
IN_MEMORY = RETRIED_AT_ONCE + 2 * MOST_TOGETHER


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    kept = Ledger(database, has_files=True)
    await kept.start()
    yield kept
    await kept.close()


async def call(ledger: Ledger) -> None:
    """Makes as many calls as COUNT, and has the writer try them."""
    for number in range(COUNT):
        await ledger.settle(await spoken(ledger), ANSWERED)
        if number % 100 == 0:
            await writer_of(ledger).settled()
    await writer_of(ledger).settled()


async def test_what_a_database_does_not_write_waits_in_the_file_and_is_written_once(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        await call(ledger)
        for _ in range(5):
            writer.retry()  # at each heartbeat
            await writer.settled()
        assert len(writer.unwritten) <= IN_MEMORY
        assert len(writer.unwritten) + len(writer._waiting) == writer.left == COUNT
        assert database.is_behind()
    writer.retry()
    await reached(lambda: not writer._closed, within=30)
    assert not database.is_behind()
    assert await charged_and_moved(database) == (3 * COUNT * MILLION, 3 * COUNT * MILLION, 0)


async def test_few_ends_that_the_database_is_never_there_for_hold_up_no_others(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", failing)
        await ledger.settle(await spoken(ledger), ANSWERED)
        await writer.settled()
    await ledger.settle(await spoken(ledger), ANSWERED)
    assert not database.is_behind()
    assert await writer.settled() == {}


async def test_a_server_that_only_reads_is_waited_for_and_told_of_once(
    ledger: Ledger, database: Database, place: Location
) -> None:
    if not isinstance(place, PostgresqlServer):
        pytest.skip("SQLite has no server that takes over")
    writer = writer_of(ledger)
    operator = await asyncpg.connect(place.dsn)
    name = await operator.fetchval("SELECT current_database()")
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = $1"
    await operator.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await operator.execute(others.replace("$1", f"'{name}'"))
    with capture_logs() as logs:

        def told() -> list[Any]:
            return [each for each in logs if each["event"].startswith("ledger_")]

        def is_told() -> bool:
            writer.retry()  # at each heartbeat; before, the loss of the connections themselves may have been seen
            return bool(told())

        await call(ledger)
        await reached(is_told, within=30)
        await writer.settled()
    assert len(told()) == 1
    assert not writer._writer.refused
    assert len(writer.unwritten) <= IN_MEMORY
    assert writer.left == COUNT
    await operator.execute("SET default_transaction_read_only = off")
    await operator.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await operator.execute(others.replace("$1", f"'{name}'"))
    await operator.close()

    def is_written() -> bool:
        writer.retry()
        return not writer._closed

    await reached(is_written, within=30)
    assert await charged_and_moved(database) == (3 * COUNT * MILLION, 3 * COUNT * MILLION, 0)
