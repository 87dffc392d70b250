"""The workers of one server among themselves: one continues a stream that another runs, or tells what all measured.

Each listens on a Unix socket in a directory that only their user may enter. Keys are asked for again there.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import grpc
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest, ResumeChatCompletionResponse
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from gateway_core.errors import NotFound
from gateway_core.identity.certificate_peer import FORWARDED, CertificatePeers
from gateway_core.resume.worker import Worker
from gateway_core.services.edge import Context
from gateway_core.telemetry.merging import labelled, merged

ID_AT_MOST = 200
PEER_SECONDS = 2.0
"""How long the metrics of another worker are awaited."""
SERVICE = "headgate.Worker"
EXPOSITION = "Exposition"
METHOD = "ResumeChatCompletion"
# As between bridge and core: the owner of a stream is read no faster than the caller reads.
CHANNEL_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
# What gRPC itself puts into metadata.
OWN_METADATA = ("user-agent", "grpc-", ":")

Exposition = Callable[[str], tuple[bytes, str]]
"""The metrics of a process and their content type, for an Accept header."""


class WorkerPeers:
    """The others, and the socket of this one."""

    def __init__(self, worker: Worker, exposition: Exposition, certificates: CertificatePeers | None = None) -> None:
        """Takes which one this is, what it has measured, and what tells callers' certificates, where they count."""
        self._certificates = certificates
        self._worker = worker
        self._exposition = exposition
        self._channels: dict[int, aio.Channel] = {}
        self._handed_on: Counter[int] = Counter()
        """How many streams of each other worker are read here."""
        self._server: aio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, register: Callable[[aio.Server], None]) -> None:
        """Listens for the others; takes what registers the service that continues streams."""
        self._loop = asyncio.get_running_loop()
        self._server = aio.server(options=CHANNEL_OPTIONS)
        register(self._server)
        methods: dict[str, Any] = {EXPOSITION: grpc.unary_unary_rpc_method_handler(self._expose)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self._server.add_insecure_port(f"unix:{self._worker.socket(self._worker.number)}")
        await self._server.start()

    def _forwarded(self, context: Context) -> tuple[tuple[str, str | bytes], ...]:
        """The caller's metadata, and the certificate that it showed here."""
        metadata = tuple(pair for pair in forwarded(context) if pair[0] != FORWARDED)
        return metadata if self._certificates is None else (*metadata, *self._certificates.forwarded(context))

    @property
    def handed_on(self) -> int:
        """How many streams of others are handed on to callers of this one."""
        return self._handed_on.total()

    async def drain(self, seconds: float) -> None:
        """Takes nothing new from the others; waits until streams that they hand on have ended, at most so long."""
        if self._server is not None:
            await self._server.stop(seconds)

    async def close(self) -> None:
        """Listens no more."""
        self._worker.socket(self._worker.number).unlink(missing_ok=True)
        if self._server is not None:
            await self._server.stop(None)
        for channel in self._channels.values():
            await channel.close()

    async def resume(
        self, number: int, request: ResumeChatCompletionRequest, context: Context
    ) -> AsyncGenerator[ResumeChatCompletionResponse, None]:
        """Has a worker continue its stream, for the caller of the context; raises NotFound where it has ended."""
        told = request.id[:ID_AT_MOST]
        if not self._worker.socket(number).exists():
            raise ended(number, told, self._worker.process)
        call: Any = ChatCompletionServiceStub(self._channel(number)).ResumeChatCompletion(
            request, metadata=self._forwarded(context), timeout=context.time_remaining()
        )
        self._handed_on[number] += 1
        try:
            await context.send_initial_metadata(await call.initial_metadata())
            async for response in call:
                yield response
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        except aio.AioRpcError as error:
            # What the worker itself says has metadata, its request id at least.
            if error.code() is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
                raise ended(number, told, self._worker.process) from None
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
        finally:
            self._handed_on[number] -= 1
            call.cancel()

    def gathered(self, accept: str) -> tuple[bytes, str]:
        """What all workers have measured, each with its number; asked for in a thread beside the event loop's."""
        assert self._loop is not None, "start comes first"
        own, content_type = self._exposition(accept)
        others = asyncio.run_coroutine_threadsafe(self._others(accept), self._loop).result(2 * PEER_SECONDS)
        texts = sorted([(self._worker.number, own), *others])
        return merged([labelled(text, number) for number, text in texts]), content_type

    async def _others(self, accept: str) -> list[tuple[int, bytes]]:
        numbers = self._worker.others()
        # Of one that drains the socket is gone at once, and its streams are not.
        for gone in [number for number in self._channels.keys() - set(numbers) if not self._handed_on[number]]:
            del self._handed_on[gone]
            await self._channels.pop(gone).close()
        found = await asyncio.gather(*(self._ask(number, accept) for number in numbers))
        return [(number, text) for number, text in zip(numbers, found, strict=True) if text is not None]

    async def _ask(self, number: int, accept: str) -> bytes | None:
        """Its metrics. None: it does not answer, because it has just ended, or hangs."""
        ask: Any = self._channel(number).unary_unary(f"/{SERVICE}/{EXPOSITION}")
        try:
            text: bytes = await ask(accept.encode(), timeout=PEER_SECONDS)
        except aio.AioRpcError:
            return None
        return text

    async def _expose(self, accept: bytes, _: Context) -> bytes:
        body, _content_type = await asyncio.to_thread(self._exposition, accept.decode())
        return body

    def _channel(self, number: int) -> aio.Channel:
        channel = self._channels.get(number)
        if channel is None:
            channel = self._channels[number] = aio.insecure_channel(
                f"unix:{self._worker.socket(number)}", CHANNEL_OPTIONS
            )
        return channel


class ResumeOnly:
    """Where a service registers of which the workers ask only one method of each other."""

    def __init__(self, server: Any) -> None:
        """Takes the server behind."""
        self._server = server

    def add_generic_rpc_handlers(self, _: Iterable[grpc.GenericRpcHandler]) -> None:
        """Does nothing: generated code registers every method by its name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Registers the method."""
        self._server.add_registered_method_handlers(service, {METHOD: handlers[METHOD]})


def forwarded(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's metadata, keys and request id among them."""
    pairs = context.invocation_metadata() or ()
    return tuple((key, value) for key, value in pairs if not key.startswith(OWN_METADATA))


def ended(number: int, identity: str, process: str) -> NotFound:
    """Says that the worker of a stream is no more, and so is the stream."""
    message = f"The worker {number}, which ran the stream, has ended, and its streams with it."
    return NotFound(message, resource="stream", id=identity, process=process)
