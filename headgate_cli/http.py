"""An HTTP server inside a program with other things to do: it starts and drains when told to, not by signals."""

import asyncio
import socket
import ssl
from collections.abc import Callable

import uvicorn

from rest_bridge.protocol import LimitedHttpProtocol

ACCEPTED_SECONDS = 0.05
"""How long connections that were accepted before may take to be known."""
IDLE_SECONDS = 2.0
"""How long a client may leave a connection idle before it is closed, where there will be no other answer on it."""
AFTER_CANCELLING_SECONDS = 1.0
"""How long an answer that was cut off may take to end."""


class HttpServer:
    """Runs uvicorn in the event loop of the caller, by the steps of its `serve`, without its signal handlers."""

    def __init__(self, server: uvicorn.Server, claim: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Takes the server, a socket with its address, and for TLS what it shows."""
        self._server = server
        self._claim = claim
        self._tls = tls
        self._ticks: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen; raises OSError where another program was faster."""
        config = self._server.config
        config.load()
        config.ssl = self._tls
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._claim])
        self._ticks = asyncio.create_task(self._server.main_loop(), name="the HTTP server's clock")

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._server.server_state.connections)

    async def retire(self) -> None:
        """Stops listening where others go on at the same socket: every connection ends with its next answer."""
        for listening in self._server.servers:
            listening.close()
        self._claim.close()
        await asyncio.sleep(ACCEPTED_SECONDS)
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, LimitedHttpProtocol):
                connection.retire(IDLE_SECONDS)

    async def drain(self, seconds: float | None = None, cut: Callable[[], None] | None = None) -> None:
        """Stops listening, closes idle connections, and waits for running answers as long as the server's grace.

        Or for so many seconds. `cut` is called before those are ended that are left then.
        """
        if self._ticks is None:
            return
        self._ticks.cancel()
        if seconds is not None:
            self._server.config.timeout_graceful_shutdown = round(seconds)
        await self._server.shutdown(sockets=[self._claim])
        cut_off = set(self._server.server_state.tasks)
        if cut_off:
            if cut is not None:
                cut()  # they are cancelled, and hear of it at the next turn of the loop
            await asyncio.wait(cut_off, timeout=AFTER_CANCELLING_SECONDS)
