"""One servicer behind two channels: a socket's and the in-process one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, Protocol

import grpc
import grpc.aio
import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import (
    ChatCompletionServiceServicer,
    ChatCompletionServiceStub,
    add_ChatCompletionServiceServicer_to_server,
)

from gateway_core.grpc_server import GrpcServer
from gateway_core.inprocess import InProcessChannel

Context = grpc.aio.ServicerContext[Any, Any]
Create = Callable[[CreateChatCompletionRequest, Context], Awaitable[CreateChatCompletionResponse]]
Stream = Callable[[StreamChatCompletionRequest, Context], AsyncIterator[StreamChatCompletionResponse]]

CREATE = CreateChatCompletionRequest()
STREAM = StreamChatCompletionRequest()


def answer(text: str = "") -> CreateChatCompletionResponse:
    return CreateChatCompletionResponse(completion=ChatCompletion(id=text))


def event(text: str = "") -> StreamChatCompletionResponse:
    return StreamChatCompletionResponse(chunk=ChatCompletionChunk(id=text))


async def texts(call: Any) -> list[str]:
    return [event.chunk.id async for event in call]


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


class Servicer(ChatCompletionServiceServicer):
    """Does what a test says."""

    def __init__(self, create: Create | None, stream: Stream | None) -> None:
        self.create = create
        self.stream = stream

    async def CreateChatCompletion(self, request: Any, context: Any) -> CreateChatCompletionResponse:
        assert self.create is not None
        return await self.create(request, context)

    def ResumeChatCompletion(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def StreamChatCompletion(self, request: Any, context: Any) -> AsyncIterator[StreamChatCompletionResponse]:
        assert self.stream is not None
        async with aclosing(self.stream(request, context)) as events:  # type: ignore[type-var]
            async for sent in events:
                yield sent


class Connect(Protocol):
    async def __call__(
        self,
        create: Create | None = None,
        stream: Stream | None = None,
        servicer: ChatCompletionServiceServicer | None = None,
    ) -> tuple[grpc.aio.Channel, Any]: ...


async def socket_channel(servicer: ChatCompletionServiceServicer, ending: AsyncExitStack) -> grpc.aio.Channel:
    server = grpc.aio.server()
    add_ChatCompletionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ending.push_async_callback(server.stop, None)
    return await ending.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))


async def own_channel(servicer: ChatCompletionServiceServicer, ending: AsyncExitStack) -> grpc.aio.Channel:
    server = GrpcServer()
    add_ChatCompletionServiceServicer_to_server(servicer, server)  # type: ignore[arg-type]  # not grpcio's
    port = await server.listen("127.0.0.1:0")
    ending.push_async_callback(server.stop, None)
    return await ending.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))


async def inprocess_channel(servicer: ChatCompletionServiceServicer, ending: AsyncExitStack) -> grpc.aio.Channel:
    channel = await ending.enter_async_context(InProcessChannel())
    add_ChatCompletionServiceServicer_to_server(servicer, channel)  # type: ignore[arg-type]  # not a server
    return channel


async def connections(make: Any) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as ending:

        async def connect(
            create: Create | None = None,
            stream: Stream | None = None,
            servicer: ChatCompletionServiceServicer | None = None,
        ) -> tuple[grpc.aio.Channel, Any]:
            channel = await make(servicer or Servicer(create, stream), ending)
            return channel, ChatCompletionServiceStub(channel)

        yield connect


@pytest.fixture(params=[socket_channel, own_channel, inprocess_channel], ids=["socket", "own socket", "inprocess"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    async for connected in connections(request.param):
        yield connected


@pytest.fixture
async def connect_inprocess() -> AsyncIterator[Connect]:
    async for connected in connections(inprocess_channel):
        yield connected
