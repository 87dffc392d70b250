"""A line between a caller and a server, which a test can cut."""

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

READ_BYTES = 1 << 16


def never(_data: bytes, _is_answer: bool) -> bool:
    """Nothing is cut."""
    return False


class Relay:
    """Carries bytes both ways between its own port and another one of this machine."""

    def __init__(self, port: int) -> None:
        """Takes where the server listens."""
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.cuts_at: Callable[[bytes, bool], bool] = never
        """Whether all is cut where these bytes are to be handed on; and whether they are of the server."""
        self.open = asyncio.Event()
        """While it is not set, what is sent is swallowed: it stays on its way."""
        self.open.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.open.set()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Ends every connection with a RST, on both sides."""
        for writer in self._writers:
            connected = writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        for source, sink, is_answer in ((reader, far_writer, False), (far_reader, writer, True)):
            task = asyncio.create_task(self._copy(source, sink, is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
        try:
            while data := await source.read(READ_BYTES):
                if self.cuts_at(data, is_answer):
                    self.cut()
                    return
                await self.open.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)
