import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.location import Location, location
from tests.gateway_core.storage.program import Program, line, rest
from tests.support.postgres import PostgresServer
from tests.support.upstream import reached

WITHIN_SECONDS = 20


async def until(condition: Callable[[], bool]) -> None:
    await reached(condition, within=WITHIN_SECONDS)


def heard(database: Database, topic: str) -> list[str | None]:
    keys: list[str | None] = []

    def hear(change: Change) -> None:
        assert change.topic == topic
        keys.append(change.key)

    database.changes.subscribe(topic, hear)
    return keys


async def publish(database: Database, topic: str, *keys: str | None) -> None:
    async with database.transaction() as connection:
        for key in keys:
            await database.changes.publish(connection, topic, key)


async def test_this_process_knows_when_the_transaction_is_over(database: Database) -> None:
    keys, others = heard(database, "keys"), heard(database, "gateways")
    async with database.transaction() as connection:
        await database.changes.publish(connection, "keys", "a")
        await database.changes.publish(connection, "keys")
        assert keys == []
    assert keys == ["a", None]
    assert others == []


async def test_what_is_rolled_back_is_not_told(database: Database, place: Location) -> None:
    async with Database(place) as other:
        here, there = heard(database, "keys"), heard(other, "keys")

        async def fail() -> None:
            async with database.transaction() as connection:
                await database.changes.publish(connection, "keys", "a")
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        await publish(database, "keys", "b")
        await until(lambda: bool(there))
        assert here == there == ["b"]


async def test_another_process_is_told_once_with_the_key(database: Database, place: Location) -> None:
    async with Database(place) as other:
        here, there = heard(database, "keys"), heard(other, "keys")
        await publish(database, "keys", "a", "b", None)
        await until(lambda: len(there) >= 3)
        await publish(other, "keys", "back")
        await until(lambda: "back" in here)
        assert sorted(there, key=str) == [None, "a", "b", "back"]
        assert here == ["a", "b", None, "back"]


async def test_a_key_that_changes_again_is_told_again(database: Database, place: Location) -> None:
    async with Database(place) as other:
        there = heard(other, "keys")
        for count in range(1, 4):
            await publish(database, "keys", "a")
            await until(lambda count=count: len(there) == count)  # type: ignore[misc]


async def test_what_was_changed_before_the_start_is_not_told(database: Database, place: Location) -> None:
    await publish(database, "keys", "old")
    async with Database(place) as other:
        there = heard(other, "keys")
        await publish(database, "keys", "new")
        await until(lambda: bool(there))
        assert there == ["new"]


async def test_a_process_of_its_own_is_told(database: Database, program: Program) -> None:
    process = program.start("listen", "keys")
    assert await line(process) == "ready"
    await publish(database, "gateways", "other")
    await publish(database, "keys", "a")
    assert await line(process) == "keys a"
    await publish(database, "keys", None)
    assert await line(process) == "keys None"
    assert await rest(process) == ""


async def test_whoever_unsubscribed_is_not_told(database: Database) -> None:
    keys: list[str | None] = []
    unsubscribe = database.changes.subscribe("keys", lambda change: keys.append(change.key))
    await publish(database, "keys", "a")
    unsubscribe()
    await publish(database, "keys", "b")
    assert keys == ["a"]


async def test_a_subscriber_that_fails_is_reported_and_keeps_it_from_nobody(database: Database) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))

    def fail(_: Change) -> None:
        raise LookupError

    database.changes.subscribe("keys", fail)
    keys = heard(database, "keys")
    await publish(database, "keys", "a")
    assert keys == ["a"]
    assert [type(report["exception"]) for report in reports] == [LookupError]


async def test_publishing_needs_a_transaction(database: Database) -> None:
    async with database.reading() as connection:
        with pytest.raises(RuntimeError, match="outside a transaction"):
            await database.changes.publish(connection, "keys", "a")
    async with database.transaction() as connection:
        pass
    with pytest.raises(RuntimeError, match="outside a transaction"):
        await database.changes.publish(connection, "keys", "a")


@pytest.mark.parametrize("key", ["", "x" * 501])
async def test_a_key_that_no_notification_can_hold_is_refused(database: Database, key: str) -> None:
    async with database.transaction() as connection:
        with pytest.raises(ValueError, match="1 to 500 characters"):
            await database.changes.publish(connection, "keys", key)


async def test_the_longest_key_is_told(database: Database, place: Location) -> None:
    async with Database(place) as other:
        there = heard(other, "keys")
        await publish(database, "keys", '"\u0001ä' * 166)
        await until(lambda: bool(there))
        assert there == ['"\u0001ä' * 166]


async def test_after_a_lost_connection_anything_may_have_changed(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    place = location(SecretStr(await postgres_server.new_database()), tmp_path)
    async with Database(place) as database, Database(place) as other:
        keys, gateways = heard(other, "keys"), heard(other, "gateways")
        for lost in range(1, 3):
            await postgres_server.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query LIKE 'SELECT 1%'"
            )
            await until(lambda lost=lost: len(keys) == lost and len(gateways) == lost)  # type: ignore[misc]
        assert keys == gateways == [None, None]
        await publish(database, "keys", "a")
        await until(lambda: len(keys) == 3)
        assert keys[-1] == "a"


async def test_a_connection_that_is_lost_can_be_closed(postgres_server: PostgresServer, tmp_path: Path) -> None:
    place = location(SecretStr(await postgres_server.new_database()), tmp_path)
    async with Database(place):
        await postgres_server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
