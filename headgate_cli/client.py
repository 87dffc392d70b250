"""A client of a gateway that is running: over REST (httpx), or over gRPC by the generated stubs."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import httpx
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode, aio, ssl_channel_credentials
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest, StreamChatCompletionResponse
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_USER, ChatMessage
from headgate.v1.model_service_pb2 import ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub

from gateway_core.config_tls import CoreTlsConfig
from gateway_core.tls_files import Material
from headgate_cli.address import LOOPBACK, TLS_MARK, Address, Place
from headgate_cli.commands import DEFAULT_URL
from headgate_cli.errors import CommandFailed, WrongUse
from headgate_cli.price import per_million
from headgate_cli.renewed_channel import RenewedChannel
from headgate_cli.tls import authorities, channel_credentials, client_context, core_files, of_environment, read
from headgate_cli.unreachable import unreachable

CONNECT_SECONDS = 5.0
LIST_SECONDS = 30.0
WARNING = "x-headgate-warning"
MESSAGE_BYTES = 64 << 20
KEY_VARIABLE = "HEADGATE_API_KEY"
ROLES = {"system": ROLE_SYSTEM, "user": ROLE_USER, "assistant": ROLE_ASSISTANT}

Document = dict[str, Any]
Conversation = Sequence[tuple[str, str]]
"""Roles ("system", "user", "assistant") and texts, the oldest first."""


@dataclass(slots=True)
class Piece:
    """What arrived at once of an answer."""

    text: str = ""
    reasoning: str = ""
    warnings: tuple[str, ...] = ()
    """Parameters that were dropped or rewritten; in the first piece."""
    usage: tuple[int, int] | None = None
    """Tokens of the prompt and of the answer."""
    finish_reason: str = ""


@dataclass(slots=True)
class Listed:
    """A model that can be asked."""

    id: str
    provider: str = ""
    context_length: int | None = None
    price: dict[str, str] = field(default_factory=dict)
    """US dollars for a million tokens: input_per_million, output_per_million …"""


class Client(Protocol):
    """A gateway, as a person at a terminal needs it. Every method raises CommandFailed."""

    def answer(self, model: str, conversation: Conversation) -> AsyncGenerator[Piece, None]:
        """The answer, as it comes."""
        ...

    async def models(self) -> tuple[list[Listed], Document]:
        """The models, and the whole answer as a JSON document."""
        ...


@asynccontextmanager
async def connected(url: str | None, grpc: str | None) -> AsyncIterator[Client]:
    """A client over REST, or over gRPC where its address is given; raises WrongUse where both are.

    It calls with the key of HEADGATE_API_KEY, where there is one.
    """
    key = key_metadata(os.environ)
    if grpc is None:
        base = (url or DEFAULT_URL).rstrip("/").removesuffix("/v1")
        async with http_client(base, None) as http:
            yield RestClient(http, base)
        return
    if url is not None:
        raise WrongUse("--url and --grpc exclude each other")
    async with grpc_channel(grpc) as channel:
        yield GrpcClient(channel, grpc, key)


def http_client(base: str, seconds: float | None) -> httpx.AsyncClient:
    """A client for a base URL, with the key and the certificates of the environment; takes how long an answer may take.

    Raises CommandFailed where a file cannot be read, WrongUse for what is no such URL.
    """
    # A proxy of the environment is for the world outside.
    is_near = host_of(base) in LOOPBACK
    verify = client_context(of_environment()) if base.startswith(TLS_MARK) else False
    timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
    headers = dict(key_metadata(os.environ))
    return httpx.AsyncClient(timeout=timeout, trust_env=not is_near, headers=headers, verify=verify)


def host_of(base: str) -> str:
    """The host of a base URL; raises WrongUse for what is none."""
    try:
        host = urlsplit(base).hostname
    except ValueError:  # a bracket that is not closed
        host = None
    if host is None or not base.startswith(("http://", TLS_MARK)):
        raise WrongUse(f"--url must be http://HOST:PORT, or {TLS_MARK}HOST:PORT where it speaks TLS, and is {base!r}")
    return host


def grpc_channel(place: str) -> aio.Channel:
    """A channel to what --grpc names; raises WrongUse, CommandFailed."""
    address, is_tls = Place.parse(place, "--grpc")
    return core_channel(address, channel_options(address, MESSAGE_BYTES), of_environment() if is_tls else None)


def key_metadata(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The header field, or the metadata, that carry the key of the environment; empty where there is none."""
    key = environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise WrongUse(f"{KEY_VARIABLE} has characters that no key has")
    return (("authorization", f"Bearer {key}"),) if key else ()


def channel_options(address: Address, message_bytes: int) -> list[tuple[str, int]]:
    """Options of a channel to a core: the largest message both ways, and no proxy on this machine."""
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        ("grpc.enable_http_proxy", address.host not in LOOPBACK),
        ("grpc.keepalive_time_ms", 60_000),
    ]


def core_channel(address: Address, options: Sequence[tuple[str, int]], tls: CoreTlsConfig | None) -> aio.Channel:
    """A channel to a core, in the clear or by TLS; raises CommandFailed where a file cannot be read."""
    if tls is None:
        return aio.insecure_channel(str(address), options)
    return aio.secure_channel(str(address), channel_credentials(tls), options)


def renewed_core_channel(
    address: Address, options: Sequence[tuple[str, int]], tls: CoreTlsConfig | None
) -> aio.Channel:
    """The same for a long time: where it shows a certificate, it takes renewed files."""
    files = None if tls is None else core_files(tls)
    if files is None:
        return core_channel(address, options, tls)
    public = read(authorities(CoreTlsConfig())) if tls is None or tls.authorities is None else None

    def opened(shown: Material) -> aio.Channel:
        believed = shown.authorities or public
        credentials = ssl_channel_credentials(believed, shown.private_key, shown.certificate)
        return aio.secure_channel(str(address), credentials, options)

    return RenewedChannel(files, opened)


class RestClient:
    """A gateway over the OpenAI dialect of its bridge."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        """Takes the URL without /v1."""
        self._http = http
        self._url = url

    async def answer(self, model: str, conversation: Conversation) -> AsyncGenerator[Piece, None]:
        """The answer, as it comes."""
        body = {
            "model": model,
            "messages": [{"role": role, "content": text} for role, text in conversation],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        has_begun = False
        try:
            async with self._http.stream("POST", f"{self._url}/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise refused(response.status_code, await response.aread())
                has_begun = True
                yield Piece(warnings=tuple(response.headers.get_list(WARNING)))
                async for piece in pieces(response.aiter_lines()):
                    yield piece
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if not has_begun:
                raise unreachable(self._url, error) from None
            raise CommandFailed(f"the answer broke off: {error or type(error).__name__}") from None

    async def models(self) -> tuple[list[Listed], Document]:
        """The models, and the whole answer as a JSON document."""
        try:
            response = await self._http.get(f"{self._url}/v1/models", timeout=LIST_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self._url, error) from None
        document = json_object(response.content)
        if response.status_code != 200 or not isinstance(document.get("data"), list):
            raise refused(response.status_code, response.content)
        return [rest_model(model) for model in document["data"]], document


async def pieces(lines: AsyncIterator[str]) -> AsyncIterator[Piece]:
    """The pieces in the lines of an event stream; raises CommandFailed for an error event and a missing end."""
    async for line in lines:
        if line == "data: [DONE]":
            return
        if line.startswith("data:"):
            event = json_object(line.removeprefix("data:").encode())
            if "error" in event:
                raise CommandFailed(f"the answer broke off: {sentence(event)}")
            yield rest_piece(event)
    raise CommandFailed("the answer broke off: the stream ended without [DONE]")


def rest_piece(event: Document) -> Piece:
    """A piece in a chunk of the OpenAI dialect."""
    piece = Piece()
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        piece.text += delta.get("content") or delta.get("refusal") or ""
        piece.reasoning += delta.get("reasoning") or ""
        piece.finish_reason = choice.get("finish_reason") or piece.finish_reason
    usage = event.get("usage")
    if usage:
        piece.usage = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return piece


def rest_model(model: Document) -> Listed:
    """A model in the list of the OpenAI dialect."""
    pricing = model.get("pricing")
    context = model.get("context_length") or model.get("max_model_len")  # the latter is vLLM's word
    return Listed(
        id=str(model.get("id")),
        provider=str(model.get("owned_by", "")),
        context_length=context if isinstance(context, int) else None,
        price=per_million(pricing) if isinstance(pricing, dict) else {},
    )


def json_object(body: bytes) -> Document:
    """The JSON object in a body; empty where there is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def sentence(document: Document) -> str:
    """What an error document of the OpenAI dialect says."""
    error = document.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "no further words")


def refused(status: int, body: bytes) -> CommandFailed:
    """Says why a request was refused."""
    document = json_object(body)
    if "error" not in document:
        return CommandFailed(f"what answers there is no Headgate (HTTP status {status}): name another place")
    return CommandFailed(f"{sentence(document)} (HTTP status {status}){hint(is_unauthenticated=status == 401)}")


def grpc_refused(error: aio.AioRpcError) -> CommandFailed:
    """Says why an RPC was refused."""
    details = " ".join((error.details() or "no further words").split())
    is_unauthenticated = error.code() is StatusCode.UNAUTHENTICATED
    return CommandFailed(f"{details} ({error.code().name}){hint(is_unauthenticated=is_unauthenticated)}")


def grpc_failure(error: aio.AioRpcError, place: str) -> CommandFailed:
    """Says why an RPC failed at what --grpc names."""
    if error.code() is StatusCode.UNAVAILABLE and "failed to connect" in (error.details() or ""):
        return unreachable(place, error)
    return grpc_refused(error)


def hint(*, is_unauthenticated: bool) -> str:
    """Says where to put a key, to who has brought none."""
    has_key = bool(key_metadata(os.environ))
    return f": put a key into {KEY_VARIABLE}" if is_unauthenticated and not has_key else ""


class GrpcClient:
    """A gateway over its contract."""

    def __init__(self, channel: aio.Channel, place: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        """Takes the way to the core, where it is for error messages, and the metadata of every call."""
        self._metadata = metadata
        self._chat = ChatCompletionServiceStub(channel)
        self._models = ModelServiceStub(channel)
        self._place = place

    async def answer(self, model: str, conversation: Conversation) -> AsyncGenerator[Piece, None]:
        """The answer, as it comes."""
        messages = [ChatMessage(role=ROLES[role], text=text) for role, text in conversation]
        spec = ChatCompletionSpec(model=model, messages=messages)
        call = self._chat.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), metadata=self._metadata)
        try:
            metadata = await call.initial_metadata()
            yield Piece(warnings=tuple(str(value) for key, value in metadata or () if key == WARNING))
            async for event in cast(AsyncIterator[StreamChatCompletionResponse], call):
                yield grpc_piece(event.chunk)
        except aio.AioRpcError as error:
            raise grpc_failure(error, self._place) from None
        finally:
            call.cancel()

    async def models(self) -> tuple[list[Listed], Document]:
        """The models, and the whole answer as a JSON document."""
        try:
            request = ListModelsRequest()
            response = await self._models.ListModels(request, metadata=self._metadata, timeout=LIST_SECONDS)
        except aio.AioRpcError as error:
            raise grpc_failure(error, self._place) from None
        listed = []
        for model in response.models:
            price = MessageToDict(model.price, preserving_proto_field_name=True)
            context = model.context_length if model.HasField("context_length") else None
            listed.append(Listed(model.id, model.owned_by, context, {key: str(value) for key, value in price.items()}))
        return listed, MessageToDict(response, preserving_proto_field_name=True)


def grpc_piece(chunk: ChatCompletionChunk) -> Piece:
    """A piece in a chunk of the contract."""
    piece = Piece()
    for choice in chunk.choices:
        piece.text += choice.delta.content or choice.delta.refusal
        piece.reasoning += choice.delta.reasoning
        piece.finish_reason = choice.finish_reason or piece.finish_reason
    if chunk.HasField("usage"):
        piece.usage = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
    return piece


async def first_model(client: Client) -> str:
    """The model to ask where nobody named one: the first that is listed and no echo, else the echo."""
    listed, _ = await asyncio.wait_for(client.models(), LIST_SECONDS)
    names = [model.id for model in listed]
    if not names:
        raise CommandFailed("the gateway lists no model: name one, such as echo/echo")
    return next((name for name in names if name != "echo/echo" and "embed" not in name.lower()), names[0])
