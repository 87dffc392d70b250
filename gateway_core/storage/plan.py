"""The rows of plans."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.identifier import now_us
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.catalog import plans
from gateway_core.storage.tables.identity import accounts

TOPIC = "plans"
"""Of Changes; the key is a plan's name."""


class PlanRow(NamedTuple):
    """A plan that is not deleted."""

    name: str
    document: Mapping[str, Any]
    created_us: int
    updated_us: int


async def plan_rows(connection: AsyncConnection) -> list[PlanRow]:
    """All plans."""
    columns = (plans.c.name, plans.c.document, plans.c.created_us, plans.c.updated_us)
    return [PlanRow(*row) for row in await connection.execute(select(*columns).where(plans.c.deleted_us.is_(None)))]


async def put_plan(connection: AsyncConnection, name: str, document: Mapping[str, Any]) -> None:
    """Makes a plan or changes it; one that was deleted begins anew."""
    now = now_us()
    row = {"name": name, "document": document, "version": 1, "created_us": now, "updated_us": now}
    new = insert(connection, plans).values(**row)
    changed = {
        "document": new.excluded.document,
        "version": plans.c.version + 1,
        "updated_us": now,
        "created_us": func.coalesce(plans.c.deleted_us * 0 + now, plans.c.created_us),
        "deleted_us": None,
    }
    await connection.execute(new.on_conflict_do_update(index_elements=[plans.c.name], set_=changed))


async def delete_plan(connection: AsyncConnection, name: str) -> bool:
    """Deletes a plan; whether there was one."""
    now = now_us()
    gone = update(plans).where(plans.c.name == name, plans.c.deleted_us.is_(None))
    return (await connection.execute(gone.values(deleted_us=now, updated_us=now))).rowcount == 1


async def has_accounts(connection: AsyncConnection, name: str) -> bool:
    """Whether an account has the plan."""
    found = select(accounts.c.id).where(accounts.c.plan == name, accounts.c.deleted_us.is_(None)).limit(1)
    return await connection.scalar(found) is not None
