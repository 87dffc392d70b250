"""The HTTP side of the load: raw HTTP/1.1 over kept connections, an asyncio.Protocol each."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools

from bench.answers import completion_flaw, request_body, stream_flaw
from bench.wrong_answer import WrongAnswer

KNOWN_BODIES = 64
"""How many right bodies are kept, so that an equal one needs no second look."""

CONNECTIONS_PER_ADDRESS = 2000


class Connection(asyncio.Protocol):
    """One kept connection: one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.begun: asyncio.Event | None = None
        """Set, where there is one, when something of the body has come."""

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; raises WrongAnswer where there is none."""
        if self._transport is None:
            raise WrongAnswer("the server closed the connection between two requests")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Closes it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(f"the server closed the connection before the answer was whole ({error})")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")

    def on_message_begin(self) -> None:
        self._pieces = []

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        if self.begun is not None:
            self.begun.set()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._answer is None or self._answer.done() or status < 200:
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._answer.set_result((status, b"".join(self._pieces)))

    def _fail(self, flaw: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WrongAnswer(flaw))


@dataclass(frozen=True)
class HttpPlace:
    """Where an HTTP server is asked, and what is sent beside the body."""

    port: int
    path: str
    key: str
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpClient:
    """Asks for a chat completion in OpenAI's dialect, over as many connections as callers ask at once."""

    def __init__(self, place: HttpPlace, model: str, stream: bool) -> None:
        self._port = place.port
        self._flaw = stream_flaw if stream else completion_flaw
        self._right: set[bytes] = set()
        self._free: list[Connection] = []
        self._opened: list[Connection] = []
        body = request_body(model, stream)
        more = "".join(f"{name}: {value}\r\n" for name, value in place.headers.items())
        head = (
            f"POST {place.path} HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json\r\nAuthorization: Bearer {place.key}\r\nUser-Agent: bench\r\n"
            f"{more}Content-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body

    async def ask(self, begun: asyncio.Event | None = None) -> None:
        """Asks once and checks the answer; raises WrongAnswer. The event is set when something of the body has come."""
        connection = await self._connection()
        connection.begun = begun
        status, body = await connection.ask(self._request)
        if status != 200:
            raise WrongAnswer(f"status {status}: {body[:300]!r}")
        if body not in self._right:
            flaw = self._flaw(body)
            if flaw is not None:
                raise WrongAnswer(flaw)
            if len(self._right) < KNOWN_BODIES:
                self._right.add(body)
        self._free.append(connection)

    async def close(self) -> None:
        """Closes the connections."""
        for connection in self._opened:
            connection.close()

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        # Servers limit the connections of one address, as they should.
        others = len(self._opened) // CONNECTIONS_PER_ADDRESS
        address = (f"127.0.0.{1 + others}", 0) if others else None
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port, local_addr=address)
        self._opened.append(connection)
        return connection
