"""Money and keys that end are noticed, by whoever it is, and told of once until something else has happened."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import UpdateAccountRequest
from sqlalchemy import update

from gateway_core.errors import InsufficientBalance, SpendCapReached
from gateway_core.identity.accounts import Accounts
from gateway_core.metering.balance import Balances
from gateway_core.storage import account as accounts
from gateway_core.storage.balance import TOPIC, CreditRow, add_credit, change
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.tables.identity import keys
from gateway_core.webhooks.crossing import Crossing, rearm
from gateway_core.webhooks.event import BALANCE_EXHAUSTED, BALANCE_LOW, SPEND_CAP_REACHED
from gateway_core.webhooks.webhooks import Webhooks
from tests.gateway_core.webhooks.conftest import Post

MONEY = [BALANCE_LOW, BALANCE_EXHAUSTED, SPEND_CAP_REACHED]
DAY_US = 86400 * 1_000_000
USD = 10**12


class Till:
    """An account that is told of money, as one process holds it."""

    def __init__(self, post: Post, account: str) -> None:
        self.post = post
        self.account = account
        self.webhooks: Webhooks = post.webhooks()
        self.balances = Balances(post.store.database, self.webhooks.crossings.note)
        # Its tasks do not run: a test says when it looks.
        for topic in (TOPIC, accounts.TOPIC):
            post.store.database.changes.subscribe(topic, self.webhooks.crossings.changed)

    async def credit(self, usd: int) -> None:
        now = now_us()
        row = CreditRow(new_id(), self.account, new_id(), None, usd * USD, usd * USD, None, now)
        database = self.post.store.database
        async with database.transaction() as connection:
            assert await add_credit(connection, row)
            await rearm(connection, self.account, credited=True)
            await database.changes.publish(connection, TOPIC, self.account)

    async def charge(self, usd: int) -> None:
        """As the ledger does."""
        async with self.post.store.database.transaction() as connection:
            await change(connection, self.account, -usd * USD)

    async def change(self, **fields: Any) -> None:
        asked = UpdateAccountRequest(
            account=Account(id=self.account, **fields), update_mask=FieldMask(paths=list(fields))
        )
        await Accounts(self.post.store, self.webhooks).update(self.post.operator, asked)

    async def clear(self, name: str) -> None:
        asked = UpdateAccountRequest(account=Account(id=self.account), update_mask=FieldMask(paths=[name]))
        await Accounts(self.post.store, self.webhooks).update(self.post.operator, asked)

    async def look(self) -> None:
        """Reads what the account has, as each second does, and tells what was noticed."""
        assert await self.balances.balance(self.account) is not None
        await self.balances.refresh()
        assert await self.webhooks.crossings.write()

    async def refuse(self, usd: int, error: type[Exception] = InsufficientBalance) -> None:
        held = await self.balances.balance(self.account)
        assert held is not None
        await self.balances.refresh()
        with pytest.raises(error):
            held.reserve(usd * USD)
        assert await self.webhooks.crossings.write()

    async def told(self) -> list[str]:
        return [row.type for row in await self.post.rows(self.account)]


@pytest.fixture
async def till(post: Post) -> Till:
    return Till(post, await post.account(webhook_events=MONEY, low_balance_usd="5"))


async def test_a_low_balance_is_told_of_once_for_each_time_that_it_becomes_so(till: Till) -> None:
    await till.look()
    assert await till.told() == []  # what never was there has not ended
    await till.credit(10)
    await till.charge(5)
    await till.look()
    assert await till.told() == []  # not below
    await till.charge(1)
    for _ in range(3):
        await till.look()
    assert await till.told() == [BALANCE_LOW]
    await till.credit(1)
    await till.look()
    await till.charge(1)
    await till.look()
    assert await till.told() == [BALANCE_LOW] * 2


async def test_of_two_processes_that_notice_one_tells(till: Till) -> None:
    other = Till(till.post, till.account)
    await till.credit(10)
    await till.charge(6)
    await till.look()
    await other.look()
    assert await till.told() == [BALANCE_LOW]


async def test_what_nobody_noticed_is_found(till: Till) -> None:
    await till.credit(10)
    await till.charge(6)
    for _ in range(2):
        await till.webhooks.crossings.sweep()
        assert await till.webhooks.crossings.write()
    assert await till.told() == [BALANCE_LOW]


async def test_another_threshold_counts_from_then_on(till: Till) -> None:
    await till.credit(10)
    await till.charge(6)
    await till.look()
    await till.change(low_balance_usd="6")
    await till.look()
    assert await till.told() == [BALANCE_LOW]  # it was low, and is
    await till.change(low_balance_usd="4")
    await till.look()
    await till.charge(1)
    await till.look()
    assert await till.told() == [BALANCE_LOW] * 2
    await till.clear("low_balance_usd")
    await till.charge(1)
    await till.look()
    assert await till.told() == [BALANCE_LOW] * 2


async def test_the_first_refusal_since_a_credit_is_told_of(till: Till) -> None:
    await till.change(low_balance_usd="0.01")
    await till.refuse(1)
    await till.refuse(1)
    assert await till.told() == [BALANCE_EXHAUSTED]
    await till.credit(3)
    await till.balances.refresh()
    assert await till.told() == [BALANCE_EXHAUSTED]
    await till.refuse(4)
    await till.refuse(4)
    assert await till.told() == [BALANCE_EXHAUSTED] * 2


async def test_what_this_process_has_charged_counts_before_it_is_read_and_low_comes_before_exhausted(
    till: Till,
) -> None:
    await till.credit(10)
    held = await till.balances.balance(till.account)
    assert held is not None
    held.reserve(6 * USD)
    held.settle(6 * USD, 6 * USD)
    with pytest.raises(InsufficientBalance):
        held.reserve(5 * USD)
    assert await till.webhooks.crossings.write()
    assert await till.told() == [BALANCE_LOW, BALANCE_EXHAUSTED]
    assert ['"balance_usd":"4"' in row.body for row in await till.post.rows(till.account)] == [True, True]


async def test_a_refusal_of_before_a_credit_says_nothing_of_after_it(till: Till) -> None:
    stale = Crossing(till.account, BALANCE_EXHAUSTED, 0, cost=USD)
    await till.credit(8)
    assert not await till.webhooks.crossings.tell(stale)
    assert await till.told() == []
    await till.refuse(9)
    assert await till.told() == [BALANCE_EXHAUSTED]


async def test_a_spend_cap_is_told_of_once(till: Till) -> None:
    await till.credit(100)
    await till.change(spend_cap_usd="2")
    for _ in range(2):
        await till.refuse(3, SpendCapReached)
    await till.change(spend_cap_usd="2")
    await till.refuse(3, SpendCapReached)
    assert await till.told() == [SPEND_CAP_REACHED]
    old = Crossing(till.account, SPEND_CAP_REACHED, 100 * USD, spend_cap=2 * USD)
    await till.change(spend_cap_usd="4")
    assert not await till.webhooks.crossings.tell(old)
    await till.refuse(5, SpendCapReached)
    assert await till.told() == [SPEND_CAP_REACHED] * 2


async def test_who_wants_to_know_later_is_told_then(till: Till) -> None:
    await till.change(webhook_url="")
    await till.credit(4)
    await till.look()
    await till.refuse(5)
    assert await till.told() == []
    await till.change(webhook_url="http://127.0.0.1:1/")
    await till.look()
    await till.refuse(5)
    assert await till.told() == [BALANCE_LOW, BALANCE_EXHAUSTED]


async def test_what_cannot_be_written_is_written_later(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: Crossing) -> bool:
        raise StorageUnavailable("away")

    crossings = till.webhooks.crossings
    with monkeypatch.context() as patched:
        patched.setattr(crossings, "tell", away)
        crossings.note(Crossing(till.account, BALANCE_EXHAUSTED, 0, cost=USD))
        assert not await crossings.write()
    assert await crossings.write()
    assert await till.told() == [BALANCE_EXHAUSTED]


async def test_a_fault_with_one_account_keeps_no_other_from_being_told(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    crossings = till.webhooks.crossings
    tell = crossings.tell

    async def broken(crossing: Crossing) -> bool:
        if crossing.account_id != till.account:
            raise LookupError
        return await tell(crossing)

    monkeypatch.setattr(crossings, "tell", broken)
    for account in ("other", till.account):
        crossings.note(Crossing(account, BALANCE_EXHAUSTED, 0, cost=USD))
    assert await crossings.write()
    assert await till.told() == [BALANCE_EXHAUSTED]


async def test_a_key_that_ends_soon_is_told_of_once(post: Post) -> None:
    account = await post.account(webhook_events=["key.expiring"])

    async def ends(in_days: float, set_days_ago: float) -> None:
        now = now_us()
        values = {"expires_us": now + int(in_days * DAY_US), "updated_us": now - int(set_days_ago * DAY_US)}
        values["created_us"] = values["updated_us"]
        async with post.store.database.transaction() as connection:
            await connection.execute(update(keys).where(keys.c.account_id == account).values(**values))

    webhooks = post.webhooks()
    for in_days, set_days_ago, count in ((4, 10, 0), (2, 0, 0), (-1, 10, 0), (2, 10, 1), (1, 11, 1)):
        await ends(in_days, set_days_ago)
        await webhooks.crossings.sweep()
        assert len(await post.rows(account)) == count, in_days
    (row,) = await post.rows(account)
    assert '"label":"first"' in row.body
