"""A scripted vendor on raw sockets: it answers byte by byte as a test says, misbehaviour included.

    async with Upstream() as upstream:
        upstream.script(json_answer({"id": "1"}), sse_answer([{"a": 1}, Wait(event), {"a": 2}]))

An answer is a sequence of steps. Answers are taken in order, one for each request, and the last one repeats.
"""

import asyncio
import gzip as gzip_format
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from types import TracebackType
from typing import Any, Literal, Self, cast

SEND_BUFFER_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Delay:
    """Nothing happens for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing happens until the test sets the event."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing happens any more."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends with a FIN, after all that was written."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection ends with a RST."""


Step = bytes | Delay | Wait | Silence | Cut | Reset
Answer = Sequence[Step]
Framing = Literal["chunked", "length", "close"]


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Status line and headers, with the empty line that ends them."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def answer(
    body: Sequence[Step] = (),
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    framing: Framing = "length",
    gzip: bool = False,
) -> Answer:
    """An answer whose body is written in the pieces given; steps may stand between them."""
    fields = dict(headers or {})
    steps = list(body)
    if gzip:
        fields["content-encoding"] = "gzip"
        steps = _gzipped(steps)
    if framing == "length":
        fields.setdefault("content-length", str(sum(len(step) for step in steps if isinstance(step, bytes))))
        return [head(status, fields), *steps]
    if framing == "close":
        return [head(status, {**fields, "connection": "close"}), *steps, Cut()]
    chunks = [chunk(step) if isinstance(step, bytes) else step for step in steps if step != b""]
    return [head(status, {**fields, "transfer-encoding": "chunked"}), *chunks, LAST_CHUNK]


def json_answer(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None, *, gzip: bool = False
) -> Answer:
    """An answer with one JSON document."""
    fields = {"content-type": "application/json", **(headers or {})}
    return answer([json.dumps(document).encode()], status=status, headers=fields, gzip=gzip)


def sse_answer(
    events: Sequence[Any],
    *,
    done: bool = True,
    piece_bytes: int | None = None,
    headers: Mapping[str, str] | None = None,
    framing: Framing = "chunked",
    gzip: bool = False,
) -> Answer:
    """An answer with a stream of events: documents (sent as `data:` lines), raw bytes, and steps between them.

    piece_bytes: how many bytes are written at once; None: one event at once. done: whether `[DONE]` ends it.
    """
    body = [event if isinstance(event, Step) else sse_event(event) for event in events]
    if done:
        body.append(b"data: [DONE]\n\n")
    if piece_bytes is not None:
        body = [piece for step in body for piece in _cut(step, piece_bytes)]
    return answer(body, headers={"content-type": "text/event-stream", **(headers or {})}, framing=framing, gzip=gzip)


def sse_event(document: Any) -> bytes:
    """One event as OpenAI-compatible hosts write it."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def _cut(step: Step, size: int) -> Sequence[Step]:
    return [step[at : at + size] for at in range(0, len(step), size)] if isinstance(step, bytes) else [step]


def _gzipped(steps: Sequence[Step]) -> list[Step]:
    # A member for each piece: every piece can be read as soon as it has arrived.
    return [gzip_format.compress(step, mtime=0) if isinstance(step, bytes) else step for step in steps]


@dataclass(slots=True)
class Received:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: "Connection"
    number: int
    """How many requests came before it on its connection: 0 is the first on a fresh one."""
    at: float
    """Time of the loop's clock at which it was whole."""

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def closed(self) -> asyncio.Event:
        """Set as soon as the connection is closed, by whichever side."""
        return self.connection.closed

    @property
    def closed_at(self) -> float | None:
        """Time of the loop's clock at which it was closed."""
        return self.connection.closed_at

    @property
    def bytes_written(self) -> int:
        """How many bytes of answers the system has taken for the connection."""
        return self.connection.bytes_written


Route = Callable[[Received], Answer]


@dataclass(slots=True, eq=False)
class Connection(asyncio.Protocol):
    """One connection of a client."""

    upstream: "Upstream"
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    closed_at: float | None = None
    request_count: int = 0
    _given: int = 0
    _left: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _transport: asyncio.Transport = field(init=False)
    _writable: asyncio.Event = field(default_factory=asyncio.Event)
    _script: asyncio.Task[None] | None = None

    @property
    def bytes_written(self) -> int:
        """How many bytes of answers the system has taken."""
        return self._given - (self._left if self.closed.is_set() else self._transport.get_write_buffer_size())

    @property
    def is_answering(self) -> bool:
        """Whether an answer is on its way."""
        return self._script is not None and not self._script.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sets buffers small, so that a client that does not read is felt soon."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES, low=0)
        self._writable.set()
        self.upstream.connections.append(self)

    def pause_writing(self) -> None:
        """The system takes no more bytes."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The system takes bytes again."""
        self._writable.set()

    def eof_received(self) -> None:
        """The client said that it is done: HTTP clients say so only when they leave."""
        self._end()

    def connection_lost(self, _: Exception | None) -> None:
        """The connection is gone."""
        self._end()

    def abort(self) -> None:
        """Ends the connection, and what it was answering."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answers each request that is whole."""
        self._buffer += data
        if self._script is None or self._script.done():
            self._answer_next()

    def _end(self) -> None:
        if not self.closed.is_set():
            self._left = self._transport.get_write_buffer_size()
            self.closed_at = asyncio.get_running_loop().time()
            self.closed.set()
            if self._script is not None:
                self._script.cancel()

    def _answer_next(self) -> None:
        received = self._next_request()
        if received is not None:
            self.upstream.requests.append(received)
            self._script = asyncio.ensure_future(self._play(self.upstream._answer_to(received)))
            self._script.add_done_callback(self._answered)

    def _answered(self, script: asyncio.Task[None]) -> None:
        if not script.cancelled() and script.exception() is None and not self._transport.is_closing():
            self._answer_next()

    def _next_request(self) -> Received | None:
        top, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        request_line, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0")) if end else 0
        if not end or len(rest) < length:
            return None
        method, path, _ = request_line.split(" ", 2)
        del self._buffer[: len(top) + len(end) + length]
        self.request_count += 1
        now = asyncio.get_running_loop().time()
        return Received(method, path, headers, rest[:length], self, self.request_count - 1, now)

    async def _play(self, steps: Answer) -> None:
        for step in steps:
            match step:
                case bytes():
                    await self._write(step)
                case Delay(seconds):
                    await asyncio.sleep(seconds)
                case Wait(event):
                    await event.wait()
                case Silence():
                    await asyncio.Event().wait()
                case Cut():
                    self._transport.close()
                    return
                case Reset():
                    connected = self._transport.get_extra_info("socket")
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._transport.abort()
                    return

    async def _write(self, piece: bytes) -> None:
        self._given += len(piece)
        self._transport.write(piece)
        # A turn of the loop between two pieces: a client in the same loop reads them apart.
        await asyncio.sleep(0)
        await self._writable.wait()


class Upstream:
    """The vendor: listens on a free port, of the loopback or of another address, for as long as the context lasts."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        """Speaks TLS where a server's context is given."""
        self.host = host
        self.requests: list[Received] = []
        self.connections: list[Connection] = []
        self.port = 0
        self._tls = tls
        self._route: Route | None = None
        self._answers: list[Answer | Route] = []
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """Its API's URL, version included."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}/v1"

    @property
    def connection_count(self) -> int:
        """How many connections were opened to it, whether or not they are still open."""
        return len(self.connections)

    def script(self, *answers: Answer | Route) -> None:
        """Sets what the next requests are answered; each may be computed from its request; the last one repeats."""
        self._answers = list(answers)

    async def received(self, count: int = 1, *, within: float = 5) -> Received:
        """Waits until as many requests have come, and returns the last of them."""
        await reached(lambda: len(self.requests) >= count, within=within)
        return self.requests[count - 1]

    async def go(self) -> None:
        """Goes away: connections break off, and new ones are refused until it comes back."""
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            if not connection.closed.is_set():
                connection.abort()
        for connection in self.connections:
            await connection.closed.wait()
        await self._server.wait_closed()

    async def come(self) -> None:
        """Comes back, or comes first: at the same port."""
        listening = socket.create_server((self.host, self.port))
        # Connections inherit it: bytes that wait in the system do not hide that the client does not read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listening, ssl=self._tls)
        self.port = listening.getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.come()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go()

    def _answer_to(self, received: Received) -> Answer:
        if not self._answers:
            return json_answer({"error": {"message": "The test has no answer for this request."}}, status=501)
        chosen = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return chosen(received) if callable(chosen) else chosen


def gaps(requests: Sequence[Received]) -> list[float]:
    """The seconds between each request and the next."""
    return [second.at - first.at for first, second in pairwise(requests)]


async def reached(state: Callable[[], bool], *, within: float = 5) -> None:
    """Waits for a state; raises AssertionError where it is not reached in as many seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not state():
        assert loop.time() < deadline, "the state was not reached in time"
        await asyncio.sleep(0.001)


@contextmanager
def refusing() -> Iterator[str]:
    """The base URL of a port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


@contextmanager
def never_accepting() -> Iterator[str]:
    """The base URL of a port at which a connection is begun and never stands: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, socket.socket() as first:
        first.connect(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
