"""Where leases are taken: the seam of the stores, and the one that is in the database."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import now_us
from gateway_core.storage.lease import LeaseRequest, claimed, taken
from gateway_core.storage.limit import forget_windows, give_back, granted, return_units


class Lease(NamedTuple):
    """What a process got of a window."""

    units: int
    """From 0 to those that it wanted."""
    of_all: int
    """Units that all processes together have of the window, these included."""


class Away(NamedTuple):
    """A store does not answer, and processes go on without it."""

    since_us: int
    processes: int | None
    """How many took leases when last heard of. None: never heard of."""
    is_settling: bool = False
    """It answers again, and learns what each process has; nothing is taken yet."""


class LeasesAway(StorageUnavailable):
    """The store of leases is away, or has just failed; `LeaseStore.away` says what to do. Never a call's failure."""


Claims = Callable[[Away, int], Sequence[LeaseRequest]]
"""What a process has of each window that is current, at a time in microseconds, after a store was away."""


class LeaseStore(Protocol):
    """Gives shares of limits to processes. Never do those of one window exceed its limit.

    A store raises LeasesAway where processes go on without it, and other StorageErrors where calls fail for it.
    """

    @property
    def away(self) -> Away | None:
        """Whether it does not answer. None: it does, as far as is known."""

    async def open(self, claims: Claims) -> None:
        """Connects; takes who tells what the process has. Raises StorageError for what the operator has to change."""

    async def close(self) -> None:
        """Ends what `open` began. All leases have been returned."""

    async def take(self, request: LeaseRequest) -> Lease:
        """Takes a lease, and learns what the process has of the window beside (`request.held`)."""

    async def give_back(self, request: LeaseRequest, *, is_last: bool = False) -> None:
        """Returns units to all; the process has `request.held` beside. The last: it takes no more of the window."""

    async def granted(self, scope: str, window_start_us: int) -> int:
        """Units that all processes together have of a window."""

    async def forget(self, before_us: int) -> None:
        """Deletes windows that were over before a time."""


class Given(NamedTuple):
    """What the database has given of a window to this process, and was not given back."""

    units: int
    expires_us: int


def nothing(_away: Away, _now_us: int) -> Sequence[LeaseRequest]:
    """Claims nothing."""
    return ()


class DatabaseLeases:
    """Leases in the database: what cannot be reached fails the call, but in an outage that is gone on without it."""

    def __init__(self, database: Database) -> None:
        """Takes a database, which others open and close."""
        self._database = database
        self._claims: Claims = nothing
        self._lost: Away | None = None
        self._coming_back = asyncio.Lock()
        self._given: dict[tuple[str, int], Given] = {}

    @property
    def away(self) -> Away | None:
        """Whether processes go on without it."""
        return self._lost

    async def open(self, claims: Claims) -> None:
        """Nothing is to be done."""
        self._claims = claims

    async def close(self) -> None:
        """Nothing is to be done."""

    async def take(self, request: LeaseRequest) -> Lease:
        """Takes a lease in one transaction; raises LeasesAway."""
        await self._reach()
        async with self._database.transaction() as connection:
            units = await taken(connection, request)
            of_all = await granted(connection, request.scope, request.window_start_us)
        self._note(request, units)
        return Lease(units, of_all)

    async def give_back(self, request: LeaseRequest, *, is_last: bool = False) -> None:
        """Returns units in one transaction; raises LeasesAway."""
        await self._reach()
        scope, start_us, units = request.scope, request.window_start_us, request.units
        async with self._database.transaction() as connection:
            if is_last:
                await give_back(connection, scope, start_us, request.holder, units)
            else:
                await return_units(connection, scope, start_us, units)
        self._note(request, -units)

    async def granted(self, scope: str, window_start_us: int) -> int:
        """Reads it; raises LeasesAway."""
        await self._reach()
        async with self._database.reading() as connection:
            return await granted(connection, scope, window_start_us)

    async def forget(self, before_us: int) -> None:
        """Deletes rows."""
        for window in [window for window, given in self._given.items() if given.expires_us < before_us]:
            del self._given[window]
        async with self._database.transaction() as connection:
            await forget_windows(connection, before_us)

    def _note(self, request: LeaseRequest, units: int) -> None:
        window = (request.scope, request.window_start_us)
        before = self._given.get(window)
        self._given[window] = Given(units + (before.units if before is not None else 0), request.expires_us)

    async def _reach(self) -> None:
        """Raises LeasesAway in an outage; after one, says first what was used meanwhile."""
        outage = self._database.changes.outage
        if outage.is_on:
            if self._lost is None:
                self._lost = Away(outage.since_us, self._database.processes)
            raise LeasesAway("The database is away.")
        if self._lost is None:
            return
        async with self._coming_back:
            if self._lost is not None:
                await self._claim(self._lost)
                self._lost = None

    async def _claim(self, away: Away) -> None:
        requests = self._claims(away, now_us())
        try:
            async with self._database.transaction() as connection:
                for request in requests:
                    await claimed(connection, request, request.held - self._units_of(request))
        except StorageUnavailable as error:
            raise LeasesAway("The database is away again.") from error
        for request in requests:
            self._note(request, request.held - self._units_of(request))

    def _units_of(self, request: LeaseRequest) -> int:
        given = self._given.get((request.scope, request.window_start_us))
        return 0 if given is None else given.units
