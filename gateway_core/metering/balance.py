"""What accounts have, held in memory: a call reserves its estimated cost here, and the ledger charges what it cost."""

import asyncio
import time
from collections.abc import Callable
from itertools import islice

import structlog

from gateway_core.errors import InsufficientBalance, SpendCapReached
from gateway_core.metering.price import usd_text
from gateway_core.storage import account as accounts
from gateway_core.storage.balance import TOPIC, BalanceRow, balance_rows, expired_accounts, lapse
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError
from gateway_core.storage.identifier import now_us
from gateway_core.webhooks.crossing import Crossing
from gateway_core.webhooks.event import BALANCE_EXHAUSTED, BALANCE_LOW, SPEND_CAP_REACHED

log = structlog.get_logger("headgate.balances")

REFRESH_SECONDS = 1.0
LAPSE_SECONDS = 60.0
READ_AT_ONCE = 500
IDLE_REFRESHES = 60
"""After which the balance of an account that does not call is read with each refresh no more."""
IDLE_AT_MOST = 100_000
IDLE_ROUND = 60
"""Refreshes in which all of those are read again, a part with each: others may spend what they have."""
BELIEVED_SECONDS = 120.0
"""How long before an outage a balance may have been read that counts in it."""

Crossed = Callable[[Crossing], None]
"""Is told what a balance has passed, again and again while it is so; must not wait."""


def unheard(_: Crossing) -> None:
    """Tells nobody."""


class Balance:
    """What one account has, as of the last reading, and what its calls in this process did since. Picodollars."""

    __slots__ = (
        "_charged",
        "_crossed",
        "_idle",
        "_in_row",
        "_is_shared",
        "_withheld",
        "is_stale",
        "read_at",
        "reserved",
        "row",
    )

    def __init__(self, row: BalanceRow, crossed: Crossed = unheard) -> None:
        """Takes what was read, and what is told when money ends."""
        self.row = row
        self._crossed = crossed
        self.reserved = 0
        """Of calls that are open in this process."""
        self.is_stale = False
        self.read_at = time.monotonic()
        """When the row was read, or a little before: of the monotonic clock."""
        self._charged = 0
        self._in_row = 0
        self._idle = 0
        self._is_shared = False
        self._withheld = (0, 0)
        """What other processes may use of the balance and of the spend cap, while nobody can ask what they do."""

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is asked: the operator's own account without a spend cap."""
        return self.row.root and self.row.spend_cap is None

    def reserve(self, cost: int) -> None:
        """Reserves the estimated cost of a call, at least 0; raises InsufficientBalance, SpendCapReached."""
        row = self.row
        pending = self.reserved + self._charged - self._in_row
        expected = pending + cost
        of_balance, of_cap = self._withheld
        if row.spend_cap is not None and row.spent + expected + of_cap > row.spend_cap:
            self._tell(SPEND_CAP_REACHED, cost)
            raise over_cap(cost, row.spend_cap, row.spend_cap - row.spent - pending - of_cap)
        if not row.root and row.settled - expected - of_balance < 0:
            self.notice()  # it was low before
            self._tell(BALANCE_EXHAUSTED, cost)
            raise over_balance(cost, row.settled - pending - of_balance)
        self.reserved += cost
        self._idle = 0

    def settle(self, reserved: int, cost: int) -> None:
        """Ends a reservation; the cost counts until what the ledger charged is read."""
        self.reserved -= reserved
        self._charged += cost

    def share(self, processes: int) -> None:
        """Leaves to each of so many processes its part of what is left, until it is read again."""
        if self._is_shared:
            return
        row, pending = self.row, self.reserved + self._charged - self._in_row
        left = max(0, row.settled - pending)
        left_of_cap = 0 if row.spend_cap is None else max(0, row.spend_cap - row.spent - pending)
        self._withheld = (left - left // processes, left_of_cap - left_of_cap // processes)
        self._is_shared = True

    def begin_reading(self) -> int:
        """What was charged so far: it is in what is read from now on, since the ledger charges before a call ends."""
        return self._charged

    def read(self, row: BalanceRow, charged: int, at: float | None = None) -> None:
        """Takes what was read, what `begin_reading` gave, and when that was. Of two readings the later one counts."""
        if charged >= self._in_row:
            self._in_row = charged
            self.remember(row, time.monotonic() if at is None else at)
            self.notice()

    def remember(self, row: BalanceRow, at: float) -> None:
        """Takes what was read, and when, of an account that does not call here: whom it calls tells that it is low."""
        self.row, self.read_at = row, at
        self._is_shared, self._withheld = False, (0, 0)

    def notice(self) -> None:
        """Tells where the balance is low: here, and not with each call, since each second what was charged is read."""
        row = self.row
        if row.low is not None and row.settled - self._charged + self._in_row < row.low:
            self._tell(BALANCE_LOW)

    def _tell(self, type_: str, cost: int = 0) -> None:
        row, charged = self.row, self._charged - self._in_row
        self._crossed(Crossing(row.account_id, type_, row.settled, charged, row.spent, row.spend_cap, cost))

    def is_idle(self) -> bool:
        """Whether nobody has called for long; asked at each refresh."""
        self._idle += 1
        return self._idle > IDLE_REFRESHES and self.is_in_row

    @property
    def is_in_row(self) -> bool:
        """Whether the row has all that this process knows: what it charged, and the ledger does not have yet."""
        return self.reserved == 0 and self._charged == self._in_row


def over_cap(cost: int, cap: int, left: int) -> SpendCapReached:
    """The refusal of a call that the spend cap does not allow; takes what the calls that run have left of it."""
    raise_it = "raise the account's spend_cap_usd"
    if left <= 0:
        message = f"The account has spent its spend cap of ${usd_text(cap)}: {raise_it}."
    else:
        rest = f"${usd_text(left)} of the spend cap of ${usd_text(cap)} is left"
        message = f"{estimated(cost)}; {rest}: {ask_less(raise_it)}"
    return SpendCapReached(message, estimated_cost_usd=usd_text(cost), left_usd=usd_text(max(0, left)))


def over_balance(cost: int, left: int) -> InsufficientBalance:
    """The refusal of a call that the balance does not cover; takes what the calls that run have left of it."""
    add = "add credit to the account"
    if left <= 0:
        message = f"Nothing of the account's balance is left: {add}."
    else:
        message = f"{estimated(cost)}; ${usd_text(left)} of the account's balance is left: {ask_less(add)}"
    return InsufficientBalance(message, estimated_cost_usd=usd_text(cost), left_usd=usd_text(max(0, left)))


def estimated(cost: int) -> str:
    """How a refusal begins that is for a call's cost."""
    return f"The call may cost ${usd_text(cost)}, as estimated"


def ask_less(otherwise: str) -> str:
    """How it ends."""
    return f"name a smaller max_tokens, or {otherwise}."


class Balances:
    """The balances of a database. Belongs to one event loop, between `open` and `close`."""

    def __init__(self, database: Database, crossed: Crossed = unheard) -> None:
        """Takes the database, and what is told when money ends."""
        self._database = database
        self._crossed = crossed
        self._outage = database.changes.outage
        self._balances: dict[str, Balance] = {}
        self._idle: dict[str, Balance] = {}
        """Of accounts that have not called for long, for an outage: those first whose reading is the oldest."""
        self._unsubscribe: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Begins to learn what is added and charged elsewhere, and to take back what expires."""
        changes = self._database.changes
        self._unsubscribe = [changes.subscribe(topic, self._changed) for topic in (TOPIC, accounts.TOPIC)]
        self._tasks = [
            asyncio.create_task(self._refresh_often(), name="reading balances"),
            asyncio.create_task(self._lapse_often(), name="taking back expired credits"),
        ]

    async def close(self) -> None:
        """Ends that."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def known(self, account_id: str) -> Balance | None:
        """What an account has, where that is known without waiting."""
        balance, is_out = self._balances.get(account_id), self._outage.is_on
        if is_out:
            balance = balance or self._woken(account_id)
            if balance is not None and balance.read_at < self._outage.began - BELIEVED_SECONDS:
                return None  # others may have spent all of it
        if balance is None or balance.is_stale:
            return None
        if is_out or self._database.is_behind():  # as `_is_alone` says
            self._share(balance)
        return balance

    def _share(self, balance: Balance) -> None:
        balance.share(self._database.processes or 1)

    @property
    def _is_alone(self) -> bool:
        """Whether nobody sees what others spend."""
        return self._outage.is_on or self._database.is_behind()

    def _woken(self, account_id: str) -> Balance | None:
        balance = self._idle.pop(account_id, None)
        if balance is not None:
            self._balances[account_id] = balance
        return balance

    async def balance(self, account_id: str) -> Balance | None:
        """What an account has. None: there is no such account."""
        known = self.known(account_id)
        if known is None:
            await self._read([account_id])
            read = self._balances.get(account_id)
            if read is not None and self._is_alone:
                self._share(read)
            known = read
        return known

    async def refresh(self) -> None:
        """Reads all balances that are held, and a part of those of accounts that do not call."""
        if self._is_alone:
            return  # each process keeps to its share
        for account_id in [id_ for id_, balance in self._balances.items() if balance.is_idle()]:
            balance = self._balances.pop(account_id)
            if self._outage.believed_seconds:
                self._idle[account_id] = balance
        while len(self._idle) > IDLE_AT_MOST:
            del self._idle[next(iter(self._idle))]
        ids = list(self._balances)
        for start in range(0, len(ids), READ_AT_ONCE):
            await self._read(ids[start : start + READ_AT_ONCE])
        idle = list(islice(self._idle, -(-len(self._idle) // IDLE_ROUND)))
        for start in range(0, len(idle), READ_AT_ONCE):
            await self._read_idle(idle[start : start + READ_AT_ONCE])

    async def lapse(self) -> None:
        """Takes back what is left of expired credits."""
        now = now_us()
        async with self._database.reading(settled=True) as connection:
            found = await expired_accounts(connection, now)
        for account_id in found:
            async with self._database.transaction() as connection:
                await lapse(connection, account_id, now)
                await self._database.changes.publish(connection, TOPIC, account_id)

    async def _read(self, ids: list[str]) -> None:
        charged = {id_: self._balances[id_].begin_reading() for id_ in ids if id_ in self._balances}
        for id_ in charged:
            self._balances[id_].is_stale = False  # what changes from now on makes it so again
        at = time.monotonic()
        # What was charged counts as long as it is not in what is read. Who was not known here has been charged nothing.
        pending = await self._database.settled() if charged else {}
        async with self._database.reading() as connection:
            rows = await balance_rows(connection, ids)
        for row in rows:
            held = self._balances.get(row.account_id)
            if held is None:
                self._idle.pop(row.account_id, None)
                self._balances[row.account_id] = held = Balance(row, self._crossed)
                held.read_at = at
                held.notice()
            else:
                held.read(row, charged.get(row.account_id, 0) - pending.get(row.account_id, 0), at)

    async def _read_idle(self, ids: list[str]) -> None:
        was = {id_: self._idle[id_] for id_ in ids if id_ in self._idle}
        at = time.monotonic()
        async with self._database.reading() as connection:
            rows = {row.account_id: row for row in await balance_rows(connection, list(was))}
        for id_, held in was.items():
            if self._idle.get(id_) is not held:
                continue  # it was changed meanwhile, or has called
            del self._idle[id_]
            if not held.is_in_row:
                self._balances[id_] = held  # of a call that had it all the time
            elif id_ in rows:
                held.remember(rows[id_], at)
                held.is_stale = False  # a change since it is idle would have removed it
                self._idle[id_] = held

    def _changed(self, change: Change) -> None:
        for account_id in list(self._balances) if change.key is None else [change.key]:
            if account_id in self._balances:
                self._balances[account_id].is_stale = True
        if change.key is None:
            self._idle.clear()
        else:
            self._idle.pop(change.key, None)

    async def _refresh_often(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except StorageError as error:
                if self._outage.tells("balances_not_read"):
                    log.warning("balances_not_read", message=str(error))

    async def _lapse_often(self) -> None:
        while True:
            try:
                await self.lapse()
            except StorageError as error:
                log.warning("credits_not_lapsed", message=str(error))
            await asyncio.sleep(LAPSE_SECONDS)
