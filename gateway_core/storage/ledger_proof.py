"""Proves that the ledger and the balances say the same, to the last picodollar."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.money import LARGEST, PART, sum_parts, whole
from gateway_core.storage.open_calls import open_calls
from gateway_core.storage.tables.metering import balances, credits, ledger_attempts, ledger_requests


@dataclass(frozen=True, slots=True)
class Proof:
    """What was added up, and what does not agree."""

    request_count: int
    open_count: int
    charged: int
    """Picodollars, of all accounts."""
    faults: tuple[str, ...]
    """One sentence for each disagreement. Empty: there is none."""


async def proof(connection: AsyncConnection) -> Proof:
    """Adds up the ledger as it is in one moment; takes a connection of `Database.reading`."""
    requests = ledger_requests.c
    charged = await sums(connection, requests.account_id, requests.charged_pico_usd)
    given = await sums(connection, credits.c.account_id, credits.c.amount_pico_usd - credits.c.lapsed_pico_usd)
    faults: list[str] = []
    known = set()
    for row in await connection.execute(select(balances).order_by(balances.c.account_id)):
        account = row.account_id
        known.add(account)
        expected = {
            "spent": (row.spent_pico_usd, min(charged.get(account, 0), LARGEST)),
            "settled": (row.settled_pico_usd, max(given.get(account, 0) - charged.get(account, 0), -LARGEST)),
        }
        faults += [
            f"account {account}: {name} is {found} picodollars and should be {right}: {off(found - right)}"
            for name, (found, right) in expected.items()
            if found != right
        ]
    moved = {account for found in (charged, given) for account, amount in found.items() if amount}
    faults += [f"account {account}: it has no balance, and charges or credits" for account in sorted(moved - known)]
    faults += await attempt_faults(connection)
    faults += await cover_faults(connection)
    count = await connection.scalar(select(func.count()).select_from(ledger_requests)) or 0
    return Proof(count, len(await open_calls(connection)), sum(charged.values()), tuple(faults))


def off(difference: int) -> str:
    """By how much an amount is wrong."""
    return f"{abs(difference)} too {'much' if difference > 0 else 'little'}"


async def sums(connection: AsyncConnection, group: Any, column: Any, *conditions: Any) -> dict[str, int]:
    """A column, added up for each account."""
    found = await connection.execute(select(group, *sum_parts(column)).where(*conditions).group_by(group))
    return {account: whole(high, low) for account, high, low in found}


async def attempt_faults(connection: AsyncConnection) -> list[str]:
    """Calls whose attempts do not cost what the call does. A call of which nothing came has none."""
    requests, attempts = ledger_requests.c, ledger_attempts.c
    high, low = (cast(func.coalesce(part, 0), BigInteger) for part in sum_parts(attempts.cost_pico_usd))
    joined = ledger_requests.join(ledger_attempts, attempts.ledger_id == requests.id)
    cost = func.coalesce(requests.cost_pico_usd, 0)
    differs = or_(high + low // PART != cost // PART, low % PART != cost % PART)
    found = select(requests.id).select_from(joined).group_by(requests.id, requests.cost_pico_usd).having(differs)
    return [
        f"call {id_}: its attempts do not add up to its cost" for (id_,) in await connection.execute(found.limit(100))
    ]


async def cover_faults(connection: AsyncConnection) -> list[str]:
    """Calls that are paid by the balance and by the plan's reserve, or by neither."""
    requests = ledger_requests.c
    due = case((requests.reserve_units > 0, 0), else_=func.coalesce(requests.cost_pico_usd, 0))
    found = select(requests.id).where(requests.charged_pico_usd != due)
    return [f"call {id_}: it is not charged what it cost" for (id_,) in await connection.execute(found.limit(100))]
