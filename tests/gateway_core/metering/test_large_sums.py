"""Money and numbers of accounts beyond what one column or one statement takes."""

import pytest
from headgate.v1.usage_pb2 import USAGE_GROUPING_ACCOUNT, USAGE_GROUPING_MODEL
from headgate.v1.usage_service_pb2 import ListUsageRecordsRequest, SummarizeUsageRequest
from sqlalchemy import insert, select

from gateway_core.call import Caller
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.price import PICO, price_of_texts
from gateway_core.metering.usage_book import UsageBook
from gateway_core.storage.account import account, add_account, delete_account
from gateway_core.storage.balance import CreditRow, add_credit
from gateway_core.storage.database import Database
from gateway_core.storage.errors import BalanceTooLarge
from gateway_core.storage.identifier import new_id
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.money import LARGEST
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import balances, credits
from tests.gateway_core.metering.rows import asked, told
from tests.gateway_core.metering.test_ledger import ANSWERED

A_MILLION = price_of_texts(("1000", None, None, "1", None, None))
"""For a thousand million tokens."""


async def test_more_than_nine_million_dollars_are_added_up(database: Database, ledger: Ledger) -> None:
    for _ in range(10):
        record = await ledger.open(asked(price=A_MILLION))
        record.measure.note(told(10**9, 0))
        await ledger.settle(record, ANSWERED)
    async with database.reading() as connection:
        found = await proof(connection)
        (moved,) = await connection.execute(select(balances.c.settled_pico_usd, balances.c.spent_pico_usd))
    assert found.faults == ()
    assert found.charged == 10_000_000 * PICO
    assert tuple(moved) == (-LARGEST, LARGEST)  # as integers: they stand still at the end of the column
    request = SummarizeUsageRequest(group_by=USAGE_GROUPING_MODEL, include_sub_accounts=True)
    summaries = await UsageBook(database).summaries(Caller(is_root=True), request)
    assert summaries.total.cost_usd == summaries.summaries[0].cost_usd == "10000000"


async def test_credits_beyond_what_a_column_takes_are_refused(database: Database) -> None:
    id_, amount = new_id(), 9_000_000 * PICO + 1

    def credit(reference: str) -> CreditRow:
        return CreditRow("", id_, reference, None, amount, amount, None, 1)

    async with database.transaction() as connection:
        await add_account(connection, {"id": id_, "name": "a"})
        assert await add_credit(connection, credit("a"))
    with pytest.raises(BalanceTooLarge):
        async with database.transaction() as connection:
            await add_credit(connection, credit("b"))
    async with database.transaction() as connection:
        assert not await add_credit(connection, credit("a"))  # the same again adds nothing, and is no fault
    async with database.reading() as connection:
        assert await connection.scalar(select(balances.c.settled_pico_usd)) == amount
        assert list(await connection.scalars(select(credits.c.reference))) == ["a"]
        assert (await proof(connection)).faults == ()


async def test_many_sub_accounts_are_summed_up_listed_and_deleted(database: Database, ledger: Ledger) -> None:
    top = new_id()
    ids = [new_id() for _ in range(33_000)]  # more than a statement has parameters
    row = {"root": False, "parent_id": top, "name": "a", "created_us": 1, "updated_us": 1}
    async with database.transaction() as connection:
        await add_account(connection, {"id": top, "root": False, "name": "top"})
        await connection.execute(insert(accounts), [{**row, "id": id_} for id_ in ids])
    for id_ in (top, ids[-1]):
        record = await ledger.open(asked(account_id=id_))
        record.measure.note(told(10, 5))
        await ledger.settle(record, ANSWERED)
    running = await ledger.open(asked(account_id=ids[0]))
    book, caller = UsageBook(database), Caller(account_id=top, is_root=True)
    request = SummarizeUsageRequest(group_by=USAGE_GROUPING_ACCOUNT, include_sub_accounts=True)
    found = await book.summaries(caller, request)
    assert {summary.group for summary in found.summaries} == {top, ids[-1]}
    records, _ = await book.records(caller, ListUsageRecordsRequest(include_sub_accounts=True))
    assert {record.account_id for record in records} == {top, ids[-1], ids[0]}
    await ledger.settle(running, ANSWERED)
    async with database.transaction() as connection:
        assert set(await delete_account(connection, top)) == {top, *ids}
        assert await account(connection, ids[-1]) is None
