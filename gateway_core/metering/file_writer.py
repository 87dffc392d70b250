"""The ledger's writer where the journal is in a file: a call neither opens nor ends with a wait for the database.

What has ended is in the file at once, which outlives the process, and goes into the ledger with all that ends within
GATHER_SECONDS.
"""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from gateway_core.metering.burial import interrupted
from gateway_core.metering.file_burial import bury_files
from gateway_core.metering.ledger_writer import LedgerWriter, Waiter
from gateway_core.metering.record import UNNOTED, Record, undelivered
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.journal import ABSENT, CHECKPOINT, JOURNALED, Row
from gateway_core.storage.journal_file import JournalFile, Segment
from gateway_core.storage.journal_line import ended_line, note_line, opened_line
from gateway_core.storage.ledger import Closing

log = structlog.get_logger("headgate.ledger")

GATHER_SECONDS = 0.05
MOST_TOGETHER = 512
"""Ends that go into the ledger at once, without waiting for more."""
SEGMENTS_AT_MOST = 8
"""Where more are needed the lines of the oldest, which are of calls that take long, are put again."""


class Held:
    """A call that is open: its lines, and where they are."""

    __slots__ = ("noted", "noted_in", "opening", "opening_in")

    def __init__(self, opening: Row, opening_in: Segment) -> None:
        """Takes the line of its opening."""
        self.opening = opening
        self.opening_in = opening_in
        self.noted: Row | None = None
        self.noted_in: Segment | None = None


class FileWriter:
    """Belongs to one event loop, between `start` and `close`."""

    def __init__(self, database: Database, directory: Path) -> None:
        """Takes the database, and where the journals of its processes are."""
        self._database = database
        self._directory = directory
        self._journal = JournalFile(directory, database.process_id, self._wants_care)
        self._writer = LedgerWriter(database, ended=self._ended)
        self._open: dict[str, Held] = {}
        """By the id of the call."""
        self._closed: dict[str, Segment | None] = {}
        """Where the lines of calls are that have ended, and are not in the ledger. None: there was no room."""
        self._gathered: list[Closing] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._handed: set[Waiter] = set()
        self._caring: asyncio.Task[None] | None = None
        self._set_aside: set[str] = set()

    async def start(self) -> None:
        """Makes the journal; raises StorageUnavailable."""
        await asyncio.to_thread(self._journal.open)

    async def close(self) -> None:
        """Ends the journal, which stays where something of it is not in the ledger, for whoever starts next."""
        if self._caring is not None:
            await asyncio.wait((self._caring,))
        await asyncio.to_thread(self._journal.close, is_kept=bool(self._open or self._closed))

    def open(self, opening: Row) -> None:
        """Writes the opening of a call; raises StorageUnavailable where there is no room."""
        journal = self._journal
        if not journal.has_room:
            self._wants_care()
            raise StorageUnavailable("The journal of the calls has no room: the disk is full, or the database away.")
        self._open[opening[0]] = Held(opening, journal.put(opened_line(opening)))

    def end(self, closing: Closing) -> Waiter | None:
        """Writes how a call has ended. Where it cannot be what is returned tells so, and it is kept for `retry`."""
        held = self._open.pop(closing.id, None)
        waiter = None
        try:
            self._closed[closing.id] = self._journal.put(ended_line(closing))
        except StorageUnavailable as error:
            log.error("ledger_not_written", message=str(error), count=1)
            closing = undelivered(closing)
            self._closed[closing.id] = None
            waiter = failed(error)
        if held is not None:
            self._release(held)
        self._gathered.append(closing)
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._hand)
        elif len(self._gathered) >= MOST_TOGETHER:
            self._hand()
        return waiter

    def note(self, records: Iterable[Record]) -> None:
        """Writes how far calls are."""
        for record in records:
            self.note_soon(record)
        self._put_oldest_again()

    def note_soon(self, record: Record) -> None:
        """Writes how far a call is."""
        held = self._open.get(record.id)
        if held is None:
            return
        row = record.checkpoint()
        try:
            segment = self._journal.put(note_line(row))
        except StorageUnavailable as error:
            record.checkpointed = UNNOTED
            log.warning("checkpoint_not_written", message=str(error))
            return
        if held.noted_in is not None:
            self._journal.release(held.noted_in)
        held.noted, held.noted_in = row, segment

    def give_up(self) -> None:
        """A call that was to be opened is not: there is nothing of it."""

    def retry(self) -> None:
        """Has what could not be written so far written again."""
        self._writer.retry()

    async def bury(self) -> None:
        """Writes what dead processes have left in their files; raises StorageUnavailable."""
        await bury_files(self._database, self._directory, self._set_aside)

    async def settled(self) -> bool:
        """Waits until what has ended so far is in the ledger, or could not be written; whether all of it is."""
        if self._gathered:
            self._hand()
        if self._handed:
            await asyncio.wait(self._handed)
        await self._writer.rest()  # it may be at what could not be written before
        return not self._writer.unwritten

    async def finish(self) -> None:
        """Writes what is left, as far as it can; calls that somebody holds open are closed as those of the dead are."""
        for held in list(self._open.values()):
            call = {**ABSENT, **dict(zip(JOURNALED, held.opening, strict=True))}
            if held.noted is not None:
                call |= dict(zip(CHECKPOINT, held.noted, strict=True))
            self.end(interrupted(call))
        await self.settled()
        await self._writer.finish()

    @property
    def unwritten(self) -> Mapping[str, Closing]:
        """Ends that could not be written into the ledger, by the ids of the calls."""
        return self._writer.unwritten

    def _hand(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        gathered, self._gathered = self._gathered, []
        waiter = self._writer.add(gathered)
        self._handed.add(waiter)
        waiter.add_done_callback(self._handed.discard)

    def _ended(self, call_id: str) -> None:
        segment = self._closed.pop(call_id, None)
        if segment is not None:
            self._journal.release(segment)

    def _release(self, held: Held) -> None:
        self._journal.release(held.opening_in)
        if held.noted_in is not None:
            self._journal.release(held.noted_in)

    def _put_oldest_again(self) -> None:
        """Calls that take long keep no files that are empty but for them."""
        oldest = self._journal.oldest
        if oldest is None or len(self._journal) <= SEGMENTS_AT_MOST:
            return
        for held in self._open.values():
            if held.opening_in is oldest or held.noted_in is oldest:
                try:
                    again = Held(held.opening, self._journal.put(opened_line(held.opening)))
                    # What was noted comes behind the opening, or it would not count.
                    noted_in = None if held.noted is None else self._journal.put(note_line(held.noted))
                except StorageUnavailable as error:
                    log.warning("journal_not_shortened", message=str(error))
                    return
                self._release(held)
                held.opening_in, held.noted_in = again.opening_in, noted_in

    def _wants_care(self) -> None:
        if self._caring is None:
            self._caring = asyncio.create_task(self._care(), name="making room in the journal of the calls")

    async def _care(self) -> None:
        try:
            await asyncio.to_thread(self._journal.care)
        except StorageUnavailable as error:
            log.error("journal_has_no_room", message=str(error))
        finally:
            self._caring = None


def failed(error: Exception) -> Waiter:
    """What tells whoever waits that something has failed."""
    waiter: Waiter = asyncio.get_running_loop().create_future()
    waiter.set_exception(error)
    waiter.exception()  # whoever does not wait need not have looked
    return waiter
