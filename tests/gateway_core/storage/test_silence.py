"""A network that swallows what is sent: nobody says that the connection is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from gateway_core.metering.ledger import Ledger
from gateway_core.storage import postgresql, steady
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.location import location
from tests.gateway_core.metering.rows import asked
from tests.support.postgres import PostgresServer


class Line:
    """Carries bytes to a server and back, as long as it is open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.open.wait()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.create_task(self._copy(source, sink)))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self.open.wait()
                sink.write(data)
        except OSError:
            pass
        finally:
            sink.close()


async def test_what_is_written_into_a_network_that_swallows_it_is_unavailable_in_time(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(postgres_server.port)
    url = await postgres_server.new_database()
    async with line.listening() as port:
        place = location(SecretStr(url.replace(f":{postgres_server.port}/", f":{port}/")), tmp_path)
        async with Database(place) as database:
            ledger = Ledger(database)
            await ledger.start()
            await ledger.open(asked())
            monkeypatch.setattr(postgresql, "WRITE_SECONDS", 0.3)
            monkeypatch.setattr(steady, "PATIENCE_SECONDS", 0.1)
            line.open.clear()
            try:
                async with asyncio.timeout(20):
                    with pytest.raises(StorageUnavailable):
                        await ledger.open(asked())
                    with pytest.raises(StorageUnavailable):
                        async with database.transaction() as connection:
                            await connection.execute(text("SELECT 1"))
            finally:
                line.open.set()
                monkeypatch.undo()
            await ledger.open(asked())
            await ledger.close()
