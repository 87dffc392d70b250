"""The rows of accounts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.identifier import now_us
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.identity import accounts, keys

TOPIC = "accounts"
"""Of Changes; the key is an account's id."""
IDS_AT_ONCE = 1000
"""A statement of PostgreSQL takes 32,767 parameters; SQLite's one fewer."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account that is not deleted."""

    id: str
    root: bool
    parent_id: str | None
    name: str
    external_ref: str | None
    plan: str | None
    spend_cap_pico_usd: int | None
    requests_per_minute: int | None
    default_tag: str | None
    allowed_models: tuple[str, ...] | None
    metadata: Mapping[str, str]
    hook_secret: bytes | None
    """Sealed for `hook_secret_place`."""
    hook_secret_us: int | None
    webhook_url: str | None
    webhook_events: tuple[str, ...] | None
    webhook_stopped_us: int | None
    low_balance_pico_usd: int | None
    created_us: int
    updated_us: int

    def __repr__(self) -> str:
        return f"AccountRow(id={self.id!r})"


def hook_secret_place(account_id: str) -> str:
    """What an account's hook secret is sealed for."""
    return f"accounts.hook_secret:{account_id}"


def _row(row: Row[Any] | None) -> AccountRow | None:
    if row is None:
        return None
    values = dict(row._mapping)
    values.pop("deleted_us")
    for name in ("allowed_models", "webhook_events"):
        values[name] = None if values[name] is None else tuple(values[name])
    values["metadata"] = values["metadata"] or {}
    return AccountRow(**values)


async def root_account(connection: AsyncConnection) -> AccountRow | None:
    """The operator's account; None: there is none yet."""
    return _row((await connection.execute(select(accounts).where(accounts.c.root))).one_or_none())


async def account(connection: AsyncConnection, account_id: str) -> AccountRow | None:
    """An account; None: there is none, or it is deleted."""
    found = select(accounts).where(accounts.c.id == account_id, accounts.c.deleted_us.is_(None))
    return _row((await connection.execute(found)).one_or_none())


async def child_accounts(
    connection: AsyncConnection, parent_id: str, *, external_ref: str = "", before: str = "", limit: int = 100
) -> list[AccountRow]:
    """The sub-accounts of an account, the newest first, from after the id given."""
    found = select(accounts).where(accounts.c.parent_id == parent_id, accounts.c.deleted_us.is_(None))
    if external_ref:
        found = found.where(accounts.c.external_ref == external_ref)
    if before:
        found = found.where(accounts.c.id < before)
    rows = await connection.execute(found.order_by(accounts.c.id.desc()).limit(limit))
    return [made for row in rows if (made := _row(row)) is not None]


async def allowed_models(connection: AsyncConnection, owner: AccountRow) -> list[tuple[str, ...]]:
    """The lists of models of an account and of the accounts above, where they have one."""
    lists = []
    above: AccountRow | None = owner
    while above is not None:
        lists.append(above.allowed_models)
        above = None if above.parent_id is None else await account(connection, above.parent_id)
    return [names for names in lists if names is not None]


async def add_account(connection: AsyncConnection, values: Mapping[str, Any]) -> bool:
    """Adds an account; whether it was added: False where there is one of its external_ref, or a root account."""
    now = now_us()
    new = insert(connection, accounts).values(**{"root": False, "created_us": now, "updated_us": now, **values})
    return (await connection.execute(new.on_conflict_do_nothing())).rowcount == 1


async def change_account(connection: AsyncConnection, account_id: str, values: Mapping[str, Any]) -> None:
    """Changes columns of an account; raises Conflict where another has the external_ref."""
    changed = update(accounts).where(accounts.c.id == account_id, accounts.c.deleted_us.is_(None))
    await connection.execute(changed.values(**values, updated_us=now_us()))


async def delete_account(connection: AsyncConnection, account_id: str) -> list[str]:
    """Deletes an account, all accounts below it, and their keys; the ids of the accounts."""
    found, parents = [account_id], [account_id]
    # Level by level: the planner of PostgreSQL, where it knows nothing of a table yet, may take a recursive query for
    # one of a few rows, and compare all with all.
    while parents:
        some, parents = parents[:IDS_AT_ONCE], parents[IDS_AT_ONCE:]
        children = select(accounts.c.id).where(accounts.c.parent_id.in_(some), accounts.c.deleted_us.is_(None))
        below = list(await connection.scalars(children))
        found += below
        parents += below
    now = now_us()
    for start in range(0, len(found), IDS_AT_ONCE):
        some = found[start : start + IDS_AT_ONCE]
        for table, column in ((keys, keys.c.account_id), (accounts, accounts.c.id)):
            gone = update(table).where(column.in_(some), table.c.deleted_us.is_(None))
            await connection.execute(gone.values(deleted_us=now, updated_us=now))
    return found
