"""Group commit: what calls open and close meanwhile goes into one transaction, off the event loop."""

import asyncio
from collections.abc import Iterator, Sequence

import structlog

from gateway_core.metering.journal import Journal
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import Conflict, StorageError, StorageUnavailable
from gateway_core.storage.journal import Row

log = structlog.get_logger("headgate.ledger")

GATHER_SECONDS = 0.001
"""How long a transaction waits for more to go with it, where calls come close upon one another."""

Waiter = asyncio.Future[None]


class Batch:
    """What is gathered for one transaction."""

    __slots__ = ("checkpoints", "closed", "opened")

    def __init__(
        self, opened: Sequence[Row] = (), checkpoints: Sequence[Row] = (), closed: Sequence[rows.Closing] = ()
    ) -> None:
        """Begins with what is given."""
        self.opened = list(opened)
        self.checkpoints = list(checkpoints)
        self.closed = list(closed)

    def __len__(self) -> int:
        """How much there is to write."""
        return len(self.opened) + len(self.checkpoints) + len(self.closed)


class LedgerWriter:
    """One transaction is on its way at a time; what comes meanwhile goes with the next."""

    def __init__(self, database: Database) -> None:
        """Takes the database."""
        self._database = database
        self._journal = Journal(database.process_id)
        self._batch = Batch()
        self._waiters: list[tuple[Waiter, Row | rows.Closing]] = []
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: list[rows.Closing] = []
        self._gathering: asyncio.Future[None] | None = None
        self._enough = 0
        self._calls = 0
        """Calls that are open, or are being opened."""

    def open(self, opening: Row) -> Waiter:
        """Done when the opening of a call is written."""
        self._calls += 1
        self._batch.opened.append(opening)
        return self._written_with(opening)

    def close(self, closing: rows.Closing) -> Waiter:
        """Done when the end of a call is written. Where it cannot be it is kept for `retry`."""
        self._calls -= 1
        self._batch.closed.append(closing)
        return self._written_with(closing)

    def note(self, checkpoints: Sequence[Row]) -> None:
        """Has written how far calls are."""
        self._batch.checkpoints.extend(checkpoints)
        self._wake()

    def close_later(self, closing: rows.Closing) -> None:
        """Has the end of a call written with the next `retry`."""
        self._unwritten.append(closing)

    def retry(self) -> None:
        """Has written what could not be, and rows of the journal deleted that no call needs."""
        if self._unwritten:
            self._batch.closed.extend(self._unwritten)
            self._unwritten = []
            self._wake()

    async def finish(self) -> None:
        """Writes what is left."""
        self.retry()
        while self._writing is not None:
            await asyncio.wait((self._writing,))

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
            while len(self._batch):
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
        finally:
            self._writing = None

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

        Where one of many is at fault itself, each is written alone, so that the others do not fail with it.
        """
        error = await self._written(batch)
        if error is None:
            return {}
        if isinstance(error, StorageUnavailable) or len(batch) == 1:
            if isinstance(error, StorageError):
                self._unwritten.extend(batch.closed)
            return {id(operation): error for operation in (*batch.opened, *batch.closed)}
        failures: dict[int, Exception] = {}
        for alone in apart(batch):
            failures |= await self._failures(alone)
        return failures

    async def _written(self, batch: Batch) -> Exception | None:
        """Writes a batch; what went wrong."""
        journal = self._journal
        entry, emptied = journal.entry(batch.opened, batch.checkpoints), journal.emptied()
        whole = rows.Batch(entry, batch.closed, emptied)
        try:
            try:
                await self._database.write(lambda statements: rows.write(statements, whole, careful=False))
            except Conflict:
                log.warning("ledger_closed_before", count=len(batch.closed))
                await self._database.write(lambda statements: rows.write(statements, whole, careful=True))
        except Exception as error:  # it is raised where the batch is waited for, which must not wait for ever
            if isinstance(error, StorageUnavailable):
                log.error("ledger_not_written", message=str(error), count=len(batch))
            else:
                log.exception("ledger_failed", count=len(batch))
            journal.keep(emptied)
            if entry is not None:
                journal.lost(entry)
            return error
        if entry is not None:
            journal.written(entry)
        for closing in batch.closed:
            journal.end(closing.id)
        return None


def tell(gathering: "asyncio.Future[None]") -> None:
    """It has taken long enough."""
    if not gathering.done():
        gathering.set_result(None)


def apart(batch: Batch) -> Iterator[Batch]:
    """A batch for each operation, in an order in which they can be written."""
    for opening in batch.opened:
        yield Batch(opened=[opening])
    for checkpoint in batch.checkpoints:
        yield Batch(checkpoints=[checkpoint])
    for closing in batch.closed:
        yield Batch(closed=[closing])
