"""Rows for tests: what a column needs and a test does not care for; and the simplest of rows, a name."""

from typing import Any

from sqlalchemy import Insert, select

from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.tables.coordination import settings
from gateway_core.storage.tables.identity import accounts, keys
from gateway_core.storage.tables.metering import balances, ledger_requests


def account(**values: Any) -> Insert:
    now = now_us()
    row = {"id": new_id(), "root": False, "name": "Acme", "created_us": now, "updated_us": now}
    return accounts.insert().values(row | values)


def key(**values: Any) -> Insert:
    now = now_us()
    row = {
        "id": new_id(),
        "kind": "private",
        "label": "",
        "hash": b"\0" * 32,
        "masked": "sk-hg-…abcd",
        "created_us": now,
    }
    return keys.insert().values(row | {"updated_us": now} | values)


def balance(account_id: str) -> Insert:
    return balances.insert().values(account_id=account_id, updated_us=now_us())


def ledger_request(**values: Any) -> Insert:
    row = {
        "id": new_id(), "request_id": "r", "process_id": "p", "account_id": "a", "operation": "chat_completion",
        "streamed": False, "requested_model": "small", "status": "ok", "started_us": now_us(),
    }  # fmt: skip
    return ledger_requests.insert().values(row | values)


KEEP = "INSERT INTO settings (name, value, updated_us) VALUES (?, '', 0)"
"""As `keep`, for `Database.write`."""
NAMES = "SELECT name FROM settings WHERE name <> ?"


async def names(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list(await connection.scalars(select(settings.c.name).order_by(settings.c.name)))


async def keep(database: Database, name: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(settings.insert().values(name=name, value=b"", updated_us=0))
