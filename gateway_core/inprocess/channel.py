"""The channel: the registration of servicers, and the calls of stubs to them."""

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias, TypeVar

import grpc
import grpc.aio

from gateway_core.inprocess.call import Call
from gateway_core.inprocess.context import SentMetadata
from gateway_core.inprocess.stream import UnaryStreamCall
from gateway_core.inprocess.unary import UnaryUnaryCall

Request = TypeVar("Request")
Response = TypeVar("Response")

# Generic in its type stub only.
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class InProcessChannel(grpc.aio.Channel):
    """A channel to the servicers that were registered on it by the generated `add_…Servicer_to_server`.

    Its calls belong to the event loop in which they are made. The package's docstring says how they differ from
    calls over a socket.
    """

    def __init__(self) -> None:
        """Makes a channel without servicers."""
        self.calls: set[weakref.ref[Call]] = set()
        self._methods: dict[str, MethodHandler] = {}
        self._services: list[grpc.GenericRpcHandler] = []
        self._closers: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._closed = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Registers what finds the methods of a service by their paths."""
        self._services.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, MethodHandler]) -> None:
        """Registers the methods of a service by their names."""
        self._methods.update({f"/{service_name}/{name}": handler for name, handler in method_handlers.items()})

    def handler(self, path: str) -> "MethodHandler | None":
        """The handler of a method; None where there is none. Raises UsageError once the channel is closed."""
        if self._is_closed:
            raise grpc.aio.UsageError("Channel is closed.")
        found = self._methods.get(path)
        if found is None:
            for service in self._services:
                found = found or service.service(_Question(path))
        return found

    def start_closing(self, call: Call) -> None:
        """Has the servicer of a call that is over closed by a task of the channel's own."""
        task = asyncio.get_running_loop().create_task(call.close())
        self._closers.add(task)
        task.add_done_callback(self._closers.discard)

    async def close(self, grace: float | None = None) -> None:
        """Takes no more calls, waits for those under way for `grace` seconds, cancels them, and closes servicers."""
        self._is_closed = True
        self._closed.set()
        if grace and self.calls:
            futures = [_ending(call) for call in self._live_calls()]
            await asyncio.wait(futures, timeout=grace)
        for call in self._live_calls():
            call.cancel()
        while self._closers:
            await asyncio.wait(self._closers)

    def _live_calls(self) -> list[Call]:
        return [call for reference in tuple(self.calls) if (call := reference()) is not None]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY until the channel is closed, then SHUTDOWN."""
        return grpc.ChannelConnectivity.SHUTDOWN if self._is_closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns once the state is another: the only change is that the channel is closed."""
        if last_observed_state is self.get_state():
            await self._closed.wait()

    async def channel_ready(self) -> None:
        """Returns at once."""

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Request, Response]:
        """What calls the method of that path; messages are not serialized."""
        return _UnaryUnary(self, method)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Request, Response]:
        """What calls the method of that path; messages are not serialized."""
        return _UnaryStream(self, method)

    def stream_unary(self, method: str, *codec: object, **options: object) -> NoReturn:
        """Raises NotImplementedError: the contract has no streamed requests."""
        raise NotImplementedError(f"{method}: the in-process channel has no streamed requests")

    def stream_stream(self, method: str, *codec: object, **options: object) -> NoReturn:
        """Raises NotImplementedError: the contract has no streamed requests."""
        raise NotImplementedError(f"{method}: the in-process channel has no streamed requests")


@dataclass
class _Question:
    """What a generic handler is asked with: grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Request, Response]):
    def __init__(self, channel: InProcessChannel, path: str) -> None:
        self._channel = channel
        self._path = path

    def __call__(  # noqa: PLR0913  # grpc.aio's signature
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: SentMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnaryCall[Request, Response]:
        if credentials is not None:
            raise _no_credentials()
        found = self._channel.handler(self._path)
        handler = None if found is None else found.unary_unary
        call: UnaryUnaryCall[Request, Response] = UnaryUnaryCall(self._channel, self._path, handler, request)
        call.sent = metadata
        if timeout is not None:
            call.end_after(timeout)
        return call


class _UnaryStream(grpc.aio.UnaryStreamMultiCallable[Request, Response]):
    def __init__(self, channel: InProcessChannel, path: str) -> None:
        self._channel = channel
        self._path = path

    def __call__(  # noqa: PLR0913  # grpc.aio's signature
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: SentMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryStreamCall[Request, Response]:
        if credentials is not None:
            raise _no_credentials()
        found = self._channel.handler(self._path)
        handler = None if found is None else found.unary_stream
        call: UnaryStreamCall[Request, Response] = UnaryStreamCall(self._channel, self._path, handler, request)
        call.sent = metadata
        if timeout is not None:
            call.end_after(timeout)
        return call


def _no_credentials() -> grpc.aio.UsageError:
    # They would be dropped without a word; on a plain-text socket such a call fails too.
    return grpc.aio.UsageError("the in-process channel has no call credentials: send them as metadata")


def _ending(call: Call) -> asyncio.Future[None]:
    future = asyncio.get_running_loop().create_future()
    call.add_done_callback(lambda _: None if future.done() else future.set_result(None))
    return future
