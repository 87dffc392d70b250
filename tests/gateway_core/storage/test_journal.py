from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.database import Database
from gateway_core.storage.journal import FORMAT, JOURNALED, Entry, Row
from gateway_core.storage.open_calls import open_calls, reserved
from gateway_core.storage.tables.metering import ledger_journal

ACCOUNTS = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(3)]


def opened(call: str, account: str, reserved_pico_usd: int) -> Row:
    given = {"id": call, "account_id": account, "reserved_pico_usd": reserved_pico_usd}
    return tuple(given.get(name) for name in JOURNALED)


async def add(connection: AsyncConnection, *entries: Entry) -> None:
    for entry in entries:
        process_id, number, body = entry.row
        await connection.execute(ledger_journal.insert().values(process_id=process_id, number=number, body=body))


async def test_what_an_account_has_reserved_is_that_of_its_own_open_calls(database: Database) -> None:
    first, second, third = ACCOUNTS
    async with database.transaction() as connection:
        await add(
            connection,
            Entry("p", 1, [opened("a", first, 3), opened("b", second, 50)]),
            Entry("p", 2, [opened("c", first, 4)]),
            Entry("q", 1, [opened("d", second, 600)]),
        )
    async with database.reading() as connection:
        assert [await reserved(connection, account) for account in ACCOUNTS] == [7, 650, 0]
        assert [call.id for call in await open_calls(connection, third)] == []


async def test_rows_of_another_version_are_left_out_of_what_is_shown(database: Database) -> None:
    async with database.transaction() as connection:
        await add(connection, Entry("p", 1, [opened("a", ACCOUNTS[0], 3)]))
        body = Entry("p", 2, [opened("b", ACCOUNTS[0], 3)]).row[2].replace(f"[{FORMAT},", f"[{FORMAT + 1},", 1)
        await connection.execute(ledger_journal.insert().values(process_id="p", number=2, body=body))
    async with database.reading() as connection:
        assert [call.id for call in await open_calls(connection)] == ["a"]
