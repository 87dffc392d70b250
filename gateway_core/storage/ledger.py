"""Writes the ledger: calls that have ended, in batches, with what they do to the balances; and who writes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from gateway_core.storage import journal
from gateway_core.storage.backend import Statements
from gateway_core.storage.identifier import now_us
from gateway_core.storage.journal import OPENED, TOKENS, Entry, Left, Row
from gateway_core.storage.money import LARGEST
from gateway_core.storage.statements import insert, insert_statement
from gateway_core.storage.tables.coordination import processes
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import ledger_journal

INTERRUPTED = "interrupted"
CLOSED = (
    *("status", "response_model", "provider", "finish_reason", "attempt_count", *TOKENS),
    *("estimated_prompt_tokens", "delivered_tokens", "cost_pico_usd", "charged_pico_usd", "reserve_units"),
    *("ended_us", "duration_us", "time_to_first_token_us"),
)
"""What a row of a call that has ended has behind that of its opening."""
ENDED = (*OPENED, *CLOSED)
"""The columns of a call that has ended."""
ATTEMPT = (
    *("ledger_id", "number", "provider", "model", "status", "http_status", "upstream_request_id", *TOKENS),
    *("cost_pico_usd", "started_us", "duration_us", "time_to_first_token_us"),
)
"""The columns of an attempt."""


Closing = tuple[str, str, int, Row, Sequence[Row]]
"""A call that ends: its id, its account's, the picodollars by which the balance moves, its row, those of its attempts.

A plain tuple, as every call has one: with names it costs four times as much to make, and to take apart."""


@dataclass(slots=True)
class Batch:
    """What is written in one transaction."""

    entry: Entry | None = None
    closed: Sequence[Closing] = ()
    emptied: Sequence[tuple[str, int]] = field(default_factory=list)
    """Rows of the journal, by process and number, all of whose calls have ended."""


def write(statements: Statements, batch: Batch, *, careful: bool) -> None:
    """Writes a batch. A call that has been closed already is left as it is where careful, and else a Conflict."""
    if batch.entry is not None:
        statements.many(journal.INSERT, [batch.entry.row])
    closed = batch.closed
    if careful and closed:
        before = journal.closed_ids(statements, [id_ for id_, *_ in closed])
        closed = [closing for closing in closed if closing[0] not in before]
    if closed:
        statements.insert("ledger_requests", ENDED, [row for _, _, _, row, _ in closed])
        attempts = [row for _, _, _, _, rows in closed for row in rows]
        if attempts:
            statements.insert("ledger_attempts", ATTEMPT, attempts)
        move(statements, closed)
    if batch.emptied:
        statements.many(journal.DELETE, batch.emptied)


def move(statements: Statements, closed: Sequence[Closing]) -> None:
    """Moves balances by what is charged."""
    charged: dict[str, int] = {}
    for _, account_id, amount, _, _ in closed:
        if amount:
            charged[account_id] = charged.get(account_id, 0) + amount
    if charged:
        now = now_us()
        # In one order everywhere, so that no two processes wait for one another.
        moved = ((account, min(amount, LARGEST)) for account, amount in sorted(charged.items()))
        statements.many(MOVE, [(account, -amount, amount, 1, now) for account, amount in moved])


# What a column does not take stands still at its end: a spend cap is reached there in any case.
MOVE = (
    insert_statement("balances", ("account_id", "settled_pico_usd", "spent_pico_usd", "version", "updated_us"))
    + " ON CONFLICT (account_id) DO UPDATE SET settled_pico_usd ="
    f" CASE WHEN balances.settled_pico_usd < -{LARGEST} - excluded.settled_pico_usd THEN -{LARGEST}"
    " ELSE balances.settled_pico_usd + excluded.settled_pico_usd END"
    f", spent_pico_usd = CASE WHEN balances.spent_pico_usd > {LARGEST} - excluded.spent_pico_usd THEN {LARGEST}"
    " ELSE balances.spent_pico_usd + excluded.spent_pico_usd END"
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
    connection.execute(update(processes).where(processes.c.id == process_id).values(seen_us=now_us(), ended_us=None))
    columns = (processes.c[name] for name in ProcessRow._fields)
    others = select(*columns).where(processes.c.ended_us.is_(None), processes.c.id != process_id)
    return [ProcessRow(*row) for row in connection.execute(others)]


def end_process(statements: Statements, process_id: str, emptied: Sequence[int]) -> None:
    """Tells that a process has ended; deletes the rows of its journal that no call needs, by their numbers.

    Others stay: a process that was only silent may have written them in the meantime.
    """
    if emptied:
        statements.many(journal.DELETE, [(process_id, number) for number in emptied])
    statements.many("UPDATE processes SET ended_us = ? WHERE id = ?", [(now_us(), process_id)])


def orphans(connection: Connection) -> list[str]:
    """Processes that have ended, and left calls open."""
    left = select(ledger_journal.c.process_id).distinct()
    alive = select(processes.c.id).where(processes.c.ended_us.is_(None))
    return list(connection.scalars(left.where(ledger_journal.c.process_id.not_in(alive))))


def close_left_open(statements: Statements, process_id: str, closing: Callable[[Mapping[str, Any]], Closing]) -> Left:
    """Closes what a dead process left open, as `closing` says of each, and ends it; returns what there was.

    Rows that cannot be read stay. Raises Conflict where something else closes the same calls at the same time.
    """
    found = journal.left(statements, process_id)
    write(statements, Batch(closed=[closing(call) for call in found.calls]), careful=True)
    end_process(statements, process_id, list(found.rows))
    return found


def root_account_id(connection: Connection) -> str | None:
    """The operator's account. None: there is none yet."""
    return connection.scalar(select(accounts.c.id).where(accounts.c.root.is_(True)))


def make_root_account(connection: Connection, account_id: str) -> None:
    """Makes the operator's account, which another process may have made in the meantime."""
    now = now_us()
    new = insert(connection, accounts).values(id=account_id, root=True, name="root", created_us=now, updated_us=now)
    connection.execute(new.on_conflict_do_nothing())
