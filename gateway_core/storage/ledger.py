"""Writes the ledger: calls opened, checkpointed and closed in batches, each with what it does to the balances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from gateway_core.storage.backend import Statements
from gateway_core.storage.identifier import now_us
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.coordination import processes
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import ledger_requests

OPEN = "open"
INTERRUPTED = "interrupted"
IDS_AT_ONCE = 500
LOCK = {"sqlite": "", "postgresql": " FOR UPDATE"}
"""The whole database is locked on SQLite."""

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
    *("dialect", "streamed", "requested_model", "status", "started_us", "tag", "metadata"),
    *("price_multiplier", "reserved_pico_usd", *PRICES),
)
"""The columns of a call that is opened, in the order of its row."""
CLOSED = (
    *("status", "response_model", "provider", "finish_reason", "attempt_count", *TOKENS),
    *("estimated_prompt_tokens", "delivered_tokens", "cost_pico_usd", "charged_pico_usd", "reserve_units"),
    *("ended_us", "duration_us", "time_to_first_token_us"),
)
"""The columns of a call that is closed; its id follows."""
CHECKPOINT = (
    *("provider", "response_model", "attempt_count", *TOKENS),
    *("estimated_prompt_tokens", "delivered_tokens", "checkpoint_us"),
)
"""The columns of a checkpoint; the id of the call follows."""
ATTEMPT = (
    *("ledger_id", "number", "provider", "model", "status", "http_status", "upstream_request_id", *TOKENS),
    *("cost_pico_usd", "started_us", "duration_us", "time_to_first_token_us"),
)
"""The columns of an attempt."""

Row = tuple[Any, ...]


class Closing(NamedTuple):
    """A call that ends."""

    id: str
    account_id: str
    charged: int
    """Picodollars by which the balance moves."""
    released: int
    """Picodollars that were reserved."""
    row: Row
    attempts: Sequence[Row]


class Opening(NamedTuple):
    """A call that begins."""

    account_id: str
    reserved: int
    row: Row


@dataclass(slots=True)
class Batch:
    """What is written in one transaction."""

    opened: list[Opening] = field(default_factory=list)
    checkpoints: list[Row] = field(default_factory=list)
    closed: list[Closing] = field(default_factory=list)

    def __len__(self) -> int:
        """How much there is to write."""
        return len(self.opened) + len(self.checkpoints) + len(self.closed)


class NotOpen(Exception):
    """A call that should be closed is not open: it was closed before, or never opened."""


def write(statements: Statements, batch: Batch, *, careful: bool) -> None:
    """Writes a batch. A call that is not open is left as it is where careful, and else raises NotOpen."""
    moved: dict[str, list[int]] = {}
    """By account: what is charged, and by how much more is reserved."""
    if batch.opened:
        statements.many(INSERT_OPENED, [opening.row for opening in batch.opened])
        for opening in batch.opened:
            if opening.reserved:
                moved.setdefault(opening.account_id, [0, 0])[1] += opening.reserved
    if batch.checkpoints:
        statements.many(UPDATE_CHECKPOINT, batch.checkpoints)
    for closing in close(statements, batch.closed, careful=careful):
        if closing.charged or closing.released:
            movement = moved.setdefault(closing.account_id, [0, 0])
            movement[0] += closing.charged
            movement[1] -= closing.released
    move(statements, moved)


def close(statements: Statements, closed: Sequence[Closing], *, careful: bool) -> Sequence[Closing]:
    """Closes calls, as `write`; returns those that it has closed."""
    if not closed:
        return closed
    # Only SQLite's driver tells how many rows many updates have changed.
    checks_first = careful or statements.dialect != "sqlite"
    if checks_first:
        still = open_ids(statements, [closing.id for closing in closed])
        if len(still) != len(closed) and not careful:
            raise NotOpen
        closed = [closing for closing in closed if closing.id in still]
        if not closed:
            return closed
    count = statements.many(UPDATE_CLOSED, [closing.row for closing in closed])
    if not checks_first and count != len(closed):
        raise NotOpen
    attempts = [row for closing in closed for row in closing.attempts]
    if attempts:
        statements.many(INSERT_ATTEMPT, attempts)
    return closed


def open_ids(statements: Statements, ids: Sequence[str]) -> set[str]:
    """Those of the calls that are open, locked until the transaction ends."""
    found: set[str] = set()
    for start in range(0, len(ids), IDS_AT_ONCE):
        part = ids[start : start + IDS_AT_ONCE]
        marks = ", ".join("?" * len(part))
        rows = statements.rows(
            f"SELECT id FROM ledger_requests WHERE status = 'open' AND id IN ({marks})" + LOCK[statements.dialect], part
        )
        found.update(id_ for (id_,) in rows)
    return found


def move(statements: Statements, moved: dict[str, list[int]]) -> None:
    """Moves balances: by account what is charged, and what is reserved beside it."""
    if not moved:
        return
    now = now_us()
    # In one order everywhere, so that no two processes wait for one another.
    rows = [(account, -charged, reserved, charged, 1, now) for account, (charged, reserved) in sorted(moved.items())]
    statements.many(MOVE, rows)


def insert_statement(table: str, columns: Sequence[str]) -> str:
    """An INSERT of a row."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def update_statement(columns: Sequence[str]) -> str:
    """An UPDATE of an open call."""
    return f"UPDATE ledger_requests SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ? AND status = 'open'"


INSERT_OPENED = insert_statement("ledger_requests", OPENED)
INSERT_ATTEMPT = insert_statement("ledger_attempts", ATTEMPT)
UPDATE_CLOSED = update_statement(CLOSED)
UPDATE_CHECKPOINT = update_statement(CHECKPOINT)
LEFT_OPEN = tuple(dict.fromkeys((*OPENED, *CHECKPOINT, "id")))
SELECT_OPEN = f"SELECT {', '.join(LEFT_OPEN)} FROM ledger_requests WHERE process_id = ? AND status = 'open' ORDER BY id"
MOVE = (
    insert_statement(
        "balances",
        ("account_id", "settled_pico_usd", "reserved_pico_usd", "spent_pico_usd", "version", "updated_us"),
    )
    + " ON CONFLICT (account_id) DO UPDATE SET settled_pico_usd = balances.settled_pico_usd + excluded.settled_pico_usd"
    ", reserved_pico_usd = balances.reserved_pico_usd + excluded.reserved_pico_usd"
    ", spent_pico_usd = balances.spent_pico_usd + excluded.spent_pico_usd"
    ", version = balances.version + 1, updated_us = excluded.updated_us"
)


class ProcessRow(NamedTuple):
    """A process that has not ended, as far as is known."""

    id: str
    host: str
    pid: int
    started_us: int
    seen_us: int


def register(connection: Connection, process_id: str, host: str, pid: int) -> None:
    """Makes a process known."""
    now = now_us()
    connection.execute(processes.insert().values(id=process_id, host=host, pid=pid, started_us=now, seen_us=now))


def sign_of_life(connection: Connection, process_id: str) -> list[ProcessRow]:
    """Tells that a process lives; returns the others that have not ended."""
    connection.execute(update(processes).where(processes.c.id == process_id).values(seen_us=now_us()))
    columns = (processes.c[name] for name in ProcessRow._fields)
    others = select(*columns).where(processes.c.ended_us.is_(None), processes.c.id != process_id)
    return [ProcessRow(*row) for row in connection.execute(others)]


def end_process(statements: Statements, process_id: str) -> None:
    """Tells that a process has ended."""
    statements.many("UPDATE processes SET ended_us = ? WHERE id = ?", [(now_us(), process_id)])


def orphans(connection: Connection) -> list[str]:
    """Processes that have ended, and left calls open."""
    left = select(ledger_requests.c.process_id).where(ledger_requests.c.status == OPEN).distinct()
    alive = select(processes.c.id).where(processes.c.ended_us.is_(None))
    return list(connection.scalars(left.where(ledger_requests.c.process_id.not_in(alive))))


def close_left_open(statements: Statements, process_id: str, closing: Callable[[Mapping[str, Any]], Closing]) -> int:
    """Closes what a dead process left open, as `closing` says of each row, and ends it; returns how many there were."""
    rows = statements.rows(SELECT_OPEN + LOCK[statements.dialect], [process_id])
    end_process(statements, process_id)
    closed = [closing(dict(zip(LEFT_OPEN, row, strict=True))) for row in rows]
    write(statements, Batch(closed=closed), careful=True)
    return len(closed)


def root_account_id(connection: Connection) -> str | None:
    """The operator's account. None: there is none yet."""
    return connection.scalar(select(accounts.c.id).where(accounts.c.root.is_(True)))


def make_root_account(connection: Connection, account_id: str) -> None:
    """Makes the operator's account, which another process may have made in the meantime."""
    now = now_us()
    new = insert(connection, accounts).values(id=account_id, root=True, name="root", created_us=now, updated_us=now)
    connection.execute(new.on_conflict_do_nothing())
