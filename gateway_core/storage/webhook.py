"""The rows of webhooks: added with what they tell of, claimed by the process that sends them, and ended."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.identifier import now_us
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.identity import accounts, keys
from gateway_core.storage.tables.metering import balances
from gateway_core.storage.tables.webhook import webhook_marks, webhooks

TOPIC = "webhooks"
"""Of Changes, where there is something to send; the key is an account's id."""


class Endpoint(NamedTuple):
    """Where an account's webhooks go."""

    account_id: str
    url: str
    events: tuple[str, ...] | None
    """Types that are sent. None: all."""
    hook_secret: bytes | None
    """Sealed for `hook_secret_place`."""

    def __repr__(self) -> str:
        return f"Endpoint(account_id={self.account_id!r})"


class WebhookRow(NamedTuple):
    """A webhook."""

    id: str
    account_id: str
    type: str
    body: str
    attempts: int
    due_us: int
    status_code: int | None
    error: str | None
    delivered: bool
    created_us: int
    ended_us: int | None


class Money(NamedTuple):
    """What an account has now, in picodollars."""

    settled: int
    spent: int
    has_balance: bool
    """Whether anything was ever added or charged."""
    low: int | None
    spend_cap: int | None


class ExpiringKey(NamedTuple):
    """A key that ends soon."""

    id: str
    account_id: str
    kind: str
    label: str
    project: str | None
    expires_us: int


class Result(NamedTuple):
    """What came of an attempt."""

    delivered: bool
    status_code: int | None
    error: str | None


WEBHOOK = tuple(webhooks.c[name] for name in WebhookRow._fields)
HAS_ENDPOINT = (
    accounts.c.webhook_url.is_not(None),
    accounts.c.webhook_stopped_us.is_(None),
    accounts.c.deleted_us.is_(None),
)


async def endpoints(connection: AsyncConnection, account_ids: Sequence[str]) -> dict[str, Endpoint]:
    """Where the webhooks of accounts go, by their ids; nothing for those of which none are sent."""
    found = select(accounts.c.id, accounts.c.webhook_url, accounts.c.webhook_events, accounts.c.hook_secret).where(
        accounts.c.id.in_(account_ids), *HAS_ENDPOINT
    )
    return {
        id_: Endpoint(id_, url, None if events is None else tuple(events), secret)
        for id_, url, events, secret in await connection.execute(found)
    }


async def add_webhook(connection: AsyncConnection, row: WebhookRow) -> None:
    """Adds a webhook that is to be sent."""
    await connection.execute(webhooks.insert().values(**row._asdict()))


async def next_due(connection: AsyncConnection) -> int | None:
    """When the next attempt is due. None: there is nothing to send."""
    due: int | None = await connection.scalar(select(func.min(webhooks.c.due_us)).where(webhooks.c.ended_us.is_(None)))
    return due


async def claim(connection: AsyncConnection, process_id: str, until_us: int, limit: int) -> list[WebhookRow]:
    """What a process is to send now: of each account the oldest that is due, where nobody sends another of it.

    Nobody else gets these before `until_us`. Their attempt is counted.
    """
    now = now_us()
    is_due = (webhooks.c.ended_us.is_(None), webhooks.c.due_us <= now)
    busy = select(webhooks.c.account_id).where(
        webhooks.c.ended_us.is_(None), webhooks.c.due_us > now, webhooks.c.claimed_by.is_not(None)
    )
    oldest = (
        select(func.min(webhooks.c.id))
        .where(*is_due, webhooks.c.account_id.not_in(busy))
        .group_by(webhooks.c.account_id)
        .order_by(func.min(webhooks.c.due_us))
        .limit(limit)
    )
    # PostgreSQL asks the condition again of a row that another process has changed meanwhile.
    chosen = select(webhooks.c.id).where(webhooks.c.id.in_(oldest), *is_due).with_for_update(skip_locked=True)
    claimed = update(webhooks).where(webhooks.c.id.in_(chosen))
    values = {"claimed_by": process_id, "due_us": until_us, "attempts": webhooks.c.attempts + 1}
    return [WebhookRow(*row) for row in await connection.execute(claimed.values(values).returning(*WEBHOOK))]


async def end(connection: AsyncConnection, webhook_id: str, result: Result) -> None:
    """Ends a webhook, whoever has claimed it meanwhile."""
    ended = update(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.ended_us.is_(None))
    await connection.execute(ended.values(**result._asdict(), ended_us=now_us(), claimed_by=None))


async def put_off(connection: AsyncConnection, webhook_id: str, process_id: str, result: Result, due_us: int) -> None:
    """Has a webhook tried again, unless another process has claimed it meanwhile."""
    own = (webhooks.c.id == webhook_id, webhooks.c.claimed_by == process_id, webhooks.c.ended_us.is_(None))
    await connection.execute(update(webhooks).where(*own).values(**result._asdict(), due_us=due_us, claimed_by=None))


async def release(connection: AsyncConnection, process_id: str) -> None:
    """Gives back what a process has claimed and not sent."""
    own = (webhooks.c.claimed_by == process_id, webhooks.c.ended_us.is_(None))
    await connection.execute(update(webhooks).where(*own).values(due_us=now_us(), claimed_by=None))


async def stop(connection: AsyncConnection, endpoint: Endpoint) -> None:
    """Sends nothing more to an endpoint that is gone, unless it was changed meanwhile."""
    same = (accounts.c.id == endpoint.account_id, accounts.c.webhook_url == endpoint.url)
    await connection.execute(update(accounts).where(*same).values(webhook_stopped_us=now_us()))


async def webhook_rows(connection: AsyncConnection, account_id: str, before: str, limit: int) -> list[WebhookRow]:
    """The webhooks of an account, the newest first, from after the id given."""
    found = select(*WEBHOOK).where(webhooks.c.account_id == account_id)
    if before:
        found = found.where(webhooks.c.id < before)
    return [WebhookRow(*row) for row in await connection.execute(found.order_by(webhooks.c.id.desc()).limit(limit))]


async def forget_ended(connection: AsyncConnection, before_us: int) -> None:
    """Deletes webhooks that ended before a time."""
    await connection.execute(delete(webhooks).where(webhooks.c.ended_us < before_us))


async def money(connection: AsyncConnection, account_id: str, *, lock: bool = False) -> Money | None:
    """What an account has; None where there is no such account.

    With the lock, nobody adds a credit to it or changes it until the end of the transaction: see `lock_account`.
    """
    if lock:
        await lock_account(connection, account_id)
    found = (
        select(
            balances.c.settled_pico_usd,
            balances.c.spent_pico_usd,
            accounts.c.low_balance_pico_usd,
            accounts.c.spend_cap_pico_usd,
        )
        .select_from(accounts.outerjoin(balances, balances.c.account_id == accounts.c.id))
        .where(accounts.c.id == account_id, accounts.c.deleted_us.is_(None))
    )
    row = (await connection.execute(found)).one_or_none()
    if row is None:
        return None
    settled, spent, low, cap = row
    return Money(settled or 0, spent or 0, settled is not None, low, cap)


async def lock_account(connection: AsyncConnection, account_id: str) -> None:
    """Keeps others from marking and unmarking until the end of the transaction.

    What refers to the account can be added meanwhile: a lock that forbade it would wait for who adds a credit.
    """
    locked = select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True)
    await connection.execute(locked)


async def mark(connection: AsyncConnection, account_id: str, type_: str, subject: str = "") -> bool:
    """Notes that an account is told of something; False where it has been already."""
    row = {"account_id": account_id, "type": type_, "subject": subject, "created_us": now_us()}
    new = insert(connection, webhook_marks).values(**row).on_conflict_do_nothing()
    return (await connection.execute(new)).rowcount == 1


async def unmark(connection: AsyncConnection, account_id: str, types: Sequence[str]) -> None:
    """Has an account told again of things."""
    gone = delete(webhook_marks).where(webhook_marks.c.account_id == account_id, webhook_marks.c.type.in_(types))
    await connection.execute(gone)


async def low_accounts(connection: AsyncConnection, type_: str) -> list[tuple[str, int]]:
    """Accounts with an endpoint whose balance is low, who have no mark of the type; and what they have."""
    marked = select(webhook_marks.c.account_id).where(webhook_marks.c.type == type_)
    found = (
        select(accounts.c.id, balances.c.settled_pico_usd)
        .join(balances, balances.c.account_id == accounts.c.id)
        .where(*HAS_ENDPOINT, balances.c.settled_pico_usd < accounts.c.low_balance_pico_usd)
        .where(accounts.c.id.not_in(marked))
    )
    return [(id_, settled) for id_, settled in await connection.execute(found)]


async def unmark_keys(connection: AsyncConnection, type_: str, ahead_us: int) -> None:
    """Forgets the marks of keys that do not end within a time any more."""
    now = now_us()
    ending = select(keys.c.id).where(keys.c.expires_us > now, keys.c.expires_us <= now + ahead_us)
    own = (webhook_marks.c.type == type_, webhook_marks.c.subject.not_in(ending))
    await connection.execute(delete(webhook_marks).where(*own))


async def expiring_keys(connection: AsyncConnection, type_: str, ahead_us: int, limit: int) -> list[ExpiringKey]:
    """Keys that end within a time, who have no mark of the type; none that were changed or made within it."""
    now = now_us()
    marked = select(webhook_marks.c.subject).where(webhook_marks.c.type == type_)
    lived = case((keys.c.updated_us > keys.c.created_us, keys.c.updated_us), else_=keys.c.created_us)
    found = (
        select(*(keys.c[name] for name in ExpiringKey._fields))
        .join(accounts, accounts.c.id == keys.c.account_id)
        .where(*HAS_ENDPOINT, keys.c.deleted_us.is_(None), keys.c.successor_id.is_(None))
        .where(keys.c.expires_us > now, keys.c.expires_us <= now + ahead_us, keys.c.expires_us > lived + ahead_us)
        .where(keys.c.id.not_in(marked))
    )
    rows: Any = await connection.execute(found.order_by(keys.c.id).limit(limit))
    return [ExpiringKey(*row) for row in rows]
