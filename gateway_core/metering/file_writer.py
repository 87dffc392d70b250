"""The ledger's writer where the journal is in a file: a call neither opens nor ends with a wait for the database.

What has ended is in the file at once, which outlives the process, and goes into the ledger with all that ends within
GATHER_SECONDS.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from gateway_core.metering.burial import interrupted
from gateway_core.metering.file_burial import bury_files
from gateway_core.metering.file_call import Ended, Held, places_of, read_again
from gateway_core.metering.journal_place import journals
from gateway_core.metering.ledger_writer import LedgerWriter, Waiter
from gateway_core.metering.record import UNNOTED, Record, undelivered
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.journal import ABSENT, CHECKPOINT, JOURNALED, Row
from gateway_core.storage.journal_file import JournalFile
from gateway_core.storage.journal_line import ended_line, note_line, opened_line
from gateway_core.storage.ledger import Closing

log = structlog.get_logger("headgate.ledger")

GATHER_SECONDS = 0.05
MOST_TOGETHER = 512
"""Ends that go into the ledger at once, without waiting for more."""
SEGMENTS_AT_MOST = 8
FEW_LINES = 500
"""Where more segments are needed, and of one so few lines, they are put again: of calls that take long, or that the
ledger will not have."""
SETTLED_SECONDS = 2.0
"""How long whoever reads waits for what has ended to be in the ledger: it may be away, or slow."""


class FileWriter:
    """Belongs to one event loop, between `start` and `close`."""

    _directory: Path
    _journal: JournalFile

    def __init__(self, database: Database) -> None:
        """Takes the database."""
        self._database = database
        self._writer = LedgerWriter(database, ended=self._ended)
        self._open: dict[str, Held] = {}
        """Openings, by the id of the call."""
        self._noted: dict[str, Held] = {}
        """How far those of them are of which that was put."""
        self._closed: dict[str, Ended] = {}
        """Calls that have ended, and are not in the ledger, by their ids: in the order of their ends."""
        self._pending: dict[str, int] = {}
        """What they have charged, in picodollars, by account."""
        self._count = 0
        self._gathered: list[Closing] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._handed: set[Waiter] = set()
        self._waiting: deque[str] = deque()
        """Calls whose end is in the file alone until the database writes again, which may be long."""
        self._taking: Waiter | None = None
        self._caring: asyncio.Task[None] | None = None
        self._set_aside: set[str] = set()

    async def start(self) -> None:
        """Makes the journal; raises StorageUnavailable."""
        self._directory = await journals(self._database)
        self._journal = JournalFile(self._directory, self._database.process_id, self._wants_care)
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
        self._open[opening[0]] = (opening, journal.put(opened_line(opening)))

    def end(self, closing: Closing) -> Waiter | None:
        """Writes how a call has ended. Where it cannot be what is returned tells so, and it is kept for `retry`."""
        line = ended_line(closing)
        id_, account_id, charged, _, _ = closing
        held = self._open.pop(id_, None)
        if held is None and id_ in self._closed:
            return None  # by `finish`, before whoever held it let it go
        noted = self._noted.pop(id_, None) if self._noted else None
        waiter = None
        try:
            place = self._journal.put(line)
        except StorageUnavailable as error:
            log.error("ledger_not_written", message=str(error), count=1)
            waiter = failed(error)
            closing = undelivered(closing)
            charged = closing[2]
            # Who dies now leaves the opening at least.
            self._closed[id_] = (self._count, places_of(held, noted), None, charged)
        else:
            end = place.end
            self._closed[id_] = (self._count, (place,), (end - len(line), end), charged)
            if held is not None:
                self._journal.release(held[1])
            if noted is not None:
                self._journal.release(noted[1])
        self._count += 1
        if charged:
            self._pending[account_id] = self._pending.get(account_id, 0) + charged
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
        self._shorten()

    def note_soon(self, record: Record) -> None:
        """Writes how far a call is."""
        if record.id not in self._open:
            return
        row = record.checkpoint()
        try:
            segment = self._journal.put(note_line(row))
        except StorageUnavailable as error:
            record.checkpointed = UNNOTED
            log.warning("checkpoint_not_written", message=str(error))
            return
        before = self._noted.get(record.id)
        self._noted[record.id] = (row, segment)
        if before is not None:
            self._journal.release(before[1])

    def give_up(self) -> None:
        """A call that was to be opened is not: there is nothing of it."""

    def retry(self) -> None:
        """Has what could not be written so far written again, and room made where there was none."""
        self._shorten()
        self._writer.retry()
        self._take_up()
        if not self._journal.has_spare:
            self._wants_care()

    async def bury(self) -> None:
        """Writes what dead processes have left in their files; raises StorageUnavailable."""
        await bury_files(self._database, self._directory, self._set_aside)

    async def settled(self) -> Mapping[str, int]:
        """Waits until what has ended so far is in the ledger, or could not be written, or for SETTLED_SECONDS.

        Returns what is not, in picodollars, by account; nothing where all is.
        """
        if self._gathered:
            self._hand()
        count = self._count
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_SECONDS):
                if self._handed:
                    await asyncio.wait(self._handed)
                await self._writer.caught_up()  # it may be at what could not be written before
        first = next(iter(self._closed.values()), None)
        return {} if first is None or first[0] >= count else dict(self._pending)

    async def finish(self) -> None:
        """Writes what is left, as far as it can; calls that somebody holds open are closed as those of the dead are."""
        for id_, (opening, _) in list(self._open.items()):
            call = {**ABSENT, **dict(zip(JOURNALED, opening, strict=True))}
            noted = self._noted.get(id_)
            if noted is not None:
                call |= dict(zip(CHECKPOINT, noted[0], strict=True))
            self.end(interrupted(call))
        if self._gathered:
            self._hand()
        await self._writer.finish()
        while self._may_take_up:
            self._take_up()
            if self._taking is not None:
                await asyncio.wait((self._taking,))
        await self._writer.rest()

    @property
    def left(self) -> int:
        """How many ends are not in the ledger."""
        return len(self._closed)

    @property
    def is_behind(self) -> bool:
        """Whether ends wait in the file, since the database does not write, or did not until just now."""
        return bool(self._waiting) or self._writer.is_behind

    @property
    def unwritten(self) -> Mapping[str, Closing]:
        """Ends that could not be written into the ledger, by the ids of the calls."""
        return self._writer.unwritten

    def _hand(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        gathered, self._gathered = self._gathered, []
        if self._database.changes.outage.is_on or self._writer.is_behind:
            gathered = [closing for closing in gathered if not self._waits(closing[0])]
        if gathered:
            self._give(gathered)
        self._take_up()

    def _give(self, closings: list[Closing]) -> Waiter:
        waiter = self._writer.add(closings)
        self._handed.add(waiter)
        waiter.add_done_callback(self._handed.discard)
        return waiter

    def _waits(self, call_id: str) -> bool:
        """Whether the end of a call can wait in the file; then it does."""
        ended = self._closed.get(call_id)
        if ended is None or ended[2] is None:
            return False
        self._waiting.append(call_id)
        return True

    @property
    def _may_take_up(self) -> bool:
        return bool(self._waiting) and not self._database.changes.outage.is_on and not self._writer.is_behind

    def _take_up(self) -> None:
        """Writes what waits in the file, a part of it after the other, once the database is back."""
        if self._taking is not None or not self._may_take_up:
            return
        part = [self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))]
        self._taking = self._give([read_again(self._closed[id_]) for id_ in part])
        self._taking.add_done_callback(self._taken)

    def _taken(self, waiter: Waiter) -> None:
        self._taking = None
        if not waiter.cancelled() and waiter.exception() is None:
            self._take_up()

    def _ended(self, closings: Iterable[Closing]) -> None:
        """Calls are in the ledger: what says so in the file is needed no more."""
        pending = self._pending
        for id_, account_id, _, _, _ in closings:
            ended = self._closed.pop(id_, None)
            if ended is None:
                continue
            _, places, _, charged = ended
            if charged:
                left = pending[account_id] - charged
                if left:
                    pending[account_id] = left
                else:
                    del pending[account_id]
            for segment in places:
                self._journal.release(segment)
        if self._waiting:
            self._take_up()  # the database writes again

    def _shorten(self) -> None:
        """A few lines, which are needed for long, keep no files that are empty but for them."""
        if len(self._journal) <= SEGMENTS_AT_MOST:
            return
        sparse = self._journal.sparse(FEW_LINES)
        if sparse is None:
            return
        try:
            for id_, opened in list(self._open.items()):
                noted = self._noted.get(id_)
                if sparse in places_of(opened, noted):
                    self._put_again(id_, opened, noted)
            for id_, closing in self._writer.refused.items():
                ended = self._closed.get(id_)
                if ended is None:
                    continue
                number, places, line_at, charged = ended
                if line_at is not None and places == (sparse,):
                    line = ended_line(closing)
                    place = self._journal.put(line)
                    self._closed[id_] = (number, (place,), (place.end - len(line), place.end), charged)
                    self._journal.release(sparse)
        except StorageUnavailable as error:
            log.warning("journal_not_shortened", message=str(error))

    def _put_again(self, id_: str, opened: Held, noted: Held | None) -> None:
        opening_in = self._journal.put(opened_line(opened[0]))
        try:
            # What was noted comes behind the opening, or it would not count.
            if noted is not None:
                self._noted[id_] = (noted[0], self._journal.put(note_line(noted[0])))
        except StorageUnavailable:
            self._journal.release(opening_in)
            raise
        self._open[id_] = (opened[0], opening_in)
        for segment in places_of(opened, noted):
            self._journal.release(segment)

    def _wants_care(self) -> None:
        if self._caring is None:
            self._caring = asyncio.create_task(self._care(), name="making room in the journal of the calls")

    async def _care(self) -> None:
        try:
            await asyncio.to_thread(self._journal.care)
            while not self._journal.is_cared_for:  # what was wanted meanwhile
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
