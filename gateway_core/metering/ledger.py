"""The ledger: calls are opened and closed durably, many in one transaction, and what the dead left open is closed."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from gateway_core.metering.ledger_writer import LedgerWriter, Waiter
from gateway_core.metering.price import UNTOLD, Tokens, multiplier_of, price_of_texts
from gateway_core.metering.process import HEARTBEAT_SECONDS, host, is_dead
from gateway_core.metering.record import NO_TEXTS, Asked, Outcome, Record
from gateway_core.metering.usage import charged_tokens
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.journal import OPENED, PRICES, TOKENS

log = structlog.get_logger("headgate.ledger")

CHECKPOINT_SECONDS = 0.25
"""How much of a stream a killed process may have delivered without being charged for it."""
INTERNAL = "internal"


class Ledger:
    """Belongs to the event loop in which it is started."""

    def __init__(self, database: Database) -> None:
        """Takes the database, which is open before `start`."""
        self._database = database
        self._process_id = database.process_id
        self._host = host()
        self._writer = LedgerWriter(database)
        self._streams: set[Record] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._root: asyncio.Task[str] | None = None
        self._root_id = ""

    async def start(self) -> None:
        """Registers the process, and closes what dead ones left open; raises StorageUnavailable."""
        await self._run(lambda connection: rows.register(connection, self._process_id, self._host, os.getpid()))
        await self.beat()
        self._ticking = asyncio.create_task(self._tick(), name="the ledger's checkpoints and heartbeat")

    async def close(self) -> None:
        """Writes what is left, and tells that the process has ended."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        with suppress(asyncio.CancelledError):
            await self._ticking
        await self._writer.finish()
        try:
            # Calls that somebody holds open, against the rules, are closed as those of the dead are.
            await self._bury(self._process_id)
        except StorageError as error:
            log.warning("process_end_not_written", message=str(error))

    async def open(self, asked: Asked) -> Record:
        """Opens a call durably; raises StorageUnavailable. An empty account is the operator's.

        A caller that leaves meanwhile is a call that was cancelled.
        """
        if not asked.account_id:
            asked = asked._replace(account_id=self._root_id or await self._root_account_id())
        record = Record(asked, self._process_id)
        try:
            await self._writer.open(record.opening)
        except asyncio.CancelledError:
            self.end(record, Outcome("cancelled"))
            raise
        except Exception:
            # Whether it was written is not known: if it was, nothing was used.
            record.is_closed = True
            self._writer.close_later(record.closing(Outcome(INTERNAL)))
            raise
        if asked.stream:
            self._streams.add(record)
        return record

    def end(self, record: Record, outcome: Outcome) -> None:
        """Closes a call without waiting, exactly once: further times do nothing. It will be written."""
        self._closed(record, outcome)

    async def settle(self, record: Record, outcome: Outcome) -> None:
        """Closes a call durably, exactly once: further times do nothing. Raises StorageUnavailable.

        A cancellation leaves the wait only: the call is closed all the same.
        """
        waiter = self._closed(record, outcome)
        if waiter is not None:
            await waiter

    def _closed(self, record: Record, outcome: Outcome) -> Waiter | None:
        if record.is_closed:
            return None
        record.is_closed = True
        self._streams.discard(record)
        return self._writer.close(record.closing(outcome))

    async def _run(self, work: Callable[[Any], Any]) -> Any:
        return await self._database.run(work)

    async def _tick(self) -> None:
        beaten = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            self.checkpoint()
            now = asyncio.get_running_loop().time()
            if now - beaten >= HEARTBEAT_SECONDS:
                beaten = now
                self._writer.retry()
                try:
                    await self.beat()
                except StorageError as error:
                    log.warning("heartbeat_not_written", message=str(error))

    def checkpoint(self) -> None:
        """Has what streams have delivered since the last time written, without waiting."""
        changed = [record for record in self._streams if record.measure.characters != record.checkpointed]
        if changed:
            self._writer.note([record.checkpoint() for record in changed])

    async def beat(self) -> None:
        """Tells that this process lives, and closes what dead ones left open."""
        others = await self._run(lambda connection: rows.sign_of_life(connection, self._process_id))
        for other in others:
            if is_dead(other, self._host):
                await self._bury(other.id)
        for process_id in await self._run(rows.orphans):
            await self._bury(process_id)

    async def _bury(self, process_id: str) -> None:
        count = await self._database.write(lambda statements: rows.close_left_open(statements, process_id, interrupted))
        if count:
            log.warning("calls_interrupted", process_id=process_id, count=count)

    async def _root_account_id(self) -> str:
        if self._root is None or (self._root.done() and self._root.exception() is not None):
            self._root = asyncio.create_task(self._run(root_account_id))
        self._root_id = await asyncio.shield(self._root)
        return self._root_id


def root_account_id(connection: Any) -> str:
    """The operator's account, which is made where there is none."""
    found = rows.root_account_id(connection)
    if found is None:
        rows.make_root_account(connection, new_id())
        found = rows.root_account_id(connection)
    assert found is not None, "it was made"
    return found


def interrupted(values: Mapping[str, Any]) -> rows.Closing:
    """How a call ends whose process died: charged with what its last checkpoint says was delivered."""
    told = Tokens(*(values[name] for name in TOKENS))
    tokens = charged_tokens(
        told if told != UNTOLD else None,
        estimated_prompt=values["estimated_prompt_tokens"] or 0,
        delivered=values["delivered_tokens"],
    )
    texts = tuple(values[name] for name in PRICES)
    multiplier = multiplier_of(values["price_multiplier"])
    cost = price_of_texts(texts).cost(tokens, multiplier) if texts != NO_TEXTS else None
    units = values["reserve_units"]
    charged = 0 if units else cost or 0  # what the plan's reserve has covered stays so
    now = now_us()
    provider, model = values["provider"], values["response_model"]
    closed = (rows.INTERRUPTED, model, provider, None, values["attempt_count"], *told)
    delivered = (values["estimated_prompt_tokens"], values["delivered_tokens"])
    row = (
        *(values[name] for name in OPENED), *closed, *delivered, cost, charged, units, now, None, None,
    )  # fmt: skip
    attempts = []
    if provider:
        attempt = (values["id"], values["attempt_count"] or 1, provider, model or values["requested_model"])
        attempts = [(*attempt, rows.INTERRUPTED, None, None, *told, cost, values["started_us"], None, None)]
    return rows.Closing(values["id"], values["account_id"], charged, row, attempts)
