"""The database: opened, migrated, written in transactions, read beside them."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Self, TypeVar

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.backend import Backend, Statements
from gateway_core.storage.changes import Changes
from gateway_core.storage.errors import Conflict, StorageUnavailable
from gateway_core.storage.identifier import new_id
from gateway_core.storage.location import Location, PostgresqlServer
from gateway_core.storage.migration import upgrade
from gateway_core.storage.postgresql import PostgresqlBackend
from gateway_core.storage.sqlite import SqliteBackend
from gateway_core.storage.steady import connected, whole

# Classes of SQLSTATE that say nothing against the statement: connection, resources, operator, system; and 40, where the
# server rolled the transaction back for another's sake. And read_only_sql_transaction: after a failover a server may be
# a standby for a while. https://www.postgresql.org/docs/current/errcodes-appendix.html
PASSING = ("08", "25006", "40", "53", "55", "57", "58")


T = TypeVar("T")


class Database:
    """A database. Belongs to the event loop in which it is opened."""

    changes: Changes

    def __init__(self, location: Location) -> None:
        """Takes where it is. Nothing is done before `open`."""
        self.location = location
        self.process_id = new_id()
        """Names this process, from this start on, to the others."""
        self._backend: Backend = (
            PostgresqlBackend(location, self.process_id)
            if isinstance(location, PostgresqlServer)
            else SqliteBackend(location.path, self.process_id)
        )
        self.changes = Changes(self._backend)
        self.settled: Callable[[], Awaitable[Mapping[str, int]]] = settled_always
        """Waits, not for long, until what this process has yet to write of the ledger is written. Returns what calls
        that are not in it have charged, in picodollars, by account; nothing where all are."""
        self.is_behind: Callable[[], bool] = never
        """Whether what calls have cost cannot be written now, so that no process sees what others spend."""
        self.processes: int | None = None
        """How many processes use it, as far as this one has heard. None: it has not."""
        self._writers: set[asyncio.Task[object] | None] = set()

    async def open(self) -> None:
        """Connects, brings the tables up to date, and begins to learn what other processes change.

        Raises CannotOpen where it cannot be reached, SchemaTooNew where a newer version of the program was here.
        """
        try:
            with _told():
                await self._backend.prepare()
                await self.migrate()
                await self.changes.start()
        except BaseException:
            await self.close()
            raise

    async def migrate(self) -> None:
        """Brings the tables up to date; waits while another process does; raises SchemaTooNew."""
        async with self._backend.migrating() as connection:
            await connection.run_sync(upgrade)

    async def close(self) -> None:
        """Ends learning of changes, and closes the connections after a transaction that writes on SQLite."""
        await self.changes.close()
        await self._backend.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that writes: committed at the end of the block, rolled back when it raises.

        A cancellation never cuts off a statement or the commit: it is raised when that is done, and what was published
        is told. A task may have one at a time. Raises Conflict, and StorageUnavailable; where the block had ended then,
        it may or may not have been committed.
        """
        async with self._writing(), connected(self._backend.writing) as connection:
            self.changes.begin(connection)
            try:
                yield connection
                await self._commit(connection)
            finally:
                self.changes.forget(connection)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What work gives, which is called with a synchronous connection in a transaction that writes.

        Work executes statements and nothing else. It is committed when it returns and rolled back when it raises; for
        the rest, as `transaction`.
        """
        async with self.transaction() as connection:
            return await connection.run_sync(work)

    async def write(self, work: Callable[[Statements], T]) -> T:
        """As `run`, for what is written with every call, with the driver's own statements: it cannot publish.

        On SQLite all of it, the commit included, is one step of a thread that only writes; on PostgreSQL it runs in the
        event loop and waits there where it looks as if it blocked.
        """
        async with self._writing():
            return await whole(self._backend.write(work))

    @asynccontextmanager
    async def reading(self, *, settled: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one moment of the database, and cannot write. Raises StorageUnavailable.

        Whoever reads what calls have cost asks for it `settled`: it sees all calls of this process that have ended, as
        far as they can be written.
        """
        if settled:
            await self.settled()
        with _told():
            async with (
                self.changes.outage.watched(),
                self._backend.reading_turn,
                connected(self._backend.reading) as connection,
            ):
                yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        if task in self._writers:
            raise RuntimeError("a transaction within a transaction of the same task would wait for itself")
        with _told():
            async with self.changes.outage.watched(), self._backend.write_limit(), self._backend.writing_turn:
                self._writers.add(task)
                try:
                    yield
                finally:
                    self._writers.discard(task)

    async def _commit(self, connection: AsyncConnection) -> None:
        published = self.changes.forget(connection)
        try:
            await connection.commit()
        finally:
            # Also when it failed: the connection may have been lost after the commit.
            self.changes.tell(published)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def settled_always() -> Mapping[str, int]:
    """There is nothing that is written later."""
    return {}


def never() -> bool:
    """It is not."""
    return False


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raises the failures of the database as those of the storage: nobody else knows SQLAlchemy."""
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict("A row would break a rule of uniqueness or reference.") from error
    except sqlite3.IntegrityError as error:
        raise Conflict("A row would break a rule of uniqueness or reference.") from error
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"The database cannot answer now: {error}") from error
    except TimeoutError as error:
        raise StorageUnavailable("The database did not answer in time.") from error
    except OSError as error:
        raise StorageUnavailable(f"The database cannot be reached: {error}") from error
    except exc.TimeoutError as error:
        raise StorageUnavailable("No connection to the database became free in time.") from error
    except exc.DBAPIError as error:
        if not _passes(error):
            raise
        raise StorageUnavailable(f"The database cannot answer now: {error.orig}") from error


def _passes(error: exc.DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return (
        error.connection_invalidated
        or isinstance(error, exc.OperationalError | exc.InterfaceError)
        or (isinstance(state, str) and state.startswith(PASSING))
    )
