"""What writes the ledger: the database alone, or a file before it."""

from asyncio import Future
from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway_core.metering.record import Record
from gateway_core.storage.journal import Row
from gateway_core.storage.ledger import Closing


class Writer(Protocol):
    """Belongs to one event loop, between `start` and `close`."""

    async def start(self) -> None:
        """Makes what it needs; raises StorageUnavailable."""

    async def close(self) -> None:
        """Ends, after `finish`."""

    def open(self, opening: Row) -> Future[None] | None:
        """Writes that a call is opened; raises StorageUnavailable, at once or when it is waited for. None: it is."""

    def end(self, closing: Closing) -> Future[None] | None:
        """Writes how a call has ended; likewise. Where it cannot be written it is kept for `retry`."""

    def note(self, records: Iterable[Record]) -> None:
        """Has written how far calls are."""

    def note_soon(self, record: Record) -> None:
        """Has written, within milliseconds, how far a call is."""

    def give_up(self) -> None:
        """A call that was to be opened is not."""

    def retry(self) -> None:
        """Has written what could not be."""

    async def bury(self) -> None:
        """Closes what dead processes have left outside of the database; raises StorageUnavailable."""

    async def settled(self) -> Mapping[str, int]:
        """Waits, not for long, until what has ended so far is in the database, or could not be written.

        Returns what is not, in picodollars, by account; nothing where all is.
        """

    async def finish(self) -> None:
        """Writes what is left, as far as it can."""

    @property
    def left(self) -> int:
        """How many ends are not written."""

    @property
    def is_behind(self) -> bool:
        """Whether many ends are not written because the database does not write."""

    @property
    def unwritten(self) -> Mapping[str, Closing]:
        """Ends that could not be written, by the ids of the calls."""
