"""The thread that writes what every call writes: one connection of the driver, one step for each transaction."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from gateway_core.storage.backend import Statements
from gateway_core.storage.sqlite_insert import insertion

MOST_ROWS = 64
"""Of one statement: a power of two, so that few statements have to be prepared."""

# For every connection of the process: what the driver does with truth values anyway, once it has given up to look for
# an adapter.
sqlite3.register_adapter(bool, int)

T = TypeVar("T")

Work = Callable[[Statements], Any]


class SqliteStatements:
    """The statements of one transaction."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Takes the connection, which is in a transaction."""
        self._connection = connection

    def many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Executes a statement for each row; returns how many rows of tables it changed."""
        return self._connection.executemany(statement, rows).rowcount

    def insert(self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows to a table, as many as it can with one statement.

        The driver gives the interpreter away with every step of a statement, and a busy event loop takes it: rows by
        themselves cost three times as much.
        """
        of_table = insertion(table, columns)
        start, size = 0, MOST_ROWS
        while start < len(rows):
            if size > len(rows) - start:
                size //= 2
                continue
            self._connection.execute(*of_table.statement(rows[start : start + size]))
            start += size

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        return self._connection.execute(statement, parameters).fetchall()


class SqliteWriter:
    """A thread that is started by the first transaction and ended by `close`.

    The driver alone, and a queue instead of an executor: the way through SQLAlchemy's connection and a
    ThreadPoolExecutor costs four times as much, twice for every call.
    """

    def __init__(self, path: Path, pragmas: Iterable[str], lock_seconds: float) -> None:
        """Takes the file, what its connection is told first, and how long it waits for other processes."""
        self._path = path
        self._pragmas = tuple(pragmas)
        self._lock_seconds = lock_seconds
        self._tasks: queue.SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, work: Callable[[Statements], T]) -> "asyncio.Future[T]":
        """What work gives, called in the thread in a transaction that is committed when it returns."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, args=(loop,), name="headgate-writer", daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = loop.create_future()
        self._tasks.put((work, future))
        return future

    async def close(self) -> None:
        """Ends the thread after what it was given."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(None)
            await asyncio.to_thread(thread.join)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        connection: sqlite3.Connection | None = None
        while (task := self._tasks.get()) is not None:
            work, future = task
            result, error = None, None
            try:
                if connection is None:
                    connection = self._connected()
                result = committed(connection, work)
            except BaseException as raised:  # it is raised where the transaction is waited for
                error = raised
            # A loop that was closed meanwhile has nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, future, result, error)
            del task, work, future, result, error
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._lock_seconds, isolation_level=None)
        for pragma in self._pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection


def committed(connection: sqlite3.Connection, work: Callable[[Statements], T]) -> T:
    """What work gives, called in a transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(SqliteStatements(connection))
        connection.execute("COMMIT")
    except BaseException:
        # Where SQLite has ended the transaction itself there is none to roll back.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def tell(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    """Gives whoever waits what has come of it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
