"""Rows for tests: what a column needs and a test does not care for."""

from typing import Any

from sqlalchemy import Insert

from gateway_core.storage.identifier import new_id, now_us
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
