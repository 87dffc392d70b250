"""Limits that processes share: each takes leases of units from a store, so that a call usually asks nobody."""

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import structlog

from gateway_core.limit_header import Texts
from gateway_core.metering.alone import may_use
from gateway_core.metering.window import SECOND_US, Window
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError
from gateway_core.storage.identifier import now_us as clock
from gateway_core.storage.lease import LeaseRequest
from gateway_core.storage.lease_store import Away, DatabaseLeases, LeasesAway, LeaseStore

log = structlog.get_logger("headgate.limits")

SHARE = 20
"""A lease is this part of a limit, or what a call needs where that is more."""
AGAIN_US = SECOND_US // 4
"""After which an empty store is asked again: another process may have given back what it did not use."""
KEEP_US = 60 * SECOND_US
SWEEP_SECONDS = 300.0
LIMITS_AT_MOST = 50_000
NOT_TOLD = (0, 0, ("", ""))
"""At no time."""


class SharedLimit:
    """One limit of one subject. What all processes use together never exceeds it, but by corrections."""

    __slots__ = (
        *("__weakref__", "_alone", "_clock", "_elsewhere", "_empty_until_us", "_leased", "_low", "_owner"),
        *("_refilling", "_scope", "_size", "told", "window"),
    )

    def __init__(self, owner: "SharedLimits", scope: str, limit: int, seconds: int) -> None:
        """Takes what is limited: a name that all processes know it by."""
        self._owner = owner
        self._clock = owner.now_us
        self._scope = scope
        self._size = max(1, limit // SHARE)
        self._low = self._size // 4
        self._empty_until_us = 0
        self._elsewhere = 0
        self._leased = 0
        self._alone = 0
        self._refilling: asyncio.Task[None] | None = None
        self.window = Window(limit, seconds, shared=True)
        self.told: tuple[int, int, Texts] = NOT_TOLD
        """From when, until when, and how it is told in header fields; kept by whoever tells it, and no longer than the
        window."""

    def turn(self, now_us: int) -> None:
        """Begins the window that the time is in. A lease is of one window."""
        window = self.window
        if now_us < window.start_us + window.length_us:
            return
        window.turn(now_us)
        window.granted = self._leased = self._alone = 0
        self._elsewhere = self._empty_until_us = 0
        self.told = NOT_TOLD

    def remaining(self, now_us: int) -> int:
        """What is left of the limit, less what other processes held when the last lease was taken."""
        window = self.window
        return window.limit if now_us >= window.start_us + window.length_us else self.left()

    def left(self) -> int:
        """The same, while the window is the one that the time is in."""
        window = self.window
        left = window.limit - self._elsewhere - window.used
        return left if left > 0 else 0

    def is_reached(self, now_us: int) -> bool:
        """Whether it is known, without asking anybody, that not one more unit is to be had now. Changes nothing."""
        window = self.window
        if window.is_over(now_us):
            return False
        return window.used >= window.limit or (not window.left and now_us <= self._empty_until_us)

    def take(self, units: int, now_us: int) -> bool:
        """Uses units of the lease that is held, of the window that the time is in; False where it has not so many.

        It takes the next lease in the background before this one is used up.
        """
        window = self.window
        if now_us >= window.start_us + window.length_us:
            self.turn(now_us)
        left = window.granted - window.used - units
        if left < 0:
            return False
        window.used += units
        if left <= self._low and self._refilling is None and now_us > self._empty_until_us:
            self._refill(self._size, now_us)
        return True

    async def acquire(self, units: int, now_us: int) -> bool:
        """Uses units, for which it takes a lease where that is needed; False where the limit is reached."""
        while not self.take(units, now_us):
            if units > self.window.limit or now_us <= self._empty_until_us:
                return False
            missing = self.window.used + units - self.window.granted
            refilling = self._refilling or self._refill(max(self._size, missing), now_us)
            # Whoever leaves must not end it for the others.
            await asyncio.shield(refilling)
            now_us = max(now_us, self._clock())
            self.turn(now_us)
        return True

    def correct(self, units: int, start_us: int) -> None:
        """Uses more units than were taken in the window that began then, or fewer where negative.

        What exceeds the lease is leased too, so that other processes learn of it; what a large lease has left is
        given back for them. Both happen in the background.
        """
        window = self.window
        window.correct(units, start_us)
        if self._refilling is not None or window.start_us != start_us:
            return
        now_us = self._clock()
        if window.used > window.granted:
            if now_us > self._empty_until_us:
                self._refill(window.used - window.granted, now_us)
        elif window.left > 2 * self._size and self._owner.leases.away is None:
            surplus = window.left - self._size
            window.granted -= surplus
            self._leased -= surplus
            self._refilling = asyncio.create_task(self._return(surplus), name="returning units of a limit")
            self._refilling.add_done_callback(self._refilled)

    async def settled(self) -> None:
        """Waits until what is under way between this process and the store is done."""
        if self._refilling is not None:
            await asyncio.wait({self._refilling})

    async def _return(self, units: int) -> None:
        await self._owner.leases.give_back(self._request(units))
        self._empty_until_us = 0

    async def give_back(self) -> None:
        """Returns what is held and not used; leases what was used beyond it."""
        await self.settled()
        window = self.window
        now_us = self._clock()
        if window.used > window.granted and not window.is_over(now_us):
            await self._lease(window.used - window.granted, now_us)
        unused, window.granted = window.left, min(window.granted, window.used)
        self._leased = min(self._leased, window.granted)
        if unused:
            await self._owner.leases.give_back(self._request(unused), is_last=True)

    def claim(self, away: Away, now_us: int) -> LeaseRequest | None:
        """What this process has of the window, to be told to a store that was away. None: nothing.

        It is what was used, and a lease to go on with while others tell theirs.
        """
        window = self.window
        if window.is_over(now_us) or not (window.used or window.granted):
            return None
        more = min(self._may_use(away, now_us), window.used + self._size)
        window.granted = max(self._leased, more, window.used)
        self._claimed()
        self._empty_until_us = 0
        return self._request(0)

    def _refill(self, units: int, now_us: int) -> asyncio.Task[None]:
        self._refilling = task = asyncio.create_task(self._lease(units, now_us), name="taking a lease of a limit")
        task.add_done_callback(self._refilled)
        return task

    def _refilled(self, task: asyncio.Task[None]) -> None:
        self._refilling = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("lease_not_taken", message=str(error))

    async def _lease(self, units: int, now_us: int) -> None:
        window = self.window
        start_us = window.start_us
        try:
            got, of_all = await self._owner.leases.take(self._request(units))
        except LeasesAway:
            if window.start_us == start_us:
                self._go_on_alone(now_us)
            return
        # A lease of a window that ended meanwhile is worth nothing.
        if window.start_us == start_us:
            self._leased += got
            window.granted += got
            self._elsewhere = of_all - window.granted
            if got < units:
                self._empty_until_us = now_us + AGAIN_US

    def _go_on_alone(self, now_us: int) -> None:
        """Uses what a process may use by itself; the store is asked again a little later."""
        window, away = self.window, self._owner.leases.away
        self._empty_until_us = now_us + AGAIN_US
        if away is None:
            return
        if not away.is_settling:
            window.granted = max(window.granted, self._may_use(away, now_us))
        elif not window.granted:
            # Of this window nothing was claimed.
            window.granted = min(self._size, window.limit)
            self._claimed()
        self._elsewhere = max(0, window.limit - window.granted)

    def _may_use(self, away: Away, now_us: int) -> int:
        return may_use(self.window, self._leased - self._alone, self._size, away, now_us)

    def _claimed(self) -> None:
        """What was granted is leased now, though the store did not give it; however often it is away in one window."""
        self._alone += self.window.granted - self._leased
        self._leased = self.window.granted

    def _request(self, units: int) -> LeaseRequest:
        window = self.window
        expires_us, holder = window.start_us + window.length_us, self._owner.database.process_id
        return LeaseRequest(self._scope, window.start_us, window.limit, units, holder, expires_us, self._leased)


class SharedLimits:
    """The limits that processes on one database share, by scope. Belongs to one event loop, from `open` to `close`."""

    def __init__(self, database: Database, now_us: Callable[[], int] = clock, leases: LeaseStore | None = None) -> None:
        """Takes the clock: microseconds since 1970; and where leases are taken, if it is not the database."""
        self.database = database
        self.leases = DatabaseLeases(database) if leases is None else leases
        self._limits: dict[tuple[str, int, int], SharedLimit] = {}
        # With those that are forgotten and that somebody still has: none may be there twice, and all are given back.
        self._in_use: WeakValueDictionary[tuple[str, int, int], SharedLimit] = WeakValueDictionary()
        self._sweeping: asyncio.Task[None] | None = None
        self.now_us = now_us

    async def open(self) -> None:
        """Opens the store, and begins to forget windows that are over; raises StorageError."""
        await self.leases.open(self._claims)
        self._sweeping = asyncio.create_task(self._sweep_often(), name="forgetting windows that are over")

    async def close(self) -> None:
        """Gives back all leases, and closes the store."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self._give_back()
        await self.leases.close()

    async def _give_back(self) -> None:
        for limit in tuple(self._in_use.values()):
            try:
                await limit.give_back()
            except StorageError as error:
                log.warning("lease_not_given_back", message=str(error))
                return

    def limit(self, scope: str, units: int, seconds: int) -> SharedLimit:
        """The limit of so many units in so many seconds on what the scope names. A changed limit is another one."""
        key = (scope, units, seconds)
        found = self._limits.get(key)
        if found is None:
            if len(self._limits) >= LIMITS_AT_MOST:
                self._forget_ended()
            found = self._in_use.get(key) or SharedLimit(self, f"{scope}:{seconds}", units, seconds)
            self._limits[key] = self._in_use[key] = found
        return found

    async def left(self, scope: str, units: int, seconds: int) -> tuple[int, int]:
        """What is left of a limit, less what other processes hold of it; and when its window ends, in microseconds."""
        now_us, length_us = self.now_us(), seconds * SECOND_US
        start_us = now_us - now_us % length_us
        found = self._in_use.get((scope, units, seconds))
        if found is not None:
            await found.settled()
        try:
            used = await self.leases.granted(f"{scope}:{seconds}", start_us)
        except LeasesAway:
            return units if found is None else found.remaining(now_us), start_us + length_us
        if found is not None and found.window.start_us == start_us:
            used += found.window.used - found.window.granted
        return max(0, units - used), start_us + length_us

    def _claims(self, away: Away, now_us: int) -> Sequence[LeaseRequest]:
        claimed = (limit.claim(away, now_us) for limit in tuple(self._in_use.values()))
        return [request for request in claimed if request is not None]

    def _forget_ended(self) -> None:
        now_us = self.now_us()
        ended = [key for key, held in self._limits.items() if held.window.start_us + held.window.length_us < now_us]
        for key in ended:
            del self._limits[key]

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._forget_ended()
            try:
                await self.leases.forget(self.now_us() - KEEP_US)
            except StorageError as error:
                log.warning("windows_not_forgotten", message=str(error))
