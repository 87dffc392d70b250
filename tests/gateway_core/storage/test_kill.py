"""kill -9 in the middle of transactions: what was said to be committed is there, and nothing by halves."""

import asyncio
import random
import signal

from sqlalchemy import func, select, text

from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id
from gateway_core.storage.location import Location
from gateway_core.storage.tables.coordination import settings
from gateway_core.storage.tables.metering import balances, ledger_requests
from tests.gateway_core.storage.program import Program, line
from tests.gateway_core.storage.rows import account, balance

ROUNDS = 5


async def test_a_killed_writer_leaves_a_whole_database(place: Location, program: Program) -> None:
    instants = random.Random(1)
    for number in range(ROUNDS):
        owner = new_id()
        async with Database(place) as database, database.transaction() as connection:
            await connection.execute(account(id=owner, name=f"round {number}"))
            await connection.execute(balance(owner))
        process = program.start("write", owner)
        told = int(await line(process))
        for _ in range(instants.randrange(3)):
            told = int(await line(process))
        await asyncio.sleep(instants.random() * 0.05)  # the instant of the kill, not a state that is waited for
        process.send_signal(signal.SIGKILL)
        out, _ = await asyncio.to_thread(process.communicate)
        told = max([told, *(int(word) for word in out.split("\n")[:-1])])
        await prove_whole(place, owner, told)


async def prove_whole(place: Location, owner: str, told: int) -> None:
    async with Database(place) as database, database.reading() as connection:
        mine = ledger_requests.c.account_id == owner
        charged = list(await connection.scalars(select(ledger_requests.c.charged_pico_usd).where(mine)))
        # One more may be committed than the process had the time to say.
        assert sorted(charged) in (list(range(1, told + 1)), list(range(1, told + 2)))
        settled = await connection.scalar(select(balances.c.settled_pico_usd).where(balances.c.account_id == owner))
        assert settled == -sum(charged)
        everything = select(func.count()).select_from(ledger_requests)
        assert await connection.scalar(everything) == await connection.scalar(
            select(func.count()).select_from(settings)
        )
        if connection.dialect.name == "sqlite":
            assert await connection.scalar(text("PRAGMA integrity_check")) == "ok"
