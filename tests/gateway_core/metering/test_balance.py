from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.errors import InsufficientBalance
from gateway_core.metering import balance as balance_module
from gateway_core.metering.balance import IDLE_REFRESHES, IDLE_ROUND, Balance, Balances
from gateway_core.storage.account import add_account
from gateway_core.storage.balance import (
    TOPIC,
    BalanceRow,
    CreditRow,
    add_credit,
    allocate,
    balance_rows,
    change,
    credit_rows,
)
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id
from gateway_core.storage.location import Location

ACCOUNT = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
async def database(place: Location) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        async with opened.transaction() as connection:
            await add_account(connection, {"id": ACCOUNT, "name": "a"})
        yield opened


async def add(database: Database, reference: str, amount: int, expires_us: int | None = None) -> bool:
    credit = CreditRow(new_id(), ACCOUNT, reference, None, amount, amount, expires_us, 1)
    async with database.transaction() as connection:
        return await add_credit(connection, credit)


async def spend(database: Database, amount: int) -> None:
    async with database.transaction() as connection:
        await change(connection, ACCOUNT, -amount)
        await allocate(connection, ACCOUNT)


async def state(database: Database) -> tuple[int, dict[str, int]]:
    """What is settled, and what is left of each credit."""
    async with database.reading() as connection:
        (row,) = await balance_rows(connection, [ACCOUNT])
        credits = await credit_rows(connection, ACCOUNT, "", 10)
    return row.settled, {credit.reference: credit.remaining for credit in credits}


def balance(settled: int) -> Balance:
    return Balance(BalanceRow(ACCOUNT, False, None, settled, 0))


async def test_a_reference_adds_once(database: Database) -> None:
    assert [await add(database, "a", 10), await add(database, "a", 10)] == [True, False]
    assert await state(database) == (10, {"a": 10})


async def test_credits_that_expire_sooner_are_used_first(database: Database) -> None:
    await add(database, "never", 10)
    await add(database, "late", 10, 2**60)
    await add(database, "soon", 10, 2**59)
    await spend(database, 15)
    assert await state(database) == (15, {"soon": 0, "late": 5, "never": 10})


async def test_what_is_left_of_an_expired_credit_is_taken_back_once(database: Database) -> None:
    await add(database, "expired", 10, 5)
    await add(database, "never", 10)
    await spend(database, 4)
    balances = Balances(database)
    await balances.lapse()
    await balances.lapse()
    assert await state(database) == (10, {"expired": 0, "never": 10})


async def test_what_was_spent_before_a_credit_came_is_not_taken_from_it(database: Database) -> None:
    await add(database, "never", 10)
    async with database.transaction() as connection:
        await change(connection, ACCOUNT, -4)
    await add(database, "soon", 10, 2**59)
    assert await state(database) == (16, {"soon": 10, "never": 6})


async def test_a_credit_pays_what_was_owed_first(database: Database) -> None:
    await spend(database, 4)
    await add(database, "a", 10)
    assert await state(database) == (6, {"a": 6})


async def test_what_is_added_elsewhere_is_read(database: Database) -> None:
    balances = Balances(database)
    held = await balances.balance(ACCOUNT)
    assert held is not None
    with pytest.raises(InsufficientBalance):
        held.reserve(1)
    await add(database, "a", 10)
    await balances.refresh()
    held.reserve(10)


async def test_an_account_that_is_not_there_has_no_balance(database: Database) -> None:
    assert await Balances(database).balance(new_id()) is None


def test_a_cost_counts_until_it_is_read_and_not_twice() -> None:
    held = balance(10)
    held.reserve(6)
    held.settle(6, 6)
    with pytest.raises(InsufficientBalance):
        held.reserve(5)
    mark = held.begin_reading()
    held.reserve(2)
    held.settle(2, 2)
    held.read(BalanceRow(ACCOUNT, False, None, 4, 6), mark)
    with pytest.raises(InsufficientBalance):
        held.reserve(3)
    held.reserve(2)


def test_of_two_readings_at_once_the_later_one_counts() -> None:
    held = balance(10)
    early = held.begin_reading()
    held.reserve(6)
    held.settle(6, 6)
    late = held.begin_reading()
    held.read(BalanceRow(ACCOUNT, False, None, 4, 6), late)
    held.read(BalanceRow(ACCOUNT, False, None, 10, 0), early)
    with pytest.raises(InsufficientBalance):
        held.reserve(5)
    held.reserve(4)


async def idle(database: Database, balances: Balances) -> Balance:
    """What an account has that has called once, long ago."""
    database.changes.outage.believed_seconds = 60.0
    held = await balances.balance(ACCOUNT)
    assert held is not None
    for _ in range(IDLE_REFRESHES + 2):
        await balances.refresh()
    return held


async def cut_off(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a process believe that its database is away."""

    async def answers() -> bool:
        return False

    monkeypatch.setattr(database.changes.outage, "_answers", answers)
    await database.changes.outage.look()


async def test_in_an_outage_each_process_has_its_part_of_what_is_left_until_it_is_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    held = await balances.balance(ACCOUNT)
    assert held is not None
    held.reserve(10)
    held.settle(10, 10)
    database.processes = 3
    database.changes.outage.believed_seconds = 60.0
    await cut_off(database, monkeypatch)
    assert balances.known(ACCOUNT) is held
    held.reserve(20)
    held.settle(20, 20)
    assert balances.known(ACCOUNT) is held  # and not a part of that part
    with pytest.raises(InsufficientBalance) as caught:
        held.reserve(11)
    assert "$0.00000000001 of the account's balance is left" in caught.value.message
    held.reserve(10)
    database.changes.outage.end()
    await balances.refresh()
    held.reserve(60)


async def test_in_an_outage_the_balance_of_an_account_is_known_that_has_not_called_for_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    held = await idle(database, balances)
    assert balances.known(ACCOUNT) is None
    await cut_off(database, monkeypatch)
    assert balances.known(ACCOUNT) is held
    database.changes.outage.end()


async def test_a_balance_that_was_changed_since_is_not_the_one_that_was_known(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    balances.open()
    await idle(database, balances)
    async with database.transaction() as connection:
        await database.changes.publish(connection, TOPIC, ACCOUNT)
    await cut_off(database, monkeypatch)
    assert balances.known(ACCOUNT) is None
    await balances.close()
    database.changes.outage.end()


async def test_in_an_outage_nothing_is_lent_that_was_spent_elsewhere_since_the_account_called(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    await idle(database, balances)
    await spend(database, 100)  # by another process: the ledger charges, and publishes nothing
    for _ in range(IDLE_ROUND):
        await balances.refresh()
    await cut_off(database, monkeypatch)
    held = balances.known(ACCOUNT)
    assert held is not None
    with pytest.raises(InsufficientBalance):
        held.reserve(1)
    database.changes.outage.end()


async def test_in_an_outage_no_balance_counts_that_was_read_too_long_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    held = await idle(database, balances)
    await cut_off(database, monkeypatch)
    held.read_at = database.changes.outage.began - 121
    assert balances.known(ACCOUNT) is None
    held.read_at = database.changes.outage.began - 119
    assert balances.known(ACCOUNT) is held
    database.changes.outage.end()


async def test_the_balances_of_all_who_do_not_call_are_read_once_in_a_round_a_few_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [new_id() for _ in range(2 * IDLE_ROUND + 1)]
    async with database.transaction() as connection:
        for id_ in ids:
            await add_account(connection, {"id": id_, "name": id_, "parent_id": ACCOUNT})
    balances = Balances(database)
    for id_ in ids:
        await balances.balance(id_)
    await idle(database, balances)
    seen: list[str] = []

    async def counted(connection: AsyncConnection, wanted: list[str]) -> list[BalanceRow]:
        assert len(wanted) <= 3
        seen.extend(wanted)
        return await balance_rows(connection, wanted)

    monkeypatch.setattr(balance_module, "balance_rows", counted)
    for _ in range(IDLE_ROUND):
        await balances.refresh()
    assert {*seen} >= {*ids, ACCOUNT}


async def test_the_balance_of_a_call_that_has_waited_for_long_is_not_taken_for_idle(database: Database) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    held = await idle(database, balances)
    held.reserve(60)
    await balances.refresh()
    assert balances.known(ACCOUNT) is held


async def test_who_cannot_be_away_remembers_no_balance_of_those_who_do_not_call(database: Database) -> None:
    balances = Balances(database)
    await balances.balance(ACCOUNT)
    for _ in range(IDLE_REFRESHES + 2):
        await balances.refresh()
    assert not balances._idle


async def test_while_a_database_does_not_write_each_process_keeps_to_its_part_however_often_it_reads(
    database: Database,
) -> None:
    await add(database, "a", 100)
    balances = Balances(database)
    database.processes = 2
    database.is_behind = lambda: True
    for _ in range(3):
        held = await balances.balance(ACCOUNT)
        await balances.refresh()
    assert held is not None
    held.reserve(50)
    held.settle(50, 50)
    await balances.refresh()
    with pytest.raises(InsufficientBalance):
        held.reserve(1)
    database.is_behind = lambda: False
    await balances.refresh()
    held = await balances.balance(ACCOUNT)
    assert held is not None
    held.reserve(50)
