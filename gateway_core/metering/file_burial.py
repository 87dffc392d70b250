"""Closes what is in the files of processes that have died: what ended is written, and what was open is interrupted."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from gateway_core.metering.burial import Unclosed, interrupted, not_closed
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.journal import ABSENT, closed_ids
from gateway_core.storage.journal_file import lines_in
from gateway_core.storage.journal_left import Dead, dead_journals
from gateway_core.storage.journal_line import Told, told_by

log = structlog.get_logger("headgate.ledger")

AT_ONCE = 200


async def bury_files(database: Database, directory: Path, set_aside: set[str]) -> None:
    """Closes what processes left open that used a database in a file; raises StorageUnavailable.

    What cannot be closed, or read, stays in its file; the log tells of it, and the process is set aside. Calls that are
    in the ledger already are left as they are.
    """
    dead = await asyncio.to_thread(lambda: list(dead_journals(directory, set_aside)))
    left = list(dead)
    try:
        for journal in dead:
            try:
                is_whole = await buried(database, journal)
            except OSError as error:
                log.error("journal_not_readable", process_id=journal.process_id, message=str(error))
                is_whole = False
            left.remove(journal)
            if not is_whole:
                set_aside.add(journal.process_id)
            await asyncio.to_thread(journal.close, is_kept=not is_whole)
    finally:
        for journal in left:
            journal.close(is_kept=True)


async def buried(database: Database, journal: Dead) -> bool:
    """Closes what one has left; whether that was all. Raises StorageUnavailable, OSError.

    One file after the other, and of those before it only what is open is held: all may be a gigabyte.
    """
    told = Told()
    failures = 0
    for path in await asyncio.to_thread(journal.paths):
        await asyncio.to_thread(add_file, told, path)
        ended = [Unclosed(id_, partial(itself, closing)) for id_, closing in told.closings.items()]
        failures += await unwritten(database, journal.process_id, ended)
        for id_ in told.closings:
            told.calls.pop(id_, None)
        told.closings.clear()
    if told.unreadable:
        # The end of a call that seems to be open may be among them.
        log.error("journal_not_readable", process_id=journal.process_id, count=told.unreadable)
        return False
    # The line of an opening may be there longer than that of the end.
    known = await database.write(lambda statements: closed_ids(statements, list(told.calls)))
    open_ = [
        Unclosed(id_, partial(interrupted, {**ABSENT, **call})) for id_, call in told.calls.items() if id_ not in known
    ]
    left = await unwritten(database, journal.process_id, open_)
    if len(open_) > left:
        log.warning("calls_interrupted", process_id=journal.process_id, count=len(open_) - left)
    return not (failures or left)


def add_file(told: Told, path: Path) -> None:
    """Adds what a file says; raises OSError."""
    told_by(lines_in(path), told)


def itself(closing: rows.Closing) -> rows.Closing:
    """How a call ends of which that is known."""
    return closing


async def unwritten(database: Database, process_id: str, calls: Sequence[Unclosed]) -> int:
    """Closes calls, as many in a transaction as it takes well; how many could not be. Raises StorageUnavailable."""
    failures = 0
    for start in range(0, len(calls), AT_ONCE):
        failures += len(await not_closed(database, process_id, calls[start : start + AT_ONCE]))
    return failures
