"""The journal in a file, over a link to PostgreSQL that is cut at the worst moments: each call is charged once."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.metering.file_writer import MOST_TOGETHER
from gateway_core.metering.ledger import Ledger
from gateway_core.storage.database import Database
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.location import Location, location
from tests.gateway_core.metering.rows import charged_and_moved, requests
from tests.gateway_core.metering.test_file_writer import ANSWERED, MILLION, kill, spoken, writer_of
from tests.support.postgres import PostgresServer
from tests.support.relay import Relay, never
from tests.support.upstream import reached

COMMITTED = b"COMMIT\0"
"""CommandComplete's tag, which tells that it is done: https://www.postgresql.org/docs/current/protocol-flow.html."""
COMMIT = b"COMMIT;"


@pytest.fixture
async def link(postgres_server: PostgresServer) -> AsyncIterator[Relay]:
    async with Relay(postgres_server.port) as opened:
        yield opened


@pytest.fixture
async def url(postgres_server: PostgresServer) -> str:
    return await postgres_server.new_database()


@pytest.fixture
def place(url: str, tmp_path: Path) -> Location:
    """Without the link."""
    return location(SecretStr(url), tmp_path)


@pytest.fixture
def linked(url: str, link: Relay, postgres_server: PostgresServer, tmp_path: Path) -> Location:
    """By another name, so to speak, and the same database all the same."""
    return location(SecretStr(url.replace(f":{postgres_server.port}/", f":{link.port}/")), tmp_path)


async def begun(place: Location) -> tuple[Database, Ledger]:
    database = Database(place)
    database.changes.outage.believed_seconds = 60.0
    await database.open()
    ledger = Ledger(database, has_files=True)
    await ledger.start()
    return database, ledger


def cut_once(link: Relay, mark: bytes, *, answer: bool) -> list[bytes]:
    """Cuts the link where the mark comes for the first time; what is returned is filled then."""
    seen: list[bytes] = []

    def cuts_at(data: bytes, is_answer: bool) -> bool:
        if seen or is_answer != answer or mark not in data:
            return False
        seen.append(data)
        return True

    link.cuts_at = cuts_at
    return seen


@pytest.mark.parametrize(("mark", "answer"), [(COMMITTED, True), (COMMIT, False)])
async def test_a_commit_of_which_nobody_knows_whether_it_counts_is_made_up_for_exactly(
    link: Relay, linked: Location, mark: bytes, answer: bool
) -> None:
    database, ledger = await begun(linked)
    for _ in range(10):
        await ledger.settle(await spoken(ledger), ANSWERED)
    cut = cut_once(link, mark, answer=answer)
    await writer_of(ledger).settled()
    assert cut
    await reached(lambda: not database.changes.outage.is_on)
    ledger._writer.retry()
    await reached(lambda: not writer_of(ledger)._closed)
    assert [row["status"] for row in await requests(database)] == ["ok"] * 10
    assert await charged_and_moved(database) == (30 * MILLION, 30 * MILLION, 0)
    await ledger.close()
    await database.close()


async def test_a_process_that_dies_after_such_a_commit_is_buried_exactly(
    link: Relay, linked: Location, place: Location
) -> None:
    theirs, killed = await begun(linked)
    ended = [await spoken(killed) for _ in range(5)]
    for record in ended:
        await killed.settle(record, ANSWERED)
    running = await spoken(killed)
    cut_once(link, COMMITTED, answer=True)
    await writer_of(killed).settled()
    await kill(killed, theirs)
    link.cuts_at = never
    database, ledger = await begun(place)
    found = {row["id"]: row["status"] for row in await requests(database)}
    assert found == dict.fromkeys([record.id for record in ended], "ok") | {running.id: "interrupted"}
    assert await charged_and_moved(database) == (15 * MILLION, 15 * MILLION, 0)
    await ledger.close()
    await database.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_becomes_of_the_link_each_call_is_charged_once(
    link: Relay, linked: Location, place: Location, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    count = 0
    for _ in range(3):
        link.cuts_at = never
        database, ledger = await begun(linked)
        await ledger.settle(await spoken(ledger), ANSWERED)
        count += 1
        monkeypatch.setattr(database.changes.outage, "_answers", lambda: sometimes(chance))
        link.cuts_at = lambda data, is_answer: (COMMITTED if is_answer else COMMIT) in data and chance.random() < 0.2
        for _ in range(40):
            step = chance.random()
            if step < 0.8:
                await ledger.settle(await spoken(ledger), ANSWERED)
                count += 1
            elif step < 0.88:
                await writer_of(ledger).settled()
            elif step < 0.92:
                await database.changes.outage.look()
            elif step < 0.96:
                database.changes.outage.end()
            else:
                ledger._writer.retry()
        await kill(ledger, database)
    database, ledger = await begun(place)
    rows = await requests(database)
    await ledger.close()
    async with database.reading() as connection:
        proved = await proof(connection)
    assert (proved.faults, proved.open_count) == ((), 0)
    assert [row["status"] for row in rows] == ["ok"] * count
    assert await charged_and_moved(database) == (count * 3 * MILLION, count * 3 * MILLION, 0)
    await database.close()


async def sometimes(chance: random.Random) -> bool:
    return chance.random() < 0.3


async def cut_off(link: Relay, database: Database) -> None:
    """Swallows what is sent, until the process has noticed."""
    link.open.clear()
    await reached(lambda: database.changes.outage.is_on, within=30)


async def test_what_ends_in_an_outage_is_held_in_no_memory_and_written_once_when_it_is_over(
    link: Relay, linked: Location
) -> None:
    database, ledger = await begun(linked)
    writer = writer_of(ledger)
    running = await spoken(ledger)
    await cut_off(link, database)
    for _ in range(3 * MOST_TOGETHER):
        await ledger.settle(await spoken(ledger), ANSWERED)
    await ledger.settle(running, ANSWERED)
    count = 3 * MOST_TOGETHER + 1
    assert await writer.settled() == {running.account_id: 3 * count * MILLION}
    assert len(writer._waiting) == writer.left == count
    assert not writer._writer._batch
    assert not writer.unwritten
    link.open.set()
    await reached(lambda: not database.changes.outage.is_on, within=30)
    writer.retry()  # with the next heartbeat, or the next call
    await reached(lambda: not writer._closed, within=30)
    assert {row["status"] for row in await requests(database)} == {"ok"}
    assert await charged_and_moved(database) == (3 * count * MILLION, 3 * count * MILLION, 0)
    await ledger.close()
    async with database.reading() as connection:
        proved = await proof(connection)
    assert (proved.request_count, proved.faults) == (count, ())
    await database.close()


async def test_an_orderly_end_writes_what_waits_where_the_outage_is_over_and_leaves_it_else(
    link: Relay, linked: Location, place: Location
) -> None:
    for is_over in (False, True):
        database, ledger = await begun(linked)
        await ledger.settle(await spoken(ledger), ANSWERED)
        await writer_of(ledger).settled()
        await cut_off(link, database)
        for _ in range(MOST_TOGETHER + 7):
            await ledger.settle(await spoken(ledger), ANSWERED)
        await writer_of(ledger).settled()
        if is_over:
            link.open.set()
            await reached(lambda: not database.changes.outage.is_on, within=30)  # noqa: B023
        await ledger.close()
        assert (writer_of(ledger).left == 0) is is_over
        link.open.set()
        await database.close()
    following = await begun(place)
    count = 2 * (MOST_TOGETHER + 8)
    assert await charged_and_moved(following[0]) == (3 * count * MILLION, 3 * count * MILLION, 0)
    await following[1].close()
    await following[0].close()


async def test_what_another_database_has_left_goes_into_no_other(
    postgres_server: PostgresServer, place: Location, tmp_path: Path
) -> None:
    theirs, killed = await begun(place)
    record = await spoken(killed)
    await killed.settle(record, ANSWERED)
    await kill(killed, theirs)
    other, ledger = await begun(location(SecretStr(await postgres_server.new_database()), tmp_path))
    assert await requests(other) == []
    await ledger.close()
    await other.close()
    database, following = await begun(place)
    assert [row["id"] for row in await requests(database)] == [record.id]
    await following.close()
    await database.close()
