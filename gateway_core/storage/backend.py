"""What differs between SQLite and PostgreSQL, behind one protocol."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway_core.storage.outage import Outage

T = TypeVar("T")

Told = Callable[[str | None, str | None], None]
"""Takes the topic and the key of a change of another process. No key: anything of the topic. No topic: anything."""


class Statements(Protocol):
    """A transaction that writes, as the driver has it: for what every call writes."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """What may be said."""

    def many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Executes a statement, whose parameters are question marks, for each row.

        Returns how many rows of tables it changed, which only SQLite's driver tells.
        """

    def insert(self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows to a table."""

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """What a statement gives."""


class Watcher(Protocol):
    """Learns what other processes changed."""

    async def start(self) -> None:
        """Begins: what is committed after this returns is told. Raises CannotOpen."""

    async def close(self) -> None:
        """Ends."""


class Backend(Protocol):
    """A database."""

    writing: AsyncEngine
    reading: AsyncEngine
    """Its transactions see one moment of the database and cannot write."""

    async def prepare(self) -> None:
        """Makes what must be there before the first connection; raises CannotOpen."""

    def migrating(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a transaction that no other process has at the same time, committed at the end."""

    @property
    def writing_turn(self) -> AbstractAsyncContextManager[None]:
        """The right to begin a transaction that writes, first come, first served. Waiting for it can be cancelled."""

    def write_limit(self) -> AbstractAsyncContextManager[object]:
        """How long a transaction that writes may take, its turn included: then TimeoutError."""

    @property
    def reading_turn(self) -> AbstractAsyncContextManager[None]:
        """Likewise, for one that reads."""

    def write(self, work: Callable[[Statements], T]) -> Awaitable[T]:
        """What work gives, which is called in a transaction that is committed when it returns. Needs the turn."""

    async def mark(self, connection: AsyncConnection, topic: str, key: str | None) -> None:
        """Makes a change known to other processes when the transaction is committed."""

    async def answers(self) -> bool:
        """Whether the database can be asked something, within half a second or so."""

    def watcher(self, told: Told, outage: Outage) -> Watcher:
        """What calls `told` with the changes of other processes, and tells the outage when it cannot hear them."""

    async def close(self) -> None:
        """Closes the connections."""
