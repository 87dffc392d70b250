"""The methods that were registered, by their paths."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from gateway_core.grpc_server.message import Unacceptable

# Generic in its type stub only.
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Method:
    """What answers a method's calls."""

    path: str
    answer: Callable[[Any, Any], Any]
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    takes_stream: bool
    gives_stream: bool


@dataclass(slots=True)
class Question:
    """What a generic handler is asked with: grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class Methods:
    """Where servicers register."""

    def __init__(self) -> None:
        """Begins without any."""
        self._methods: dict[str, Method] = {}
        self._services: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Registers what finds the methods of a service by their paths."""
        self._services.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, MethodHandler]) -> None:
        """Registers the methods of a service by their names."""
        for name, handler in method_handlers.items():
            path = f"/{service_name}/{name}"
            self._methods[path] = method(path, handler)

    def find(self, path: str) -> Method | None:
        """The method of a path. None: there is none."""
        found = self._methods.get(path)
        if found is None:
            for service in self._services:
                handler = service.service(Question(path))
                if handler is not None:
                    return method(path, handler)
        return found


def method(path: str, handler: MethodHandler) -> Method:
    """What a handler of grpc's answers."""
    each: Any = handler
    answer = each.unary_unary or each.unary_stream or each.stream_unary or each.stream_stream
    return Method(
        path,
        answer,
        handler.request_deserializer or as_it_is,
        handler.response_serializer or as_it_is,
        takes_stream=handler.request_streaming,
        gives_stream=handler.response_streaming,
    )


def request_of(method: Method, octets: bytes) -> Any:
    """A request; raises Unacceptable where it is none of the method's (grpc/grpc, doc/statuscodes.md)."""
    try:
        return method.deserialize(octets)
    except DecodeError:
        raise Unacceptable(StatusCode.INTERNAL, "The request cannot be read as the method's message.") from None


def as_it_is(message: Any) -> Any:
    """A message of which nobody said how it is written."""
    return message
