"""The calls of all processes that are open, wherever their journals are."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.journal import ABSENT, Call, parts, told
from gateway_core.storage.journal_file import all_lines
from gateway_core.storage.journal_line import told_by
from gateway_core.storage.journal_place import journals_of
from gateway_core.storage.tables.metering import ledger_journal, ledger_requests


async def open_calls(connection: AsyncConnection, account_id: str | None = None) -> list[Any]:
    """The calls of all processes that are open: with the columns of the ledger as attributes, as it will have them.

    Among them are those whose end another process has put into its file, and not yet into the ledger. What is in files
    of other machines nobody sees.
    """
    calls = await asyncio.to_thread(calls_in_files, await journals_of(connection))
    rows = select(ledger_journal.c.body).order_by(ledger_journal.c.process_id, ledger_journal.c.number)
    if account_id is not None:
        # How far its calls are may be told in other rows: nobody who asks for one account asks for that.
        rows = rows.where(ledger_journal.c.body.contains(account_id, autoescape=True))
    calls |= told(await connection.scalars(rows))
    if account_id is not None:
        calls = {id_: call for id_, call in calls.items() if call["account_id"] == account_id}
    closed: set[str] = set()
    for part in parts(list(calls)):
        closed.update(await connection.scalars(select(ledger_requests.c.id).where(ledger_requests.c.id.in_(part))))
    return [SimpleNamespace(**{**ABSENT, **shown(call)}) for id_, call in calls.items() if id_ not in closed]


def calls_in_files(directory: Path | None) -> dict[str, Call]:
    """The calls of which the files in a directory tell, by their ids."""
    return {} if directory is None else told_by(all_lines(directory)).calls


async def reserved(connection: AsyncConnection, account_id: str) -> int:
    """Picodollars that the open calls of an account have reserved."""
    return sum(call.reserved_pico_usd for call in await open_calls(connection, account_id))


def shown(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call as the ledger's rows are read."""
    document = call["metadata"]
    return {**call, "metadata": None if document is None else orjson.loads(document)}
