"""A client that sends whatever octets a test wants, and sees every frame."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from gateway_core.grpc_server import GrpcServer, Limits, frames
from gateway_core.grpc_server.hpack_decoder import Decoder
from gateway_core.grpc_server.hpack_encoder import Encoder

SECONDS = 10
HEAD = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Test/Echo"),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
CODEC: Any = {"request_deserializer": StringValue.FromString, "response_serializer": StringValue.SerializeToString}


class Frame(NamedTuple):
    """One that has come."""

    kind: int
    flags: int
    number: int
    payload: bytes
    fields: dict[str, str]
    """Of a HEADERS frame."""


def message(text: str = "") -> bytes:
    """A text as gRPC frames it."""
    body = StringValue(value=text).SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def text_of(data: bytes) -> str:
    """The text of one framed message."""
    assert data[0] == 0
    assert len(data) - 5 == int.from_bytes(data[1:5], "big")
    return StringValue.FromString(data[5:]).value


def head(path: str = "/test.Test/Echo", *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The fields of a request."""
    return [(name, path if name == ":path" else value) for name, value in HEAD] + list(more)


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=lambda: Decoder(1 << 20))

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def call(self, number: int, fields: Sequence[tuple[str, str]], *, flags: int = frames.END_HEADERS) -> bytes:
        return frames.frame(frames.HEADERS, flags, number, self.encoder.block(fields))

    def ask(self, number: int, text: str = "", fields: Sequence[tuple[str, str]] = HEAD) -> bytes:
        """A whole call."""
        return self.call(number, fields) + frames.frame(frames.DATA, frames.END_STREAM, number, message(text))

    async def frame(self) -> Frame | None:
        """The next. None: the connection has ended."""
        try:
            async with asyncio.timeout(SECONDS):
                word, flags, number = frames.HEAD.unpack(await self.reader.readexactly(frames.HEAD_BYTES))
                payload = await self.reader.readexactly(word >> 8)
                fields = self.decoder.fields(payload) if word & 0xFF == frames.HEADERS else ()
                return Frame(word & 0xFF, flags, number, payload, dict(fields))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until(self, wanted: Callable[[Frame], bool]) -> list[Frame]:
        """Those that come as far as one that is wanted."""
        found = []
        while (came := await self.frame()) is not None:
            found.append(came)
            if wanted(came):
                return found
        raise AssertionError(f"the connection has ended behind {found}")

    async def answer(self, number: int) -> tuple[dict[str, str], bytes, dict[str, str]]:
        """The first fields, the body and the last fields of a stream that ends."""
        ended = await self.until(lambda came: came.number == number and bool(came.flags & 1) and came.kind < 2)
        own = [came for came in ended if came.number == number]
        blocks = [came.fields for came in own if came.kind == frames.HEADERS]
        body = b"".join(came.payload for came in own if came.kind == frames.DATA)
        return blocks[0], body, blocks[-1]

    async def farewell(self) -> int:
        """The error code of the GOAWAY with which the connection ends; it must end."""
        found = await self.until(lambda came: came.kind == frames.GOAWAY)
        while await self.frame() is not None:
            pass
        return int(frames.TWO_NUMBERS.unpack_from(found[-1].payload)[1])


async def client(port: int, settings: bytes = b"") -> Client:
    """A connection that has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    made = Client(reader, writer)
    made.send(frames.PREFACE, frames.frame(frames.SETTINGS, 0, 0, settings))
    return made


def setting(key: int, value: int) -> bytes:
    return frames.SETTING.pack(key, value)


class Servicer:
    """Methods for tests, and what has become of their calls."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []
        self.cancelled = asyncio.Event()
        self.woken = asyncio.Event()
        self.written = 0

    async def echo(self, request: StringValue, context: Any) -> StringValue:
        self.contexts.append(context)
        return request

    async def wait(self, request: StringValue, context: Any) -> StringValue:
        self.contexts.append(context)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def surrogate(self, request: StringValue, context: Any) -> StringValue:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no \ud800 such thing")
        return request

    async def aside(self, request: StringValue, context: Any) -> None:
        async def write() -> None:
            try:
                await context.write(request)
            finally:
                self.woken.set()

        self.aside_task = asyncio.create_task(write())
        await asyncio.Event().wait()

    async def repeat(self, request: StringValue, context: Any) -> Any:
        for _ in range(100):
            yield request
            self.written += 1

    async def chat(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            yield request

    async def written_out(self, request: StringValue, context: Any) -> None:
        for _ in range(3):
            await context.write(request)


async def serving(servicer: Servicer, limits: Limits | None = None) -> tuple[GrpcServer, int]:
    """A server and its port."""
    server = GrpcServer(limits)
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(servicer.echo, **CODEC),
        "Wait": grpc.unary_unary_rpc_method_handler(servicer.wait, **CODEC),
        "Surrogate": grpc.unary_unary_rpc_method_handler(servicer.surrogate, **CODEC),
        "Aside": grpc.unary_stream_rpc_method_handler(servicer.aside, **CODEC),
        "Repeat": grpc.unary_stream_rpc_method_handler(servicer.repeat, **CODEC),
        "Write": grpc.unary_stream_rpc_method_handler(servicer.written_out, **CODEC),
        "Chat": grpc.stream_stream_rpc_method_handler(servicer.chat, **CODEC),
    }
    server.add_registered_method_handlers("test.Test", handlers)
    return server, await server.listen("127.0.0.1:0")
