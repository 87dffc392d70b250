"""How a process on SQLite learns what others changed: it looks at the versions of the rows of `changes`."""

import asyncio
import sqlite3
from pathlib import Path

import aiosqlite
import structlog

from gateway_core.storage.backend import Told
from gateway_core.storage.errors import CannotOpen

EVERY_SECONDS = 0.3

log = structlog.get_logger("headgate.storage")


class Polling:
    """Looks on a connection of its own.

    `PRAGMA data_version` says for about 50 microseconds whether any other connection has written; only then are rows
    read (https://www.sqlite.org/pragma.html#pragma_data_version).
    """

    def __init__(self, path: Path, process_id: str, told: Told) -> None:
        """Takes the file, the id of this process, whose own changes are left out, and what to call."""
        self._path = path
        self._process_id = process_id
        self._told = told
        self._connection: aiosqlite.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._data_version = 0
        self._seen = 0

    async def start(self) -> None:
        """Takes what is there as known, and begins to look; raises CannotOpen."""
        try:
            self._connection = connection = await aiosqlite.connect(self._path, isolation_level=None)
            await connection.execute("PRAGMA query_only = ON")
            # In this order: what is written between the two is looked at again.
            self._data_version = await _number(connection, "PRAGMA data_version")
            self._seen = await _number(connection, "SELECT coalesce(max(version), 0) FROM changes")
        except sqlite3.Error as error:
            await self.close()
            raise CannotOpen(f"database_url: cannot read {self._path}: {error}") from None
        self._task = asyncio.create_task(self._look_on(connection), name="changes of other processes")

    async def close(self) -> None:
        """Ends looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._connection is not None:
            await self._connection.close()
        self._task = self._connection = None

    async def _look_on(self, connection: aiosqlite.Connection) -> None:
        failing = False
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self._look(connection)
            except sqlite3.Error as error:
                if not failing:
                    log.warning("changes_unread", message=f"What other processes change is not seen: {error}")
                failing = True
            else:
                failing = False

    async def _look(self, connection: aiosqlite.Connection) -> None:
        data_version = await _number(connection, "PRAGMA data_version")
        if data_version == self._data_version:
            return
        rows = await connection.execute_fetchall(
            "SELECT version, topic, key, process_id FROM changes WHERE version > ? ORDER BY version", (self._seen,)
        )
        for version, topic, key, process_id in rows:
            self._seen = version
            if process_id != self._process_id:
                self._told(topic, key or None)
        self._data_version = data_version


async def _number(connection: aiosqlite.Connection, statement: str) -> int:
    ((value,),) = await connection.execute_fetchall(statement)
    return int(value)
