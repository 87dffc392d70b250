"""What differs between SQLite and PostgreSQL, behind one protocol; and waiting for what must not be cut short."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Told = Callable[[str | None, str | None], None]
"""Takes the topic and the key of a change of another process. No key: anything of the topic. No topic: anything."""


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

    def turn(self) -> AbstractAsyncContextManager[None]:
        """The right to begin a transaction that writes, first come, first served."""

    async def mark(self, connection: AsyncConnection, topic: str, key: str | None) -> None:
        """Makes a change known to other processes when the transaction is committed."""

    def watcher(self, told: Told) -> Watcher:
        """What calls `told` with the changes of other processes."""

    async def close(self) -> None:
        """Closes the connections."""


async def completed(work: Coroutine[Any, Any, None]) -> None:
    """Waits for work that a cancellation of the caller does not stop; the cancellation is raised when it is done."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    task.result()
