"""What is noticed while calls are admitted and charged: money that ends. Noted without waiting, told by an owner."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from gateway_core.storage import account as accounts
from gateway_core.storage import balance as balances
from gateway_core.storage import webhook as rows
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError
from gateway_core.storage.webhook import Money
from gateway_core.usd import usd_text
from gateway_core.webhooks.event import BALANCE_EXHAUSTED, BALANCE_LOW, KEY_EXPIRING, SPEND_CAP_REACHED, key_data
from gateway_core.webhooks.outbox import Outbox

log = structlog.get_logger("headgate.webhooks")

SWEEP_SECONDS = 60.0
"""How often it is looked for what nobody noticed: processes die, and keys end by themselves."""
RETRY_SECONDS = 1.0
KEY_AHEAD_US = 3 * 86400 * 1_000_000
KEYS_AT_ONCE = 200
KNOWN_AT_MOST = 100_000


class Crossing(NamedTuple):
    """Something that a balance has passed, as one process saw it. Money in picodollars."""

    account_id: str
    type: str
    settled: int
    """What the account had, as was read."""
    charged: int = 0
    """… and what this process has charged since."""
    spent: int = 0
    """What it had spent, as was read."""
    spend_cap: int | None = None
    cost: int = 0
    """Of the call that was refused, as estimated."""


class Crossings:
    """Of a database. Belongs to one event loop, between `open` and `close`."""

    def __init__(self, database: Database, outbox: Outbox, *, is_enabled: bool = True) -> None:
        """Takes where they are kept, and where webhooks are put."""
        self._database = database
        self._outbox = outbox
        self._is_enabled = is_enabled
        self._noted: dict[tuple[str, str], Crossing] = {}
        self._known: set[tuple[str, str]] = set()
        """What there is nothing more to do about before the account changes."""
        self._changes = 0
        self._woken = asyncio.Event()
        self._stop: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Begins to tell of what is noted, and to look for what was not."""
        if not self._is_enabled:
            return
        changes = self._database.changes
        self._stop = [changes.subscribe(topic, self.changed) for topic in (balances.TOPIC, accounts.TOPIC)]
        self._tasks = [
            asyncio.create_task(self._write_on(), name="telling of money that ends"),
            asyncio.create_task(self._sweep_on(), name="looking for money and keys that end"),
        ]

    async def close(self) -> None:
        """Ends that, after what was noted."""
        for unsubscribe in self._stop:
            unsubscribe()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            await self.write()

    def note(self, crossing: Crossing) -> None:
        """Notes, without waiting; the same again costs a look into a set."""
        key = (crossing.account_id, crossing.type)
        if key not in self._known and self._is_enabled:
            self._noted[key] = crossing
            self._woken.set()

    def changed(self, change: Change) -> None:
        """Learns that an account, or what was added to its balance, has changed."""
        self._changes += 1
        if change.key is None:
            self._known.clear()
        else:
            self._known -= {(change.key, type_) for type_ in (BALANCE_LOW, BALANCE_EXHAUSTED, SPEND_CAP_REACHED)}

    async def write(self) -> bool:
        """Tells of all that is noted, once; whether that could be written."""
        while self._noted:
            key, crossing = next(iter(self._noted.items()))
            changes = self._changes
            try:
                is_done = await self.tell(crossing)
            except StorageError as error:
                log.warning("crossings_not_told", message=str(error), count=len(self._noted))
                return False
            except Exception:  # others are to be told; this one is noted again while it is so
                log.exception("crossing_not_told", account_id=crossing.account_id, type=crossing.type)
                is_done = False
            if self._noted.get(key) is crossing:
                del self._noted[key]
            if is_done and changes == self._changes:
                if len(self._known) >= KNOWN_AT_MOST:
                    self._known.clear()
                self._known.add(key)
        return True

    async def tell(self, crossing: Crossing) -> bool:
        """Tells an account of a crossing that still is one, once; whether there is no more to tell until it changes."""
        account_id, type_ = crossing.account_id, crossing.type
        async with self._database.transaction() as connection:
            now = await rows.money(connection, account_id, lock=True)
            if now is None or not still_holds(crossing, now):
                return False
            if await self._outbox.is_wanted(connection, account_id, type_) and await rows.mark(
                connection, account_id, type_
            ):
                await self._outbox.announce(connection, account_id, type_, data(crossing, now))
        return True

    async def sweep(self) -> None:
        """Looks for balances that are low and keys that end soon, of which nobody has told."""
        async with self._database.reading() as connection:
            low = await rows.low_accounts(connection, BALANCE_LOW)
            ending = await rows.expiring_keys(connection, KEY_EXPIRING, KEY_AHEAD_US, KEYS_AT_ONCE)
        for account_id, settled in low:
            self.note(Crossing(account_id, BALANCE_LOW, settled))
        for key in ending:
            told = key_data(key.id, key.kind, key.label, key.project, key.expires_us)
            async with self._database.transaction() as connection:
                if await rows.mark(connection, key.account_id, KEY_EXPIRING, key.id):
                    await self._outbox.announce(connection, key.account_id, KEY_EXPIRING, told)

    async def _write_on(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            if not await self.write():
                await asyncio.sleep(RETRY_SECONDS)
                self._woken.set()

    async def _sweep_on(self) -> None:
        while True:
            try:
                await self.sweep()
            except StorageError as error:
                log.warning("crossings_not_looked_for", message=str(error))
            except Exception:  # the next round may go well
                log.exception("crossings_not_looked_for")
            await asyncio.sleep(SWEEP_SECONDS)


async def rearm(connection: Any, account_id: str, *, credited: bool = False, recapped: bool = False) -> None:
    """Has an account told again of what it has passed, after its money or its limits have changed.

    Called in the transaction that changes them, after that. Takes whether credit was added, and the spend cap changed.
    """
    now = await rows.money(connection, account_id, lock=True)
    if now is None:
        return
    again = [
        *([BALANCE_LOW] if now.low is None or now.settled >= now.low else []),
        *([BALANCE_EXHAUSTED] if credited else []),
        *([SPEND_CAP_REACHED] if recapped else []),
    ]
    if again:
        await rows.unmark(connection, account_id, again)


def still_holds(crossing: Crossing, now: Money) -> bool:
    """Whether it is so that an account has passed what somebody saw it pass."""
    if crossing.type == BALANCE_LOW:
        # An account that has never had anything has not passed anything.
        return now.has_balance and now.low is not None and balance_of(crossing, now) < now.low
    if crossing.type == SPEND_CAP_REACHED:
        return now.spend_cap is not None and now.spend_cap == crossing.spend_cap
    # Only credits make a balance larger: then the refusal was for the time before.
    return now.settled <= crossing.settled


def balance_of(crossing: Crossing, now: Money) -> int:
    """What an account has: the database may be behind what a process knows that charges it, and ahead by a credit."""
    return now.settled if now.settled > crossing.settled else min(now.settled, crossing.settled - crossing.charged)


def data(crossing: Crossing, now: Money) -> Mapping[str, Any]:
    """What is told of it."""
    balance = balance_of(crossing, now)
    if crossing.type == BALANCE_LOW:
        return {"balance_usd": usd_text(balance), "low_balance_usd": usd_text(now.low or 0)}
    estimated = {"estimated_cost_usd": usd_text(crossing.cost)}
    if crossing.type == SPEND_CAP_REACHED:
        spent = max(now.spent, crossing.spent + crossing.charged)
        return {"spent_usd": usd_text(spent), "spend_cap_usd": usd_text(crossing.spend_cap or 0), **estimated}
    return {"balance_usd": usd_text(balance), **estimated}
