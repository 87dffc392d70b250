"""An HTTP server inside a program with other things to do: it starts and drains when told to, not by signals."""

import asyncio
import socket

import uvicorn

AFTER_CANCELLING_SECONDS = 1.0
"""How long an answer that was cut off may take to end."""


class HttpServer:
    """Runs uvicorn in the event loop of the caller, by the steps of its `serve`, without its signal handlers."""

    def __init__(self, server: uvicorn.Server, claim: socket.socket) -> None:
        """Takes the server, and a socket with its address."""
        self._server = server
        self._claim = claim
        self._ticks: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen; raises OSError where another program was faster."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._claim])
        self._ticks = asyncio.create_task(self._server.main_loop(), name="the HTTP server's clock")

    async def drain(self) -> None:
        """Stops listening, closes idle connections, and waits for running answers as long as the server's grace."""
        if self._ticks is None:
            return
        self._ticks.cancel()
        await self._server.shutdown(sockets=[self._claim])
        cut_off = set(self._server.server_state.tasks)
        if cut_off:
            await asyncio.wait(cut_off, timeout=AFTER_CANCELLING_SECONDS)
