"""The rows of balances and credits: what was added, what is left of it, and what lapses."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.errors import BalanceTooLarge
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.money import LARGEST
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import balances, credits

TOPIC = "balances"
"""Of Changes, where a balance is changed by hand; the key is an account's id."""


class BalanceRow(NamedTuple):
    """What an account has, in picodollars."""

    account_id: str
    root: bool
    spend_cap: int | None
    settled: int
    spent: int
    low: int | None = None
    """Below which the account is told. None: never."""


class CreditRow(NamedTuple):
    """Money that was added, in picodollars."""

    id: str
    account_id: str
    reference: str
    description: str | None
    amount: int
    remaining: int
    expires_us: int | None
    created_us: int


CREDIT = (
    credits.c.id,
    credits.c.account_id,
    credits.c.reference,
    credits.c.description,
    credits.c.amount_pico_usd,
    credits.c.remaining_pico_usd,
    credits.c.expires_us,
    credits.c.created_us,
)


async def balance_rows(connection: AsyncConnection, account_ids: Sequence[str]) -> list[BalanceRow]:
    """What accounts have; nothing for those that are not there."""
    found = (
        select(
            accounts.c.id,
            accounts.c.root,
            accounts.c.spend_cap_pico_usd,
            balances.c.settled_pico_usd,
            balances.c.spent_pico_usd,
            accounts.c.low_balance_pico_usd,
        )
        .select_from(accounts.outerjoin(balances, balances.c.account_id == accounts.c.id))
        .where(accounts.c.id.in_(account_ids))
    )
    rows = await connection.execute(found)
    return [BalanceRow(id_, root, cap, settled or 0, spent or 0, low) for id_, root, cap, settled, spent, low in rows]


async def credit_of(connection: AsyncConnection, account_id: str, reference: str) -> CreditRow | None:
    """The credit of a reference. None: there is none."""
    found = select(*CREDIT).where(credits.c.account_id == account_id, credits.c.reference == reference)
    rows = [CreditRow(*row) for row in await connection.execute(found)]
    return rows[0] if rows else None


async def credit_rows(connection: AsyncConnection, account_id: str, before: str, limit: int) -> list[CreditRow]:
    """The credits of an account, the newest first, from after the id given."""
    found = select(*CREDIT).where(credits.c.account_id == account_id)
    if before:
        found = found.where(credits.c.id < before)
    return [CreditRow(*row) for row in await connection.execute(found.order_by(credits.c.id.desc()).limit(limit))]


async def add_credit(connection: AsyncConnection, credit: CreditRow) -> bool:
    """Adds money to a balance; False, and nothing is added, where the reference was used before.

    Raises BalanceTooLarge.
    """
    row = {
        "id": credit.id or new_id(),
        "account_id": credit.account_id,
        "reference": credit.reference,
        "description": credit.description,
        "amount_pico_usd": credit.amount,
        "remaining_pico_usd": credit.amount,
        "expires_us": credit.expires_us,
        "created_us": credit.created_us,
    }
    # What was spent before it is there is not taken from it, even where it expires sooner than the others.
    await allocate(connection, credit.account_id)
    new = insert(connection, credits).values(**row).on_conflict_do_nothing(index_elements=["account_id", "reference"])
    if (await connection.execute(new)).rowcount != 1:
        return False
    own = balances.c.account_id == credit.account_id
    settled = await connection.scalar(select(balances.c.settled_pico_usd).where(own).with_for_update())
    if (settled or 0) + credit.amount > LARGEST:
        raise BalanceTooLarge(f"With this credit the balance would be beyond what is counted: {LARGEST} picodollars.")
    await change(connection, credit.account_id, credit.amount)
    await allocate(connection, credit.account_id)  # what was owed
    return True


async def change(connection: AsyncConnection, account_id: str, amount: int) -> None:
    """Moves what an account has."""
    now = now_us()
    new = insert(connection, balances).values(account_id=account_id, settled_pico_usd=amount, version=1, updated_us=now)
    changed = {
        "settled_pico_usd": balances.c.settled_pico_usd + amount,
        "version": balances.c.version + 1,
        "updated_us": now,
    }
    await connection.execute(new.on_conflict_do_update(index_elements=["account_id"], set_=changed))


async def allocate(connection: AsyncConnection, account_id: str) -> None:
    """Takes from the credits what was spent since the last time: those that expire sooner first, then the older."""
    own = balances.c.account_id == account_id
    settled = await connection.scalar(select(balances.c.settled_pico_usd).where(own).with_for_update())
    if settled is None:
        # Nothing is locked then, so that a first credit that another process adds just now must be left alone.
        return
    found = select(credits.c.id, credits.c.remaining_pico_usd).where(
        credits.c.account_id == account_id, credits.c.remaining_pico_usd > 0
    )
    order = (credits.c.expires_us.is_(None), credits.c.expires_us, credits.c.id)
    rows = (await connection.execute(found.order_by(*order))).all()
    used = sum(remaining for _, remaining in rows) - max(0, settled)
    for id_, remaining in rows:
        if used <= 0:
            return
        taken = min(used, remaining)
        used -= taken
        left = update(credits).where(credits.c.id == id_)
        await connection.execute(left.values(remaining_pico_usd=remaining - taken))


async def has_expired(connection: AsyncConnection, account_id: str, now: int) -> bool:
    """Whether something is left of a credit of an account that has expired."""
    mine = select(credits.c.id).where(credits.c.account_id == account_id)
    found = mine.where(credits.c.expires_us <= now, credits.c.remaining_pico_usd > 0)
    return await connection.scalar(found.limit(1)) is not None


async def expired_accounts(connection: AsyncConnection, now: int) -> list[str]:
    """Accounts of whose credits something is left that has expired."""
    found = select(credits.c.account_id).where(credits.c.expires_us <= now, credits.c.remaining_pico_usd > 0)
    return list(await connection.scalars(found.distinct()))


async def lapse(connection: AsyncConnection, account_id: str, now: int) -> int:
    """Takes back what is left of expired credits; how much that was.

    From then on what is left of all credits is what is settled, or nothing where that is below zero.
    """
    await allocate(connection, account_id)
    expired = (credits.c.account_id == account_id, credits.c.expires_us <= now, credits.c.remaining_pico_usd > 0)
    rows = (await connection.execute(select(credits.c.id, credits.c.remaining_pico_usd).where(*expired))).all()
    for id_, remaining in rows:
        gone = update(credits).where(credits.c.id == id_)
        await connection.execute(
            gone.values(remaining_pico_usd=0, lapsed_pico_usd=credits.c.lapsed_pico_usd + remaining)
        )
    total: int = sum(remaining for _, remaining in rows)
    if total:
        await change(connection, account_id, -total)
    return total
