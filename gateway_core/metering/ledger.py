"""The ledger: calls are opened and closed durably, many in one transaction, and what the dead left open is closed."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import structlog

from gateway_core.metering.burial import bury
from gateway_core.metering.file_writer import FileWriter
from gateway_core.metering.journal_place import root_account_id
from gateway_core.metering.ledger_writer import LedgerWriter, Waiter
from gateway_core.metering.process import HEARTBEAT_SECONDS, Watch, host
from gateway_core.metering.record import OK, Ending, Question, Record
from gateway_core.metering.writer import Writer
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError

log = structlog.get_logger("headgate.ledger")

CHECKPOINT_SECONDS = 0.1
"""What a stream delivers is on its way into the journal so soon, and its first words at once."""
LAST_TRIES_SECONDS = (0.2, 1.0)
"""How long the end of the process waits for a database that is not there, before it tries again."""


class Ledger:
    """Belongs to the event loop in which it is started."""

    def __init__(self, database: Database, *, has_files: bool = False) -> None:
        """Takes the database, which is open before `start`, and whether the journal is in files of this machine.

        Otherwise it is in the database, which every call waits for twice.
        """
        self._database = database
        self._process_id = database.process_id
        self._host = host()
        self._watch = Watch(self._host)
        self._set_aside: set[str] = set()
        """Dead processes of which something is left that cannot be closed: said once."""
        self._writer: Writer = FileWriter(database) if has_files else LedgerWriter(database)
        self._streams: set[Record] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._root: asyncio.Task[str] | None = None
        self._root_id = ""
        self._left_as = "cancelled"

    async def start(self) -> None:
        """Registers the process, and closes what dead ones left open; raises StorageUnavailable.

        What of the dead cannot be closed keeps nobody from starting.
        """
        await self._writer.start()
        await self._run(lambda connection: rows.register(connection, self._process_id, self._host, os.getpid()))
        self._database.settled = self._writer.settled
        self._database.is_behind = lambda: self._writer.is_behind
        await self._beat_or_say()
        self._ticking = asyncio.create_task(self._tick(), name="the ledger's checkpoints and heartbeat")

    async def close(self) -> None:
        """Writes what is left, and tells that the process has ended."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        await asyncio.wait((self._ticking,))
        for seconds in (*LAST_TRIES_SECONDS, None):
            if await self._ended():
                break
            if seconds is not None:
                await asyncio.sleep(seconds)
            elif self._writer.left:
                log.error("ledger_ends_not_written", count=self._writer.left, call_ids=[*self._writer.unwritten][:100])
        await self._writer.close()

    @property
    def waiting(self) -> int:
        """How many calls have ended and are not in the database. Any thread may ask."""
        return self._writer.left

    async def _ended(self) -> bool:
        await self._writer.finish()
        try:
            # Calls that somebody holds open, against the rules, are closed as those of the dead are.
            await bury(self._database, self._process_id, self._writer.unwritten)
        except StorageError as error:
            log.warning("process_end_not_written", message=str(error))
            return False
        except Exception:  # nobody else would hear of it
            log.exception("process_end_not_written")
        return True

    def end_comes(self) -> None:
        """Hears that the server's own end cancels calls from now on."""
        self._left_as = rows.INTERRUPTED

    async def open(self, asked: Question) -> Record:
        """Opens a call durably; raises StorageUnavailable. An empty account is the operator's.

        A caller that leaves meanwhile is a call that was cancelled, or interrupted once `end_comes`.
        """
        if not asked[1]:
            asked = (asked[0], self._root_id or await self._root_account_id(), *asked[2:])
        record = Record(asked, self._process_id)
        try:
            opened = self._writer.open(record.opening)
            if opened is not None:
                await opened
        except asyncio.CancelledError:
            self.end(record, (self._left_as, ()))
            raise
        except Exception:
            record.is_closed = True
            self._writer.give_up()
            raise
        if record.stream:
            self._streams.add(record)
        return record

    def end(self, record: Record, outcome: Ending) -> None:
        """Closes a call without waiting, exactly once: further times do nothing. It will be written."""
        self._closed(record, outcome)

    async def settle(self, record: Record, outcome: Ending) -> None:
        """Closes a call durably, exactly once: further times do nothing. Raises StorageUnavailable.

        A cancellation leaves the wait only: the call is closed all the same. A whole answer whose end could not be
        written must not be delivered: its record will say so, and it is free.
        """
        waiter = self._closed(record, outcome)
        if waiter is None:
            return
        try:
            await waiter
        except Exception:
            if outcome[0] == OK and not record.stream:
                record.withdraw()
            raise

    def _closed(self, record: Record, outcome: Ending) -> Waiter | None:
        if record.is_closed:
            return None
        record.is_closed = True
        self._streams.discard(record)
        return self._writer.end(record.closing(outcome))

    async def _run(self, work: Callable[[Any], Any]) -> Any:
        return await self._database.run(work)

    async def _tick(self) -> None:
        beaten = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            try:
                self.checkpoint()
            except Exception:  # whatever it was, the next round may go well
                log.exception("checkpoint_failed")
            now = asyncio.get_running_loop().time()
            if now - beaten >= HEARTBEAT_SECONDS:
                beaten = now
                await self._beat_or_say()

    def checkpoint(self) -> None:
        """Has what streams have delivered since the last time written, without waiting."""
        behind = [record for record in self._streams if record.is_behind]
        if behind:
            self._writer.note(behind)

    def note(self, record: Record) -> None:
        """Has what a stream has delivered written, without waiting: from its first words on it is charged."""
        if not record.is_closed:
            self._writer.note_soon(record)

    async def beat(self) -> None:
        """Tells that this process lives, and closes what dead ones left open."""
        await self._writer.bury()
        others = await self._run(lambda connection: rows.sign_of_life(connection, self._process_id))
        self._database.processes = 1 + len(others)
        for other in self._watch.dead(others):
            await self._bury(other.id)
        for process_id in await self._run(rows.orphans):
            if process_id not in self._set_aside:
                await self._bury(process_id)

    async def _beat_or_say(self) -> None:
        try:
            self._writer.retry()
            await self.beat()
        except StorageError as error:
            if self._database.changes.outage.tells("heartbeat_not_written"):
                log.warning("heartbeat_not_written", message=str(error))
        except Exception:  # heartbeats go on, or others take this process for dead
            log.exception("heartbeat_failed")

    async def _bury(self, process_id: str) -> None:
        if not await bury(self._database, process_id):
            self._set_aside.add(process_id)

    async def _root_account_id(self) -> str:
        if self._root is None or (self._root.done() and self._root.exception() is not None):
            self._root = asyncio.create_task(self._run(root_account_id))
        self._root_id = await asyncio.shield(self._root)
        return self._root_id
