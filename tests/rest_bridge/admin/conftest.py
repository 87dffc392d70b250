"""The administrative API as its callers see it: HTTP in front, a scripted core behind, in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode, aio
from starlette.routing import Router

from gateway_core.inprocess import InProcessChannel
from rest_bridge.app import create, server
from rest_bridge.config import BridgeConfig
from rest_bridge.dialects.admin.binding import services
from tests.support.gateway import served

Context = aio.ServicerContext[Any, Any]
Answer = Message | Callable[[Any], Message]


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
class Core:
    """Every service of the contract: answers what it is told to, else an empty response, and keeps what was asked."""

    answers: dict[str, list[Answer | Refusal | BaseException]] = field(default_factory=dict)
    """By name of the RPC; several are the events of a stream."""
    requests: list[Any] = field(default_factory=list)
    metadata: dict[str, str | bytes] = field(default_factory=dict)

    @property
    def request(self) -> Any:
        """What was asked last."""
        return self.requests[-1]

    def attach(self, channel: InProcessChannel) -> None:
        for service in services():
            handlers = {method.name: self.handler(method) for method in service.methods}
            channel.add_registered_method_handlers(service.full_name, handlers)

    def handler(self, method: Any) -> Any:
        empty = GetMessageClass(method.output_type)

        async def answer(request: Message, context: Context) -> Message:
            async for response in stream(request, context):
                return response
            return empty()

        async def stream(request: Message, context: Context) -> AsyncIterator[Message]:
            self.requests.append(request)
            self.metadata = dict(context.invocation_metadata() or ())
            for told in self.answers.get(method.name, []):
                if isinstance(told, Refusal):
                    await told.end(context)
                elif isinstance(told, BaseException):
                    raise told
                else:
                    yield told if isinstance(told, Message) else told(request)

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass
class Bridge:
    """The whole bridge over a scripted core."""

    core: Core
    http: httpx.AsyncClient

    async def ask(self, method: str, path: str, **given: Any) -> tuple[int, Any]:
        """Status and decoded document of an answer."""
        response = await self.http.request(method, path, **given)
        return response.status_code, response.json()

    async def refused(self, method: str, path: str, **given: Any) -> tuple[int, str | None]:
        """Status of a refusal and the path of the field at fault; the document must be an error's."""
        status, document = await self.ask(method, path, **given)
        assert set(document) == {"error", "details"}
        assert document["error"].endswith((".", "…"))
        return status, document["details"].get("param")


CONFIG = BridgeConfig(request_body_bytes=100_000, drain_seconds=1)


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Core, Router]]:
    """A core, and the bridge's app over it."""
    core, channel = Core(), InProcessChannel()
    core.attach(channel)
    async with channel:
        yield core, create(channel, CONFIG)


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    """The bridge without a socket."""
    async with asyncio.timeout(60), scripted() as (core, app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(base_url="http://bridge.test", transport=transport) as http:
            yield Bridge(core, http)


@pytest.fixture
async def served_bridge() -> AsyncIterator[Bridge]:
    """The bridge behind its own HTTP server."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(60))
        core, app = await stack.enter_async_context(scripted())
        url = await stack.enter_async_context(served(server(app, CONFIG, "127.0.0.1", 0)))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        yield Bridge(core, http)
