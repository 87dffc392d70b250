"""Where leases are taken: the seam of the stores, and the one that is in the database."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.lease import LeaseRequest, taken
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


class DatabaseLeases:
    """Leases in the database: what cannot be reached fails the call."""

    away: Away | None = None

    def __init__(self, database: Database) -> None:
        """Takes a database, which others open and close."""
        self._database = database

    async def open(self, claims: Claims) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """Nothing is to be done."""

    async def take(self, request: LeaseRequest) -> Lease:
        """Takes a lease in one transaction."""
        async with self._database.transaction() as connection:
            units = await taken(connection, request)
            return Lease(units, await granted(connection, request.scope, request.window_start_us))

    async def give_back(self, request: LeaseRequest, *, is_last: bool = False) -> None:
        """Returns units in one transaction."""
        scope, start_us, units = request.scope, request.window_start_us, request.units
        async with self._database.transaction() as connection:
            if is_last:
                await give_back(connection, scope, start_us, request.holder, units)
            else:
                await return_units(connection, scope, start_us, units)

    async def granted(self, scope: str, window_start_us: int) -> int:
        """Reads it."""
        async with self._database.reading() as connection:
            return await granted(connection, scope, window_start_us)

    async def forget(self, before_us: int) -> None:
        """Deletes rows."""
        async with self._database.transaction() as connection:
            await forget_windows(connection, before_us)
