"""Those who call a gateway: over raw sockets, through OpenAI's SDK and over gRPC. They stay or leave."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import openai
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from openai import AsyncOpenAI

from tests.faults.outcomes import Outcome, ollama_outcome, openai_outcome, reason_code
from tests.support.gateway import Gateway

MODEL = "lab/tiny"
HI: Any = [{"role": "user", "content": "hi"}]
OPENAI_PATH = "/v1/chat/completions"
OLLAMA_PATH = "/api/chat"
RECEIVE_BUFFER_BYTES = 4096
READ_BYTES = 1 << 16
NEVER = b"no answer says this"

# gRPC would read megabytes ahead for a caller that does not read.
GRPC_OPTIONS = [("grpc.http2.bdp_probe", 0)]


class Caller(Protocol):
    """Who makes one call. Every wait for an answer is in a task of its own, so that the caller can leave meanwhile."""

    async def call(self, *, stream: bool, seconds: float | None = None, model: str = MODEL) -> None:
        """Makes the call, and does not wait for its answer; seconds: the deadline."""
        ...

    async def read_event(self) -> None:
        """Waits for a first event."""
        ...

    async def outcome(self) -> Outcome:
        """Reads all that comes; what it comes to."""
        ...

    async def leave(self) -> None:
        """Leaves, at once."""
        ...

    async def close(self) -> None:
        """Ends what is left."""
        ...


Calls = Callable[[Gateway], Caller]


def request(path: str, document: dict[str, Any], headers: Sequence[str] = ()) -> bytes:
    """A POST in bytes, the last on its connection."""
    content = json.dumps(document).encode()
    headers = ["connection: close", *headers]
    lines = [f"POST {path} HTTP/1.1", "host: gateway", f"content-length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode("ascii") + content


class Raw:
    """A socket, with little room for what it does not read."""

    def __init__(self, port: int) -> None:
        """Takes the gateway's port."""
        self._port = port
        self._loop = asyncio.get_running_loop()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self.socket.setblocking(False)
        self.received = b""

    async def send(self, data: bytes) -> None:
        """Connects and sends."""
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self._port))
        await self._loop.sock_sendall(self.socket, data)

    async def read_until(self, mark: bytes) -> bytes:
        """Reads until a mark has come, or the end; returns all that was read so far."""
        while mark not in self.received:
            piece = await self._loop.sock_recv(self.socket, READ_BYTES)
            if not piece:
                break
            self.received += piece
        return self.received

    def reset(self) -> None:
        """Leaves with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Rest:
    """A caller over REST, on a raw socket."""

    def __init__(self, gateway: Gateway, path: str = OPENAI_PATH, *, resets: bool = False) -> None:
        """Takes whom to call at which path, and whether to leave with a RST."""
        self.raw = Raw(gateway.port)
        self._path = path
        self._resets = resets

    async def call(self, *, stream: bool, seconds: float | None = None, model: str = MODEL) -> None:
        """Sends the request."""
        headers = [] if seconds is None else [f"x-request-timeout: {seconds}"]
        document = {"model": model, "messages": HI, "stream": stream}
        await self.raw.send(request(self._path, document, headers))

    async def read_event(self) -> None:
        """Reads until there is a delta in OpenAI's words, or a message in Ollama's."""
        await self.raw.read_until(b'"message":' if self._path == OLLAMA_PATH else b"data: ")

    async def outcome(self) -> Outcome:
        """Reads to the end of the connection."""
        answer = await self.raw.read_until(NEVER)
        return ollama_outcome(answer) if self._path == OLLAMA_PATH else openai_outcome(answer)

    async def leave(self) -> None:
        """Closes the socket."""
        if self._resets:
            self.raw.reset()
        else:
            self.raw.socket.close()

    async def close(self) -> None:
        """Closes the socket."""
        self.raw.socket.close()


class Sdk:
    """A caller through OpenAI's SDK."""

    def __init__(self, gateway: Gateway) -> None:
        """Takes whom to call."""
        self._client = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="sk-caller", max_retries=0)
        self._task: asyncio.Task[Any] | None = None

    async def call(self, *, stream: bool, seconds: float | None = None, model: str = MODEL) -> None:
        """Has a task ask."""
        create: Any = self._client.chat.completions.create
        headers = None if seconds is None else {"x-request-timeout": str(seconds)}
        self._task = asyncio.create_task(create(model=model, messages=HI, stream=stream, extra_headers=headers))

    async def read_event(self) -> None:
        """Takes a chunk of the stream."""
        assert self._task is not None
        await anext(aiter(await self._task))

    async def outcome(self) -> Outcome:
        """Takes all chunks, until one raises."""
        assert self._task is not None
        status = 200
        try:
            answer = await self._task
            if isinstance(answer, openai.AsyncStream):
                async for _ in answer:
                    pass
        except openai.APIStatusError as error:
            status = error.status_code
            return Outcome(str(status), error.code or "", False)
        except openai.APIError as error:
            return Outcome(str(status), error.code or "", False)
        return Outcome(str(status), "", True)

    async def leave(self) -> None:
        """Closes the stream, or gives up waiting for it."""
        assert self._task is not None
        if self._task.done():
            await self._task.result().close()
        await cancel(self._task)

    async def close(self) -> None:
        """Closes the client."""
        await self._client.close()


class Grpc:
    """A caller over gRPC."""

    def __init__(self, gateway: Gateway, *, closes_channel: bool = False) -> None:
        """Takes whom to call, and whether it is the whole channel that is closed."""
        self._closes_channel = closes_channel
        self._channel = aio.insecure_channel(gateway.grpc_address, GRPC_OPTIONS)
        self.rpc: Any = None
        self._task: asyncio.Task[Any] | None = None

    async def call(self, *, stream: bool, seconds: float | None = None, model: str = MODEL) -> None:
        """Begins the RPC."""
        stub = ChatCompletionServiceStub(self._channel)
        spec: Any = {"model": model, "messages": [{"role": ROLE_USER, "text": "hi"}]}
        if stream:
            self.rpc = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), timeout=seconds)
        else:
            self.rpc = stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), timeout=seconds)
        await self._channel.channel_ready()

    async def read_event(self) -> None:
        """Takes an event of the stream."""
        await self.rpc.read()

    async def outcome(self) -> Outcome:
        """Takes all events, or the answer."""
        try:
            if isinstance(self.rpc, aio.UnaryStreamCall):
                while await self.rpc.read() is not aio.EOF:
                    pass
            else:
                await self.rpc
        except aio.AioRpcError as error:
            return Outcome(error.code().name, reason_of(error), False)
        return Outcome("OK", "", True)

    async def leave(self) -> None:
        """Cancels the RPC, or closes the channel."""
        if self._closes_channel:
            await self._channel.close()
        else:
            self.rpc.cancel()

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
        with suppress(asyncio.CancelledError):
            await self.rpc.code()


def reason_of(error: aio.AioRpcError) -> str:
    """The reason in the status of an RPC; empty where there is none."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None  # the caller's own gRPC saw the deadline pass, and has put its words in place of ours
    info = error_details_pb2.ErrorInfo()
    if status is None or not status.details[0].Unpack(info):
        return ""
    return reason_code(info.reason)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancels a task, and lets it end."""
    task.cancel()
    await asyncio.wait((task,))


REST: dict[str, Calls] = {
    "rest": Rest,
    "rest with a reset": lambda gateway: Rest(gateway, resets=True),
    "ollama": lambda gateway: Rest(gateway, OLLAMA_PATH),
    "openai sdk": Sdk,
}
GRPC: dict[str, Calls] = {
    "grpc": Grpc,
    "grpc channel": lambda gateway: Grpc(gateway, closes_channel=True),
}
EVERY: dict[str, Calls] = {**REST, **GRPC}


@asynccontextmanager
async def calling(name: str, gateway: Gateway) -> AsyncIterator[Caller]:
    """A caller, for as long as the context lasts."""
    caller = EVERY[name](gateway)
    try:
        yield caller
    finally:
        await caller.close()
