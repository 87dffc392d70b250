"""The journal: the calls that are open. A row has all calls that were opened, or noted, in one transaction.

A call that ends goes into the ledger; its row in the journal stays until all calls in it have ended. So opening a call
costs next to nothing, and the ledger, which has indexes, is written once for each call.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.backend import Statements
from gateway_core.storage.tables.metering import ledger_journal, ledger_requests

OPEN = "open"
PRICES = (
    "input_usd_per_million",
    "cached_input_usd_per_million",
    "cache_write_usd_per_million",
    "output_usd_per_million",
    "input_audio_usd_per_million",
    "output_audio_usd_per_million",
)
TOKENS = (
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "prompt_audio_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "completion_audio_tokens",
)
OPENED = (
    *("id", "request_id", "process_id", "account_id", "key_id", "gateway_id", "gateway_version", "operation"),
    *("dialect", "streamed", "requested_model", "started_us", "tag", "metadata"),
    *("price_multiplier", "reserved_pico_usd", *PRICES),
)
"""What the ledger has of a call that is opened, in the order of its row."""
JOURNALED = (*OPENED, "reserve_units")
"""What the journal has of it."""
CHECKPOINT = (
    *("id", "provider", "response_model", "attempt_count", *TOKENS),
    *("estimated_prompt_tokens", "delivered_tokens"),
)
"""What the journal has of how far a call is."""
ABSENT: Mapping[str, Any] = {column.name: None for column in ledger_requests.columns} | {
    "status": OPEN, "attempt_count": 0, "delivered_tokens": 0, "charged_pico_usd": 0,
}  # fmt: skip
"""What the ledger would have of a call of which nothing is known."""
IDS_AT_ONCE = 500
LOCK = {"sqlite": "", "postgresql": " FOR UPDATE"}
"""The whole database is locked on SQLite."""

INSERT = "INSERT INTO ledger_journal (process_id, number, body) VALUES (?, ?, ?)"
DELETE = "DELETE FROM ledger_journal WHERE process_id = ? AND number = ?"
DELETE_ALL = "DELETE FROM ledger_journal WHERE process_id = ?"
SELECT = "SELECT body FROM ledger_journal WHERE process_id = ? ORDER BY number"

Row = tuple[Any, ...]


@dataclass(slots=True)
class Entry:
    """What one row says."""

    process_id: str
    number: int
    """From 1, in the order of writing, for each process."""
    opened: Sequence[Row] = ()
    checkpoints: Sequence[Row] = ()

    @property
    def row(self) -> Row:
        """The row of the table."""
        return self.process_id, self.number, orjson.dumps([self.opened, self.checkpoints]).decode()


def told(bodies: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What rows, in the order of their writing, say of calls: by their ids, with the names of the ledger's columns."""
    calls: dict[str, dict[str, Any]] = {}
    for body in bodies:
        opened, checkpoints = orjson.loads(body)
        for row in opened:
            calls[row[0]] = dict(zip(JOURNALED, row, strict=True))
        for row in checkpoints:
            if row[0] in calls:
                calls[row[0]] |= dict(zip(CHECKPOINT, row, strict=True))
    return calls


def left_open(statements: Statements, process_id: str) -> list[dict[str, Any]]:
    """The calls that a process has opened and not closed, locked until the transaction ends."""
    bodies = statements.rows(SELECT + LOCK[statements.dialect], [process_id])
    calls = told(body for (body,) in bodies)
    closed = closed_ids(statements, list(calls))
    return [{**ABSENT, **call} for id_, call in calls.items() if id_ not in closed]


def closed_ids(statements: Statements, ids: Sequence[str]) -> set[str]:
    """Those of the calls that are in the ledger."""
    found: set[str] = set()
    for part in parts(ids):
        marks = ", ".join("?" * len(part))
        found.update(id_ for (id_,) in statements.rows(f"SELECT id FROM ledger_requests WHERE id IN ({marks})", part))
    return found


async def open_calls(connection: AsyncConnection) -> list[Any]:
    """The calls of all processes that are open: with the columns of the ledger as attributes, as it will have them."""
    rows = select(ledger_journal.c.body).order_by(ledger_journal.c.process_id, ledger_journal.c.number)
    calls = told(await connection.scalars(rows))
    closed: set[str] = set()
    for part in parts(list(calls)):
        closed.update(await connection.scalars(select(ledger_requests.c.id).where(ledger_requests.c.id.in_(part))))
    return [SimpleNamespace(**{**ABSENT, **shown(call)}) for id_, call in calls.items() if id_ not in closed]


async def reserved(connection: AsyncConnection, account_id: str) -> int:
    """Picodollars that the open calls of an account have reserved."""
    return sum(call.reserved_pico_usd for call in await open_calls(connection) if call.account_id == account_id)


def shown(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call as the ledger's rows are read."""
    document = call["metadata"]
    return {**call, "metadata": None if document is None else orjson.loads(document)}


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as a statement takes."""
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield ids[start : start + IDS_AT_ONCE]
