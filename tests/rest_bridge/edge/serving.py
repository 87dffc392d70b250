"""A server on a free port, a client that speaks bytes, and work for the server to do."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import uvicorn
from uvicorn.server import ServerState

from rest_bridge.config import BridgeConfig
from rest_bridge.endpoint import Endpoint
from rest_bridge.exchange import Exchange
from rest_bridge.protocol import LimitedHttpProtocol, limited_protocol
from tests.rest_bridge.edge.eventually import eventually

LIMITS = BridgeConfig(
    request_body_bytes=200_000,
    header_bytes=8192,
    header_seconds=0.3,
    body_idle_seconds=0.3,
    connections_per_client=5,
    pipelined_requests=8,
    trusted_proxies=frozenset(),
)
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
Run = Callable[[Coroutine[Any, Any, None]], None]
Work = Callable[[Exchange], Awaitable[None]]
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: "
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Serving:
    """A server on a free port, and what it holds."""

    def __init__(self, port: int, state: ServerState, protocol: type[LimitedHttpProtocol]) -> None:
        self.port = port
        self.state = state
        self.protocol = protocol
        self.connected: list[Client] = []

    async def connect(self) -> "Client":
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connected.append(client)
        return client

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        client = await self.connect()
        try:
            for piece in pieces:
                client.writer.write(piece)
                await asyncio.sleep(0.005)
            return await client.answer()
        finally:
            await client.close()


class Client:
    """A connection that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
        headers = dict(re.findall(r"([^:\n]+): (.*?)(?:\n|$)", "\n".join(head[1:])))
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        try:
            return await asyncio.wait_for(self.reader.read(), 5)
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def cut(self) -> None:
        """Leaves as a killed process does."""
        self.writer.transport.abort()


async def echo(exchange: Exchange) -> None:
    if exchange.method == "POST":
        body = await exchange.body()
        await exchange.respond(200, body[:100] if len(body) > 100 else body, [(b"x-length", b"%d" % len(body))])
    else:
        await exchange.respond(200, str(exchange.scope["path"]).encode())


@asynccontextmanager
async def serving(
    work: Work = echo, limits: BridgeConfig = LIMITS, keep_alive_seconds: int = 5
) -> AsyncIterator[Serving]:
    app = Endpoint(limits, "openai", METHODS, work, lambda failure: orjson.dumps({"message": failure.message}))
    protocol = limited_protocol(limits)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_seconds,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0, family=socket.AF_INET
    )
    serving = Serving(server.sockets[0].getsockname()[1], state, protocol)
    try:
        yield serving
        # Whatever a test did, nothing stays behind.
        await eventually(lambda: not state.tasks)
        await eventually(lambda: not state.connections)
        assert not protocol.clients
    finally:
        for client in serving.connected:
            client.cut()
        server.close()
        await server.wait_closed()


class Phases:
    """Work that stands still at one phase, and tells when it is cancelled."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.reached = asyncio.Event()
        self.cancelled_at = 0.0

    async def __call__(self, exchange: Exchange) -> None:
        try:
            if self.phase == "body":
                self.reached.set()
            await exchange.body()
            if self.phase in ("stream", "blocked"):
                await exchange.start_stream(200, ())
                await exchange.send(b"first")
            while self.phase == "blocked":
                await exchange.send(b"x" * 100_000)
                self.reached.set()
            self.reached.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled_at = asyncio.get_running_loop().time()
            raise
