"""The rows of keys. A key that is rotated has a second row: its old secret, which names the key as its successor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.account import AccountRow, account, allowed_models
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.identity import keys

TOPIC = "keys"
"""Of Changes; the key is a key's id."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key that is not deleted, or the old secret of one."""

    id: str
    account_id: str
    kind: str
    label: str
    description: str | None
    project: str | None
    lookup: str
    hash: bytes
    masked: str
    expires_us: int | None
    allowed_models: tuple[str, ...] | None
    last_used_us: int | None
    successor_id: str | None
    created_us: int
    updated_us: int

    def __repr__(self) -> str:
        return f"KeyRow(id={self.id!r})"


class Only(NamedTuple):
    """Which keys of an account are listed."""

    kind: str = ""
    project: str = ""
    before: str = ""
    """Those after this id, in the list's order."""
    limit: int = 1000


class Found(NamedTuple):
    """What is found by a key's lookup part."""

    hash: bytes
    key: KeyRow
    """The key; of an old secret its successor."""
    account: AccountRow
    allowed_models: tuple[tuple[str, ...], ...]
    """The lists of the key, its account and the accounts above, where they have one."""
    is_new: bool
    """Whether it is the new secret of a key that is rotated, at whose first use the old one dies."""


def _row(row: Row[Any] | None) -> KeyRow | None:
    if row is None:
        return None
    values = dict(row._mapping)
    values.pop("deleted_us")
    models = values["allowed_models"]
    values["allowed_models"] = None if models is None else tuple(models)
    values["hash"] = bytes(values["hash"])
    return KeyRow(**values)


async def found(connection: AsyncConnection, lookup: str) -> Found | None:
    """What is found by a lookup part; None: no key that is not deleted."""
    by_lookup = select(keys).where(keys.c.lookup == lookup, keys.c.deleted_us.is_(None))
    secret = _row((await connection.execute(by_lookup)).one_or_none())
    if secret is None:
        return None
    named = secret if secret.successor_id is None else await key(connection, secret.successor_id)
    owner = None if named is None else await account(connection, named.account_id)
    if named is None or owner is None:
        return None
    is_new = named is secret and await replaced(connection, named.id) is not None
    own = () if named.allowed_models is None else (named.allowed_models,)
    return Found(secret.hash, named, owner, (*own, *await allowed_models(connection, owner)), is_new)


async def key(connection: AsyncConnection, key_id: str, *, lock: bool = False) -> KeyRow | None:
    """A key, locked until the end of the transaction if asked; None: there is none, or it is deleted."""
    by_id = select(keys).where(keys.c.id == key_id, keys.c.successor_id.is_(None), keys.c.deleted_us.is_(None))
    return _row((await connection.execute(by_id.with_for_update() if lock else by_id)).one_or_none())


async def replaced(connection: AsyncConnection, key_id: str) -> KeyRow | None:
    """The old secret of a key that is rotated; None: it is not."""
    old = select(keys).where(keys.c.successor_id == key_id, keys.c.deleted_us.is_(None))
    return _row((await connection.execute(old)).one_or_none())


async def keys_of(connection: AsyncConnection, account_id: str, only: Only) -> list[tuple[KeyRow, str | None]]:
    """The keys of an account, the newest first, each with the masked old secret."""
    old = keys.alias()
    listed = (
        select(keys, old.c.masked.label("replaced"))
        .outerjoin(old, (old.c.successor_id == keys.c.id) & old.c.deleted_us.is_(None))
        .where(keys.c.account_id == account_id, keys.c.successor_id.is_(None), keys.c.deleted_us.is_(None))
    )
    if only.kind:
        listed = listed.where(keys.c.kind == only.kind)
    if only.project:
        listed = listed.where(keys.c.project == only.project)
    if only.before:
        listed = listed.where(keys.c.id < only.before)
    result = []
    for row in await connection.execute(listed.order_by(keys.c.id.desc()).limit(only.limit)):
        values = dict(row._mapping)
        masked = values.pop("replaced")
        values.pop("deleted_us")
        models = values.pop("allowed_models")
        allowed = None if models is None else tuple(models)
        result.append((KeyRow(**values, allowed_models=allowed), masked))
    return result


async def working_private_keys(connection: AsyncConnection, account_id: str) -> list[str]:
    """The ids of an account's private keys whose time has not passed, locked until the end of the transaction."""
    working = select(keys.c.id).where(
        keys.c.account_id == account_id,
        keys.c.kind == "private",
        keys.c.successor_id.is_(None),
        keys.c.deleted_us.is_(None),
        keys.c.expires_us.is_(None) | (keys.c.expires_us > now_us()),
    )
    return list((await connection.execute(working.order_by(keys.c.id).with_for_update())).scalars())


async def add_key(connection: AsyncConnection, values: Mapping[str, Any]) -> str:
    """Adds a key; its id. One of the same lookup part that was deleted is there again, as told now."""
    now = now_us()
    row = {"id": new_id(), "created_us": now, "updated_us": now, **values}
    new = insert(connection, keys).values(**row)
    again = {name: value for name, value in row.items() if name not in ("id", "lookup")}
    again.update(deleted_us=None, successor_id=None)
    statement = new.on_conflict_do_update(index_elements=[keys.c.lookup], set_=again).returning(keys.c.id)
    added: str = (await connection.execute(statement)).scalar_one()
    return added


async def change_key(connection: AsyncConnection, key_id: str, values: Mapping[str, Any]) -> None:
    """Changes columns of a key."""
    changed = update(keys).where(keys.c.id == key_id, keys.c.deleted_us.is_(None))
    await connection.execute(changed.values(**values, updated_us=now_us()))


async def rotate_key(connection: AsyncConnection, row: KeyRow, values: Mapping[str, Any]) -> None:
    """Gives a key new values, the new secret among them; the secret that works so far stays in a row of its own."""
    before = await replaced(connection, row.id)
    await change_key(connection, row.id, values)
    if before is None:
        # The rest of the row is what the key itself says.
        old = {name: getattr(row, name) for name in ("account_id", "kind", "label", "lookup", "hash", "masked")}
        await add_key(connection, {**old, "successor_id": row.id})


async def retire_replaced(connection: AsyncConnection, key_id: str) -> None:
    """Ends the old secret of a key that is rotated."""
    old = update(keys).where(keys.c.successor_id == key_id, keys.c.deleted_us.is_(None))
    await connection.execute(old.values(deleted_us=now_us()))


async def delete_key(connection: AsyncConnection, key_id: str) -> None:
    """Deletes a key, its old secret too."""
    gone = update(keys).where((keys.c.id == key_id) | (keys.c.successor_id == key_id), keys.c.deleted_us.is_(None))
    await connection.execute(gone.values(deleted_us=now_us()))


def note_used(connection: Connection, used: Mapping[str, int]) -> None:
    """Writes when keys were last used; in one step of the thread that writes (`Database.run`)."""
    for key_id, at_us in used.items():
        later = keys.c.last_used_us.is_(None) | (keys.c.last_used_us < at_us)
        connection.execute(update(keys).where(keys.c.id == key_id, later).values(last_used_us=at_us))
