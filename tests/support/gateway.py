"""A whole gateway in this process: core and bridge, together over the in-process channel or apart over a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import uvicorn
from grpc import aio

from gateway_core.config import Config
from gateway_core.server import Core
from gateway_core.storage.store import Store
from rest_bridge.app import CHANNEL_OPTIONS, create, server
from rest_bridge.config import BridgeConfig
from rest_bridge.refusal import Words
from tests.support.upstream import reached

Arrangement = Literal["together", "apart"]
ARRANGEMENTS: tuple[Arrangement, ...] = ("together", "apart")

MESSAGE_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    *CHANNEL_OPTIONS,
]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    core: Core
    http_url: str
    """Of the bridge: "http://127.0.0.1:PORT"."""
    grpc_address: str
    """Of the core: "127.0.0.1:PORT"."""
    arrangement: Arrangement

    @property
    def port(self) -> int:
        """The port of the bridge."""
        return int(self.http_url.rpartition(":")[2])


@asynccontextmanager
async def running(
    config: Config,
    arrangement: Arrangement = "together",
    bridge: BridgeConfig | None = None,
    store: Store | None = None,
    root_key: str | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway on free loopback ports, whatever the configuration says of ports, for as long as the context lasts.

    Without a store nobody needs a key; with one, what the configuration says of `authentication` holds.
    """
    listen = config.listen.model_copy(update={"grpc": "127.0.0.1:0"})
    core = Core(config.model_copy(update={"listen": listen}), store, root_key)
    await core.start()
    address = f"127.0.0.1:{core.port}"
    channel: aio.Channel = core.channel if arrangement == "together" else aio.insecure_channel(address, MESSAGE_OPTIONS)
    bridge = bridge or BridgeConfig(drain_seconds=1)
    app = create(channel, bridge, exposition=core.telemetry.exposition)
    core.refusals.speak(Words(app))
    try:
        async with served(server(app, bridge, "127.0.0.1", 0)) as url:
            yield Gateway(core, url, address, arrangement)
    finally:
        if arrangement == "apart":
            await channel.close()
        await core.close()


@asynccontextmanager
async def served(http: uvicorn.Server) -> AsyncIterator[str]:
    """The URL at which an HTTP server answers, for as long as the context lasts."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    task = asyncio.create_task(http.serve(sockets=[listening]))
    try:
        await reached(lambda: http.started or task.done())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        http.should_exit = True
        await task
