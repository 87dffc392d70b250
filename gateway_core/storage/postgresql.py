"""PostgreSQL: a pool of connections, an advisory lock for migrations, notifications for changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Literal, TypeVar

import asyncpg
import orjson
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway_core.storage.backend import Statements, Told, Watcher
from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.journal_place import PLACE
from gateway_core.storage.listening import Listening
from gateway_core.storage.location import PostgresqlServer
from gateway_core.storage.outage import Outage
from gateway_core.storage.statements import insert_statement

CHANNEL = "headgate_changes"
MIGRATION_LOCK = 0x6865_6164_6761_7465  # "headgate"
CONNECT_SECONDS = 10.0
WRITE_SECONDS = 15.0
"""Of a transaction. Where a network swallows what is sent nobody says that it does."""
ANSWER_SECONDS = 0.5
WRITERS = 10
READERS = 10

T = TypeVar("T")


class PostgresqlStatements:
    """The statements of one transaction. They wait in the event loop, where it looks as if they blocked."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(self, connection: Connection) -> None:
        """Takes the connection, which is in a transaction."""
        self._connection = connection

    def many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Executes a statement for each row; asyncpg does not tell how many rows it changed."""
        return self._connection.exec_driver_sql(numbered(statement), list(rows)).rowcount

    def insert(self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows to a table."""
        self.many(insert_statement(table, columns), rows)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """What a statement gives."""
        return self._connection.exec_driver_sql(numbered(statement), tuple(parameters)).all()


@cache
def numbered(statement: str) -> str:
    """A statement with its parameters as PostgreSQL writes them."""
    first, *rest = statement.split("?")
    return first + "".join(f"${number}{piece}" for number, piece in enumerate(rest, 1))


class PostgresqlBackend:
    """A database on a server."""

    def __init__(self, server: PostgresqlServer, process_id: str) -> None:
        """Takes the server, and the id of this process."""
        self._server = server
        self._process_id = process_id
        self.writing_turn = asyncio.Semaphore(WRITERS)
        self.reading_turn = asyncio.Semaphore(READERS)
        self.writing = self._engine(pool_size=WRITERS + READERS, max_overflow=0, pool_pre_ping=True)
        self.reading = self.writing.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def connection(self) -> Any:
        """A new connection of asyncpg; raises CannotOpen, which tells no password."""
        try:
            return await asyncpg.connect(
                self._server.dsn, timeout=CONNECT_SECONDS, server_settings={"application_name": "headgate"}
            )
        except TimeoutError:
            problem = f"no answer within {CONNECT_SECONDS:g} seconds"
        except (OSError, asyncpg.PostgresError) as error:
            problem = str(error)
        except (ValueError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            # Its text may hold parts of the URL.
            problem = f"the URL or the server's answer is not understood ({type(error).__name__})"
        raise CannotOpen(f"database_url: cannot connect to {self._server}: {problem}")

    async def prepare(self) -> None:
        """Asks the server for a connection; raises CannotOpen."""
        connection = await self.connection()
        await connection.close(timeout=CONNECT_SECONDS)

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose transaction holds the advisory lock."""
        engine = self._engine(poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            yield connection

    def write_limit(self) -> asyncio.Timeout:
        """WRITE_SECONDS; what is cut off then costs its connection."""
        return asyncio.timeout(WRITE_SECONDS)

    async def write(self, work: Callable[[Statements], T]) -> T:
        """What work gives, called in the event loop."""
        async with self.writing.begin() as connection:
            return await connection.run_sync(lambda synchronous: work(PostgresqlStatements(synchronous)))

    async def mark(self, connection: AsyncConnection, topic: str, key: str | None) -> None:
        """Notifies at the commit: https://www.postgresql.org/docs/current/sql-notify.html."""
        payload = orjson.dumps([self._process_id, topic, key]).decode()
        await connection.execute(select(func.pg_notify(CHANNEL, payload)))

    async def answers(self) -> bool:
        """Asks over a connection of the pool, which may have one where no new one is to be had."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self.writing.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except (OSError, TimeoutError, SQLAlchemyError, CannotOpen, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def watcher(self, told: Told, outage: Outage) -> Watcher:
        """Listens."""

        def heard(payload: str) -> None:
            process_id, topic, key = orjson.loads(payload)
            if process_id != self._process_id:
                told(topic, key)

        return Listening(CHANNEL, self.connection, heard, outage)

    async def close(self) -> None:
        """Closes the connections."""
        await self.writing.dispose()

    def _engine(self, **pool: Any) -> AsyncEngine:
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connection,
            hide_parameters=True,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            execution_options={PLACE: self._server},
            **pool,
        )
