"""SQLite: one connection that writes, several that read, in a file in WAL mode."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway_core.storage.backend import Statements, Told, Watcher
from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.outage import Outage
from gateway_core.storage.polling import Polling
from gateway_core.storage.sqlite_writer import SqliteWriter
from gateway_core.storage.tables.coordination import changes

OLDEST_SQLITE = (3, 35, 0)  # RETURNING: https://www.sqlite.org/lang_returning.html
READERS = 4
LOCK_SECONDS = 30.0
MIGRATION_SECONDS = 600.0

# https://www.sqlite.org/pragma.html. A commit is on the disk before it returns (FULL: in WAL mode one fsync a commit,
# which writers that gather share). NORMAL would survive the death of the process, but lose the last commits, and so
# money, when the power goes.
PRAGMAS = ("synchronous = FULL", "foreign_keys = ON", "temp_store = MEMORY", "cache_size = -16384")

T = TypeVar("T")
UNLIMITED = nullcontext()


class SqliteBackend:
    """A database in a file. Writers of this process wait in turn; those of others for at most LOCK_SECONDS."""

    def __init__(self, path: Path, process_id: str) -> None:
        """Takes the file, whose directory need not exist, and the id of this process."""
        self.path = path
        self._process_id = process_id
        self.writing_turn = asyncio.Lock()
        self.reading_turn = asyncio.Semaphore(READERS)
        self.writing = _engine(path, "BEGIN IMMEDIATE", connections=1, lock_seconds=LOCK_SECONDS)
        self._writer = SqliteWriter(path, PRAGMAS, LOCK_SECONDS)
        self.reading = _engine(
            path, "BEGIN", connections=READERS, lock_seconds=LOCK_SECONDS, pragmas=("query_only = ON",)
        )

    async def prepare(self) -> None:
        """Creates the file, readable by its owner only, and puts it into WAL mode; raises CannotOpen."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise CannotOpen(f"Python has SQLite {sqlite3.sqlite_version}, and 3.35 is the oldest that will do.")
        try:
            await asyncio.to_thread(prepared, self.path)
        except (OSError, sqlite3.Error) as error:
            told = error.strerror if isinstance(error, OSError) else str(error)
            raise CannotOpen(f"database_url: cannot open {self.path}: {told}") from None

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose transaction has the write lock of the file."""
        engine = _engine(self.path, "BEGIN IMMEDIATE", connections=1, lock_seconds=MIGRATION_SECONDS)
        try:
            async with engine.begin() as connection:
                yield connection
        finally:
            await engine.dispose()

    def write_limit(self) -> nullcontext[None]:
        """None: SQLite itself waits for others for at most LOCK_SECONDS."""
        return UNLIMITED

    def write(self, work: Callable[[Statements], T]) -> asyncio.Future[T]:
        """What work gives, called in the thread that writes."""
        return self._writer.write(work)

    async def mark(self, connection: AsyncConnection, topic: str, key: str | None) -> None:
        """Gives the row of the change the next version."""
        version = select(func.coalesce(func.max(changes.c.version), 0) + 1).scalar_subquery()
        row = insert(changes).values(topic=topic, key=key or "", version=version, process_id=self._process_id)
        values = {"version": row.excluded.version, "process_id": row.excluded.process_id}
        await connection.execute(row.on_conflict_do_update(index_elements=["topic", "key"], set_=values))

    async def answers(self) -> bool:
        """A file is there."""
        return True

    def watcher(self, told: Told, outage: Outage) -> Watcher:
        """Looks at the rows of changes."""
        return Polling(self.path, self._process_id, told)

    async def close(self) -> None:
        """Closes the connections, after the writer has finished."""
        async with self.writing_turn:
            await self.writing.dispose()
            await self._writer.close()
        await self.reading.dispose()


def prepared(path: Path) -> None:
    """Creates the file and its directory where there is none, and puts it into WAL mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives the files beside it the rights of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    deadline = time.monotonic() + LOCK_SECONDS
    connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_SECONDS)
    try:
        while not _is_in_wal_mode(connection):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("another process keeps it locked")
            time.sleep(0.02)
    finally:
        connection.close()


def _is_in_wal_mode(connection: sqlite3.Connection) -> bool:
    # Changing the mode takes a lock for which SQLite does not always wait: two processes may start at once.
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise
        return False
    if mode != "wal":
        raise sqlite3.OperationalError(f"its file system allows no write-ahead log (journal mode {mode})")
    return True


def _engine(
    path: Path, begin: str, *, connections: int, lock_seconds: float, pragmas: tuple[str, ...] = ()
) -> AsyncEngine:
    url = URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        # sqlite3 would begin transactions when it likes to; isolation_level None leaves that to `begin`.
        connect_args={"isolation_level": None, "timeout": lock_seconds},
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )
    _configure(engine.sync_engine, begin, pragmas)
    return engine


def _configure(engine: Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in (*PRAGMAS, *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
