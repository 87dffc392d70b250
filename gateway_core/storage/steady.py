"""Connections on which a cancellation does not cut a statement short.

A statement that is cut off costs its connection: SQLAlchemy closes it, and nobody knows what became of the statement. A
caller that leaves cancels its call at any moment, and statements are short: the cancellation is raised when it is over.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

# For how long a cancellation waits. It is exceeded where a server or a disk does not answer; then the work is cut off.
PATIENCE_SECONDS = 5.0

T = TypeVar("T")


async def whole(work: Awaitable[T]) -> T:
    """What work gives. A cancellation of the caller is raised when the work is done, or has been cut off."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError as cancelled:
        await _ended(task)
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


async def _ended(task: asyncio.Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    cut = loop.call_later(PATIENCE_SECONDS, task.cancel)
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            # One is already on its way up.
            continue
    cut.cancel()


class SteadyConnection(AsyncConnection):
    """A connection of SQLAlchemy whose statements, commits and savepoints are whole. `stream` is as it was."""

    async def start(self, is_ctxmanager: bool = False) -> AsyncConnection:
        """Takes a connection of the pool."""
        return await whole(super().start(is_ctxmanager))

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """Executes a statement; `scalar` and `scalars` do so by this."""
        return await whole(super().execute(*arguments, **options))

    async def exec_driver_sql(self, *arguments: Any, **options: Any) -> Any:
        """Executes a statement as it is."""
        return await whole(super().exec_driver_sql(*arguments, **options))

    async def run_sync(self, *arguments: Any, **options: Any) -> Any:
        """Calls a function with the connection as SQLAlchemy's synchronous side has it."""
        return await whole(super().run_sync(*arguments, **options))

    async def commit(self) -> None:
        """Commits."""
        await whole(super().commit())

    async def rollback(self) -> None:
        """Rolls back."""
        await whole(super().rollback())

    async def close(self) -> None:
        """Gives the connection back to the pool; what is not committed is rolled back."""
        await whole(super().close())

    def begin_nested(self) -> AsyncTransaction:
        """A savepoint."""
        return SteadySavepoint(self, nested=True)


class SteadySavepoint(AsyncTransaction):
    """A savepoint that is set, released and gone back to as a whole."""

    async def start(self, is_ctxmanager: bool = False) -> AsyncTransaction:
        """Sets it."""
        return await whole(super().start(is_ctxmanager))

    async def commit(self) -> None:
        """Releases it."""
        await whole(super().commit())

    async def rollback(self) -> None:
        """Goes back to it."""
        await whole(super().rollback())

    async def __aexit__(self, *raised: Any) -> None:
        await whole(super().__aexit__(*raised))


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection, given back at the end of the block; what is not committed then is rolled back."""
    connection = SteadyConnection(engine)
    try:
        await connection.start()
        yield connection
    finally:
        # A cancellation may be raised by `start` when it has the connection.
        if connection.sync_connection is not None:
            await connection.close()
