"""Closes what is in the files of processes that have died: what ended is written, and what was open is interrupted."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from gateway_core.metering.burial import interrupted
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.journal import ABSENT, closed_ids
from gateway_core.storage.journal_file import Dead, dead_journals
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
            is_whole = await buried(database, journal)
            left.remove(journal)
            if not is_whole:
                set_aside.add(journal.process_id)
            await asyncio.to_thread(journal.close, is_kept=not is_whole)
    finally:
        for journal in left:
            journal.close(is_kept=True)


async def buried(database: Database, journal: Dead) -> bool:
    """Closes what one has left; whether that was all. Raises StorageUnavailable."""
    told = await asyncio.to_thread(lambda: told_by(journal.lines()))
    known = await database.write(lambda statements: closed_ids(statements, list(told.calls)))
    closings, count = closings_of(told, known)
    failures = 0
    for start in range(0, len(closings), AT_ONCE):
        failures += await not_closed(database, journal.process_id, closings[start : start + AT_ONCE])
    if count:
        log.warning("calls_interrupted", process_id=journal.process_id, count=count)
    if told.unreadable:
        log.error("journal_not_readable", process_id=journal.process_id, count=told.unreadable)
    return not failures and not told.unreadable


def closings_of(told: Told, known: Collection[str]) -> tuple[list[rows.Closing], int]:
    """How the calls end of which lines tell, and how many of them were open when the process died.

    The line of an opening may be there longer than that of the end: `known` has the calls that are in the ledger.
    """
    ended = [closing for id_, closing in told.closings.items() if id_ not in known]
    open_ = [call for id_, call in told.calls.items() if id_ not in told.closings and id_ not in known]
    return [*ended, *(interrupted({**ABSENT, **call}) for call in open_)], len(open_)


async def not_closed(database: Database, process_id: str, closings: Sequence[rows.Closing]) -> int:
    """Writes the ends of calls; how many could not be. Raises StorageUnavailable."""
    try:
        await database.write(lambda statements: rows.write(statements, rows.Batch(closed=closings), careful=True))
    except StorageUnavailable:
        raise
    except Exception:  # one of them is at fault: it is told when it is the only one
        if len(closings) == 1:
            log.exception("call_not_closed", process_id=process_id, call_id=closings[0].id)
            return 1
        middle = len(closings) // 2
        first = await not_closed(database, process_id, closings[:middle])
        return first + await not_closed(database, process_id, closings[middle:])
    return 0
