"""Servicers behind a socket: what a caller leaves behind is ended at once, and is nobody's error."""

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from grpc import aio

from gateway_core.services.edge import Context

# Generic in its type stub only.
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Sockets:
    """Where servicers register instead of at an aio.Server.

    The server drops the stream of a caller that left, and leaves its closing to the garbage collector; and that it
    could not send what nobody waits for any more it logs as an error, with a traceback.
    """

    def __init__(self, server: aio.Server) -> None:
        """Takes the server behind."""
        self._server = server

    def add_generic_rpc_handlers(self, _: Iterable[grpc.GenericRpcHandler]) -> None:
        """Does nothing: generated code registers every method by its name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, MethodHandler]) -> None:
        """Registers the methods of a service by their names."""
        self._server.add_registered_method_handlers(
            service, {name: ended_with_its_caller(handler) for name, handler in handlers.items()}
        )


def ended_with_its_caller(handler: MethodHandler) -> MethodHandler:
    """The handler of a method, whose servicer is closed and cancelled when its caller has left."""
    codec: Any = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(unary(handler.unary_unary), **codec)
    if inspect.isasyncgenfunction(handler.unary_stream):
        return grpc.unary_stream_rpc_method_handler(streaming(handler.unary_stream), **codec)
    return handler


def unary(method: Any) -> Any:
    """A method with one answer, cancelled where the answer cannot be sent."""

    async def answer(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except aio.InternalError:
            raise asyncio.CancelledError from None
        except aio.AbortError as aborted:
            del request, context
            raise without_frames(aborted) from None

    return answer


def streaming(method: Any) -> Any:
    """A method with a stream of answers, closed where one cannot be sent."""

    async def answer(request: Any, context: Context) -> None:
        try:
            async with aclosing(method(request, context)) as events:
                async for event in events:
                    await context.write(event)
        except aio.InternalError:
            raise asyncio.CancelledError from None
        except aio.AbortError as aborted:
            del request, context, events
            raise without_frames(aborted) from None

    return answer


def without_frames(aborted: aio.AbortError) -> aio.AbortError:
    """The error without where it was raised, and why.

    A context keeps it, and in those frames are the context and the call: only the collector of cycles would free them.
    """
    aborted.__context__ = None
    return aborted.with_traceback(None)
