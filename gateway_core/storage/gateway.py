"""Gateways and their versions, as rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.tables.catalog import gateway_versions, gateways

TOPIC = "gateways"
"""Under which changes are published; the key is the gateway's id."""


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A gateway and its current version."""

    id: str
    account_id: str
    name: str
    slug: str
    version: int
    created_us: int
    updated_us: int
    message: bytes = field(repr=False)
    """headgate.v1.Gateway, serialized, without what the other columns say and without secrets."""
    secret: bytes | None = field(repr=False)
    """The sealed key of the gateway's own endpoint. None: there is none."""


async def add(connection: AsyncConnection, row: GatewayRow, key_id: str | None) -> None:
    """Adds a gateway with its first version, made by a key (None: by the program). Raises Conflict at the commit."""
    values = {name: getattr(row, name) for name in COLUMNS}
    await connection.execute(gateways.insert().values(**values))
    await _add_version(connection, row, key_id)


async def change(connection: AsyncConnection, row: GatewayRow, key_id: str | None) -> None:
    """Adds a version, and makes it the current one. The gateway was read with `lock`."""
    values = {"name": row.name, "slug": row.slug, "version": row.version, "updated_us": row.updated_us}
    await connection.execute(update(gateways).where(gateways.c.id == row.id).values(**values))
    await _add_version(connection, row, key_id)


async def delete(connection: AsyncConnection, gateway_id: str, at_us: int) -> None:
    """Marks a gateway as gone; its versions stay for the ledger."""
    await connection.execute(update(gateways).where(gateways.c.id == gateway_id).values(deleted_us=at_us))


async def find(connection: AsyncConnection, account_id: str, name: str) -> GatewayRow | None:
    """The gateway of an account that has an id or a slug. None: there is none."""
    return await _one(connection, _live().where(_named(account_id, name)))


async def locked(connection: AsyncConnection, account_id: str, name: str) -> GatewayRow | None:
    """Likewise, and nobody else changes it before the transaction ends."""
    # A statement of its own: after a wait, PostgreSQL would not see the version that was added meanwhile.
    await connection.execute(select(gateways.c.id).where(_named(account_id, name)).with_for_update())
    return await find(connection, account_id, name)


async def current(connection: AsyncConnection, gateway_id: str) -> GatewayRow | None:
    """A gateway of whatever account. None: it is gone."""
    return await _one(connection, _live().where(gateways.c.id == gateway_id))


async def everything(connection: AsyncConnection) -> Sequence[GatewayRow]:
    """All gateways."""
    return [GatewayRow(*row) for row in await connection.execute(_live())]


async def page(
    connection: AsyncConnection, account_id: str, *, size: int, after: tuple[int, str] | None, name_contains: str
) -> Sequence[GatewayRow]:
    """The gateways of an account, the newest first, after the one of a creation time and an id."""
    order = (gateways.c.created_us.desc(), gateways.c.id.desc())
    query = _live().where(gateways.c.account_id == account_id).order_by(*order).limit(size)
    if after is not None:
        query = query.where(tuple_(gateways.c.created_us, gateways.c.id) < tuple_(*after))
    if name_contains:
        query = query.where(gateways.c.name.icontains(name_contains, autoescape=True))
    return [GatewayRow(*row) for row in await connection.execute(query)]


async def taken(connection: AsyncConnection, account_id: str, slugs: Sequence[str], besides: str) -> frozenset[str]:
    """Which slugs other gateways of an account have."""
    query = select(gateways.c.slug).where(
        gateways.c.account_id == account_id,
        gateways.c.deleted_us.is_(None),
        gateways.c.slug.in_(slugs),
        gateways.c.id != besides,
    )
    return frozenset(await connection.scalars(query))


COLUMNS = ("id", "account_id", "name", "slug", "version", "created_us", "updated_us")
"""Those of GatewayRow that are of the table `gateways`."""


def _named(account_id: str, name: str) -> ColumnElement[bool]:
    # An id is never a slug: that has a colon.
    is_named = or_(gateways.c.id == name, gateways.c.slug == name)
    return and_(gateways.c.account_id == account_id, gateways.c.deleted_us.is_(None), is_named)


def _live() -> Select[Any]:
    is_current = (gateway_versions.c.gateway_id == gateways.c.id) & (gateway_versions.c.version == gateways.c.version)
    columns = [gateways.c[name] for name in COLUMNS]
    query = select(*columns, gateway_versions.c.message, gateway_versions.c.secret)
    return query.join_from(gateways, gateway_versions, is_current).where(gateways.c.deleted_us.is_(None))


async def _one(connection: AsyncConnection, query: Select[Any]) -> GatewayRow | None:
    row = (await connection.execute(query)).first()
    return None if row is None else GatewayRow(*row)


async def _add_version(connection: AsyncConnection, row: GatewayRow, key_id: str | None) -> None:
    values = {
        "gateway_id": row.id,
        "version": row.version,
        "message": row.message,
        "secret": row.secret,
        "key_id": key_id,
        "created_us": row.updated_us,
    }
    await connection.execute(gateway_versions.insert().values(**values))
