"""The journal: the calls that are open. A row has all calls that were opened, or noted, in one transaction.

A call that ends goes into the ledger; its row in the journal stays until all calls in it have ended. So opening a call
costs next to nothing, and the ledger, which has indexes, is written once for each call.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway_core.storage.backend import Statements
from gateway_core.storage.tables.metering import ledger_requests

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

# A row of which nobody knows whether it was written is written again, with what is to be said by then.
INSERT = (
    "INSERT INTO ledger_journal (process_id, number, body) VALUES (?, ?, ?)"
    " ON CONFLICT (process_id, number) DO UPDATE SET body = excluded.body"
)
DELETE = "DELETE FROM ledger_journal WHERE process_id = ? AND number = ?"
SELECT = "SELECT number, body FROM ledger_journal WHERE process_id = ? ORDER BY number"

FORMAT = 1
"""How bodies are written: format, opened, checkpoints. The first had no format before them."""

Row = tuple[Any, ...]
Call = dict[str, Any]
"""With the names of the ledger's columns."""


class Unreadable(ValueError):
    """A row of the journal that this version does not understand."""


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
        return self.process_id, self.number, orjson.dumps((FORMAT, self.opened, self.checkpoints)).decode()


@dataclass(slots=True)
class Left:
    """What the journal has of a process."""

    calls: list[Call] = field(default_factory=list)
    """Those that it has opened and not closed."""
    rows: dict[int, set[str]] = field(default_factory=dict)
    """By the number of a row: the ids of the calls of which it tells, whether they are open or not."""
    unreadable: list[int] = field(default_factory=list)
    """Numbers of rows that only another version can read."""


def parsed(body: str) -> tuple[list[Call], list[Call]]:
    """The calls that a row has opened, and how far calls were; raises Unreadable."""
    try:
        document = orjson.loads(body)
        if len(document) == 3 and document[0] == FORMAT:
            del document[0]
        opened, checkpoints = document
        return (
            [dict(zip(JOURNALED, row, strict=True)) for row in opened],
            [dict(zip(CHECKPOINT, row, strict=True)) for row in checkpoints],
        )
    except (TypeError, ValueError) as error:
        raise Unreadable(f"it is of another version: {error}") from error


def told(bodies: Iterable[str]) -> dict[str, Call]:
    """What rows, in the order of their writing, say of calls, by their ids. What is not understood is left out."""
    calls: dict[str, Call] = {}
    for body in bodies:
        with suppress(Unreadable):
            add(calls, *parsed(body))
    return calls


def add(calls: dict[str, Call], opened: Sequence[Call], checkpoints: Sequence[Call]) -> None:
    """Adds what a row says to what those before it said."""
    for call in opened:
        calls[call["id"]] = call
    for checkpoint in checkpoints:
        if checkpoint["id"] in calls:
            calls[checkpoint["id"]] |= checkpoint


def left(statements: Statements, process_id: str) -> Left:
    """What a process has left, locked until the transaction ends."""
    found = Left()
    calls: dict[str, Call] = {}
    for number, body in statements.rows(SELECT + LOCK[statements.dialect], [process_id]):
        try:
            opened, checkpoints = parsed(body)
        except Unreadable:
            found.unreadable.append(number)
            continue
        found.rows[number] = {call["id"] for call in (*opened, *checkpoints)}
        add(calls, opened, checkpoints)
    closed = closed_ids(statements, list(calls))
    found.calls = [{**ABSENT, **call} for id_, call in calls.items() if id_ not in closed]
    return found


def closed_ids(statements: Statements, ids: Sequence[str]) -> set[str]:
    """Those of the calls that are in the ledger."""
    found: set[str] = set()
    for part in parts(ids):
        marks = ", ".join("?" * len(part))
        found.update(id_ for (id_,) in statements.rows(f"SELECT id FROM ledger_requests WHERE id IN ({marks})", part))
    return found


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as a statement takes."""
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield ids[start : start + IDS_AT_ONCE]
