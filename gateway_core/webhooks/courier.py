"""Sends what is due, one webhook of an account at a time, and again where it fails: at least once, for a while."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from gateway_core.config_part import WebhooksConfig
from gateway_core.storage import webhook as rows
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError
from gateway_core.storage.identifier import now_us
from gateway_core.storage.webhook import Endpoint, Result, WebhookRow
from gateway_core.webhooks.crossing import KEY_AHEAD_US
from gateway_core.webhooks.event import KEY_EXPIRING
from gateway_core.webhooks.sender import Outcome, Sender

log = structlog.get_logger("headgate.webhooks")

AT_ONCE = 16
"""Most accounts whose endpoints are asked at the same time."""
LOOK_SECONDS = 5.0
"""How often it is looked for what others have left, where nothing is known to be due."""
LEASE_MARGIN_SECONDS = 30.0
"""How much longer than an attempt may take nobody else makes one."""
BACKOFF_AT_MOST_SECONDS = 3600.0
CLOSE_SECONDS = 2.0
FORGET_SECONDS = 3600.0
KEPT_US = 7 * 86400 * 1_000_000
"""For how long webhooks are listed that have ended."""
SECOND_US = 1_000_000

DELIVERED: Final = "delivered"
RETRIED: Final = "retried"
FAILED: Final = "failed"
NO_ENDPOINT = Outcome(None, "The account has no endpoint any more.")
INTERNAL = Outcome(None, "Headgate failed; the log tells why.")


class Courier:
    """Of a database. Belongs to one event loop, between `open` and `close`."""

    def __init__(
        self, database: Database, sender: Sender, config: WebhooksConfig, count: Callable[[str], None] | None = None
    ) -> None:
        """Takes where webhooks are kept, what posts them, how often, and what counts how attempts end."""
        self._database = database
        self._sender = sender
        self._config = config
        self._count = count or (lambda _: None)
        self._woken = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._forgotten_at = -FORGET_SECONDS

    def open(self) -> None:
        """Begins to send."""
        self._unsubscribe = self._database.changes.subscribe(rows.TOPIC, self._changed)
        self._task = asyncio.create_task(self._send_on(), name="sending webhooks")

    async def close(self) -> None:
        """Ends after what is being sent, or soon; what has not been sent is another process's, or the next start's."""
        if self._task is None or self._unsubscribe is None:
            return
        self._unsubscribe()
        self._task.cancel()
        await asyncio.wait((self._task,))
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_SECONDS)
        if not self._sending:
            return
        for task in self._sending:
            task.cancel()
        await asyncio.wait(self._sending)
        try:
            async with self._database.transaction() as connection:
                await rows.release(connection, self._database.process_id)
        except StorageError as error:
            log.warning("webhooks_not_released", message=str(error))

    async def round(self) -> float:
        """Begins to send what is due, as much as may be sent at once; for how long there is nothing more to do."""
        async with self._database.reading() as connection:
            due_us = await rows.next_due(connection)
        wait_us = LOOK_SECONDS * SECOND_US if due_us is None else due_us - now_us()
        if wait_us > 0 or len(self._sending) >= AT_ONCE:
            return min(LOOK_SECONDS, wait_us / SECOND_US) if wait_us > 0 else LOOK_SECONDS
        lease_us = int((self._config.timeout_seconds + LEASE_MARGIN_SECONDS) * SECOND_US)
        async with self._database.transaction() as connection:
            free = AT_ONCE - len(self._sending)
            claimed = await rows.claim(connection, self._database.process_id, now_us() + lease_us, free)
            found = await rows.endpoints(connection, [row.account_id for row in claimed])
        for row in claimed:
            task = asyncio.create_task(self._send(row, found), name="sending a webhook")
            self._sending.add(task)
            task.add_done_callback(self._sent)
        # What is due and was not claimed is behind others of its account, here or in another process.
        return 0 if claimed else 1

    async def _send_on(self) -> None:
        while True:
            self._woken.clear()
            seconds = 1.0
            try:
                await self._forget()
                seconds = await self.round()
            except StorageError as error:
                if self._database.changes.outage.tells("webhooks_not_read"):
                    log.warning("webhooks_not_read", message=str(error))
            except Exception:  # the next round may go well
                log.exception("webhooks_not_read")
            if seconds <= 0:
                continue
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _send(self, row: WebhookRow, found: Mapping[str, Endpoint]) -> None:
        endpoint = found.get(row.account_id)
        try:
            outcome = NO_ENDPOINT if endpoint is None else await self._sender.send(endpoint, row)
        except Exception:  # the attempt counts, whatever it was
            log.exception("webhook_failed", webhook_id=row.id, account_id=row.account_id)
            outcome = INTERNAL
        ends = outcome.delivered or outcome.is_gone or endpoint is None or self._is_given_up(row)
        result = Result(outcome.delivered, outcome.status, outcome.error or None)
        wait = self.backoff_seconds(row.attempts, outcome)
        try:
            async with self._database.transaction() as connection:
                if outcome.is_gone and endpoint is not None:
                    await rows.stop(connection, endpoint)
                if ends:
                    await rows.end(connection, row.id, result)
                else:
                    due_us = now_us() + int(wait * SECOND_US)
                    await rows.put_off(connection, row.id, self._database.process_id, result, due_us)
        except StorageError as error:
            # It is sent again when the claim has ended: at least once.
            log.warning("webhook_not_noted", webhook_id=row.id, message=str(error))
            return
        self._tell(row, outcome, None if ends else wait)

    def _tell(self, row: WebhookRow, outcome: Outcome, wait: float | None) -> None:
        fields = {"webhook_id": row.id, "account_id": row.account_id, "type": row.type, "attempts": row.attempts}
        if outcome.delivered:
            self._count(DELIVERED)
            log.info("webhook_delivered", **fields, status_code=outcome.status)
        elif wait is not None:
            self._count(RETRIED)
            log.info("webhook_retried", **fields, message=outcome.error, seconds=round(wait, 1))
        else:
            self._count(FAILED)
            log.warning("webhook_given_up", **fields, message=outcome.error)

    def _is_given_up(self, row: WebhookRow) -> bool:
        age_seconds = (now_us() - row.created_us) / SECOND_US
        return row.attempts >= self._config.attempts or age_seconds >= self._config.give_up_seconds

    def backoff_seconds(self, attempts: int, outcome: Outcome) -> float:
        """How long to wait after so many attempts, the last of which failed; partly by chance."""
        longest = min(self._config.backoff_seconds * 2.0 ** (attempts - 1), BACKOFF_AT_MOST_SECONDS)
        return max(random.uniform(longest / 2, longest), outcome.retry_after_seconds)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._woken.set()

    def _changed(self, _: Change) -> None:
        self._woken.set()

    async def _forget(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._forgotten_at < FORGET_SECONDS:
            return
        self._forgotten_at = now
        async with self._database.transaction() as connection:
            await rows.forget_ended(connection, now_us() - KEPT_US)
            await rows.unmark_keys(connection, KEY_EXPIRING, KEY_AHEAD_US)
