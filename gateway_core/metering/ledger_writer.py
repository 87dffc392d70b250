"""Group commit: what calls open and close meanwhile goes into one transaction, off the event loop."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import structlog

from gateway_core.metering.file_burial import bury_files
from gateway_core.metering.journal import Journal
from gateway_core.metering.journal_place import journals
from gateway_core.metering.ledger_batch import Batch, halves
from gateway_core.metering.record import UNNOTED, Record, undelivered
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import Conflict, StorageUnavailable
from gateway_core.storage.journal import Row

log = structlog.get_logger("headgate.ledger")

GATHER_SECONDS = 0.001
"""How long a transaction waits for more to go with it, where calls come close upon one another."""
NOTE_SECONDS = 0.005
"""How long the first words of a stream wait for a transaction of other calls to go with."""
RETRIED_AT_ONCE = 200
TELL_AGAIN_SECONDS = 60.0

Waiter = asyncio.Future[None]


class LedgerWriter:
    """One transaction is on its way at a time; what comes meanwhile goes with the next."""

    _directory: Path

    def __init__(self, database: Database, ended: Callable[[Iterable[rows.Closing]], None] | None = None) -> None:
        """Takes the database, and what is told the ends that are in the ledger.

        Where somebody is, nobody waits for the ends: those that cannot be written are kept as they are.
        """
        self._database = database
        self._told = ended
        self._journal = Journal(database.process_id)
        self._batch = Batch()
        self._waiters: list[tuple[Waiter, Row | rows.Closing]] = []
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: dict[str, rows.Closing] = {}
        """By the id of the call: ends for which the database was not there."""
        self._refused: dict[str, rows.Closing] = {}
        """Ends that it would not have, for whatever reason."""
        self._is_clearing = False
        self._noting: asyncio.TimerHandle | None = None
        self._gathering: asyncio.Future[None] | None = None
        self._enough = 0
        self._calls = 0
        """Calls that are open, or are being opened."""
        self._turns: list[Waiter] = []
        self._set_aside: set[str] = set()
        self._told_at: float | None = None

    async def start(self) -> None:
        """Finds where those have their journals who have them in files."""
        self._directory = await journals(self._database)

    async def close(self) -> None:
        """Nothing is left."""

    async def bury(self) -> None:
        """Closes what those have left who had their journals in files; raises StorageUnavailable."""
        await bury_files(self._database, self._directory, self._set_aside)

    async def settled(self) -> Mapping[str, int]:
        """Whoever was told that a call has ended was told so when it was written."""
        return {}

    def open(self, opening: Row) -> Waiter:
        """Done when the opening of a call is written."""
        self._calls += 1
        self._batch.opened.append(opening)
        return self._written_with(opening)

    def end(self, closing: rows.Closing) -> Waiter:
        """Done when the end of a call is written. Where it cannot be it is kept for `retry`."""
        self._calls -= 1
        self._batch.closed.append(closing)
        return self._written_with(closing)

    def add(self, closings: Sequence[rows.Closing]) -> Waiter:
        """Done when the ends of calls are written, or kept for `retry`."""
        self._batch.closed += closings
        return self._written_with(closings[0])

    def note(self, records: Iterable[Record]) -> None:
        """Has written how far calls are."""
        for record in records:
            self._batch.behind[record.id] = record
        self._wake()

    def note_soon(self, record: Record) -> None:
        """Has written how far a call is, within NOTE_SECONDS."""
        self._batch.behind[record.id] = record
        if self._noting is None and self._writing is None:
            self._noting = asyncio.get_running_loop().call_later(NOTE_SECONDS, self._wake_for_notes)

    def _wake_for_notes(self) -> None:
        self._noting = None
        if self._batch.behind:
            self._wake()

    def give_up(self) -> None:
        """A call that was to be opened is not: nothing was asked for it."""
        self._calls -= 1

    def retry(self) -> None:
        """Has written what could not be, a part of it after the other, and rows deleted that no call needs."""
        self._unwritten |= self._refused
        self._refused.clear()
        if self._writing is None:
            self._journal.give_up()
            self._is_clearing = self._journal.has_emptied
        if self._unwritten or self._is_clearing:
            self._take_up()
            self._wake()

    def _take_up(self) -> None:
        part = list(islice(self._unwritten, RETRIED_AT_ONCE))
        self._batch.closed += [self._unwritten.pop(id_) for id_ in part]

    async def finish(self) -> None:
        """Writes what is left, as far as it can."""
        self.retry()
        self._wake_for_notes()
        await self.rest()

    async def rest(self) -> None:
        """Waits until nothing is being written."""
        while self._writing is not None:
            await asyncio.wait((self._writing,))

    async def caught_up(self) -> None:
        """Waits until what is being written is, and what waits for that: not for what comes meanwhile."""
        for _ in range(2):
            if self._writing is None:
                return
            turn: Waiter = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            await turn

    def _turn(self) -> None:
        turns, self._turns = self._turns, []
        for turn in turns:
            tell(turn)

    @property
    def is_behind(self) -> bool:
        """Whether there are many ends for which the database was not there: a few may be at fault themselves."""
        return len(self._unwritten) > RETRIED_AT_ONCE

    @property
    def left(self) -> int:
        """How many ends are not written."""
        return len(self.unwritten)

    @property
    def refused(self) -> Mapping[str, rows.Closing]:
        """Ends that the database would not have, by the ids of the calls."""
        return self._refused

    @property
    def unwritten(self) -> Mapping[str, rows.Closing]:
        """Ends that could not be written, by the ids of the calls."""
        return self._unwritten | self._refused

    def _written_with(self, operation: Row | rows.Closing) -> Waiter:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, operation))
        if self._gathering is None:
            self._wake()
        elif len(self._waiters) >= self._enough and not self._gathering.done():
            self._gathering.set_result(None)
        return waiter

    def _wake(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="the ledger's writer")

    async def _write(self) -> None:
        count = 0
        try:
            while len(self._batch) or self._is_clearing:
                self._is_clearing = False
                # Who comes alone, one after the other, waits for nobody.
                if max(count, len(self._batch)) > 1:
                    await self._gathered()
                count = len(self._batch)
                batch, self._batch = self._batch, Batch()
                waiters, self._waiters = self._waiters, []
                failures = await self._failures(batch)
                for waiter, operation in waiters:
                    if waiter.done():
                        continue
                    error = failures.get(id(operation)) if failures else None
                    if error is None:
                        waiter.set_result(None)
                    else:
                        waiter.set_exception(error)
                        waiter.exception()  # whoever waits no longer need not have looked
                if self._unwritten and batch.closed and not failures:
                    self._take_up()  # the database is back
                self._turn()
        finally:
            self._writing = None
            self._turn()

    async def _gathered(self) -> None:
        """Waits until all calls that run are here, or for GATHER_SECONDS."""
        self._enough = self._calls + len(self._batch.closed)
        if len(self._waiters) >= self._enough:
            return
        loop = asyncio.get_running_loop()
        self._gathering = gathering = loop.create_future()
        timer = loop.call_later(GATHER_SECONDS, tell, gathering)
        try:
            await gathering
        finally:
            timer.cancel()
            self._gathering = None

    async def _failures(self, batch: Batch) -> dict[int, Exception]:
        """Writes a batch; what went wrong, by the identity of the operation.

        Where one of many is at fault itself it is looked for by halves, so that the others do not fail with it.
        """
        error = await self._written(batch)
        if error is None:
            return {}
        if isinstance(error, StorageUnavailable) or len(batch) <= 1:
            kept = self._unwritten if isinstance(error, StorageUnavailable) else self._refused
            kept |= {closing[0]: self._kept(closing) for closing in batch.closed}
            for record in batch.behind.values():
                record.checkpointed = UNNOTED
            return {id(operation): error for operation in (*batch.opened, *batch.closed)}
        failures: dict[int, Exception] = {}
        for part in halves(batch):
            failures |= await self._failures(part)
        return failures

    async def _written(self, batch: Batch) -> Exception | None:
        """Writes a batch; what went wrong."""
        journal = self._journal
        emptied = journal.emptied()
        entry = None
        try:
            checkpoints = [record.checkpoint() for record in batch.behind.values() if not record.is_closed]
            entry = journal.entry(batch.opened, checkpoints)
            if entry is None and not batch.closed and not emptied:
                return None  # calls whose checkpoint was to be written have ended
            whole = rows.Batch(entry, batch.closed, emptied)
            try:
                await self._database.write(lambda statements: rows.write(statements, whole, careful=False))
            except Conflict:
                log.warning("ledger_closed_before", count=len(batch.closed))
                await self._database.write(lambda statements: rows.write(statements, whole, careful=True))
        except Exception as error:  # it is raised where the batch is waited for, which must not wait for ever
            if isinstance(error, StorageUnavailable):
                self._tell_unwritten(error, len(batch))
            elif len(batch) > 1:
                log.warning("ledger_failed_together", count=len(batch))
            else:
                log.exception("ledger_failed", call_ids=[id_ for id_, *_ in batch.closed])
            journal.keep(emptied)
            if entry is not None:
                journal.lost()
            return error
        self._told_at = None
        if entry is not None:
            journal.written(entry)
        journal.end(closing[0] for closing in batch.closed)
        if self._told is not None:
            self._told(batch.closed)
        return None

    def _tell_unwritten(self, error: StorageUnavailable, count: int) -> None:
        """Once in a while: what ends meanwhile fails with every batch."""
        now = asyncio.get_running_loop().time()
        if self._told_at is None or now - self._told_at >= TELL_AGAIN_SECONDS:
            self._told_at = now
            # What is in a file is written later, and nobody waits for it.
            tell = log.error if self._told is None else log.warning
            tell("ledger_not_written", message=str(error), count=count)

    def _kept(self, closing: rows.Closing) -> rows.Closing:
        return undelivered(closing) if self._told is None else closing


def tell(gathering: "asyncio.Future[None]") -> None:
    """It has taken long enough."""
    if not gathering.done():
        gathering.set_result(None)
