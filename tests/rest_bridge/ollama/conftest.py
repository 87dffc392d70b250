"""The dialect as its callers see it: a real HTTP server, a real gRPC server, and a scripted core behind them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode, aio
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import (
    ChatCompletionServiceServicer,
    add_ChatCompletionServiceServicer_to_server,
)
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model
from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from ollama import AsyncClient
from starlette.routing import Router

from rest_bridge.config import BridgeConfig
from rest_bridge.dialects.ollama import routes

Context = aio.ServicerContext[Any, Any]


@dataclass
class Refusal:
    """A failure that an RPC ends with."""

    code: StatusCode
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)

    async def end(self, context: Context) -> None:
        info = any_pb2.Any()
        info.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="headgate.v1", metadata=self.metadata))
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code.name), message=self.message, details=[info])
        trailing = (("x-headgate-request-id", "r-1"), ("grpc-status-details-bin", status.SerializeToString()))
        await context.abort(self.code, self.message, trailing)


@dataclass
class Core(ChatCompletionServiceServicer, ModelServiceServicer):
    """A core that answers what it is told to, and remembers what it was asked."""

    events: Sequence[ChatCompletionChunk | Refusal | asyncio.Event] = ()
    completion: ChatCompletion | Refusal = field(default_factory=ChatCompletion)
    models: Sequence[Model] = ()
    answer_metadata: tuple[tuple[str, str], ...] = (("x-headgate-request-id", "r-1"), ("x-headgate-provider", "lab"))
    specs: list[ChatCompletionSpec] = field(default_factory=list)
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    time_remaining: float | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, spec: ChatCompletionSpec, context: Context) -> None:
        self.specs.append(spec)
        self.metadata = dict(context.invocation_metadata() or ())
        self.time_remaining = context.time_remaining()

    async def CreateChatCompletion(
        self, request: CreateChatCompletionRequest, context: Context
    ) -> CreateChatCompletionResponse:
        self.note(request.spec, context)
        if isinstance(self.completion, Refusal):
            await self.completion.end(context)
        assert isinstance(self.completion, ChatCompletion)
        context.set_trailing_metadata(self.answer_metadata)
        return CreateChatCompletionResponse(completion=self.completion)

    def ResumeChatCompletion(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def StreamChatCompletion(
        self, request: StreamChatCompletionRequest, context: Context
    ) -> AsyncIterator[StreamChatCompletionResponse]:
        self.note(request.spec, context)
        if not (self.events and isinstance(self.events[0], Refusal)):
            await context.send_initial_metadata(self.answer_metadata)
        try:
            for event in self.events:
                if isinstance(event, Refusal):
                    await event.end(context)
                elif isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    yield StreamChatCompletionResponse(chunk=event)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        return ListModelsResponse(models=self.models)

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        for model in self.models:
            if model.id == request.id:
                return GetModelResponse(model=model)
        found = Refusal(StatusCode.NOT_FOUND, "ERROR_REASON_MODEL_NOT_FOUND", "There is none.", {"model": request.id})
        await found.end(context)
        raise AssertionError("the call has ended")


@dataclass
class Bridge:
    """The dialect, served: by `http` with any client, by `sdk` with Ollama's own."""

    core: Core
    http: httpx.AsyncClient
    clients: AsyncExitStack

    async def sdk(self, prefix: str = "") -> AsyncClient:
        """A client whose host ends with a prefix."""
        client = AsyncClient(host=str(self.http.base_url).rstrip("/") + prefix, trust_env=False)
        return await self.clients.enter_async_context(client)


async def until(condition: Callable[[], object]) -> None:
    """Returns when a condition holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The URL of an ASGI app on a free loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Bridge]:
    """The dialect over a scripted core."""
    core = Core(models=[Model(id="small", owned_by="lab", created=1_700_000_000)])
    grpc_server = aio.server()
    add_ChatCompletionServiceServicer_to_server(core, grpc_server)
    add_ModelServiceServicer_to_server(core, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(grpc_server.stop, 0)
        channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
        url = await stack.enter_async_context(served(Router(routes(channel, BridgeConfig()))))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        clients = await stack.enter_async_context(AsyncExitStack())
        yield Bridge(core, http, clients)


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    """The dialect over a scripted core, for one test."""
    async with serving() as served_dialect:
        yield served_dialect
