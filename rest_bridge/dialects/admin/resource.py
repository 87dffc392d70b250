"""One path of the administrative API: its methods, each of which calls one RPC."""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from rest_bridge.batches import batches
from rest_bridge.connection import Headers
from rest_bridge.dialects.admin.binding import Binding
from rest_bridge.dialects.admin.blame import in_body
from rest_bridge.dialects.admin.fixed import check_fixed, named_fields
from rest_bridge.dialects.admin.request import request_message
from rest_bridge.dialects.admin.response import answer, data
from rest_bridge.errors import Failure, Refused
from rest_bridge.exchange import JSON, Exchange, json_object
from rest_bridge.told import Told

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

# Some answers tell a secret.
NOT_KEPT: Headers = ((b"cache-control", b"no-store"),)


class Resource:
    """Answers the methods of one path."""

    def __init__(self, channel: aio.Channel) -> None:
        """Takes the way to the core."""
        self._channel = channel
        self._calls: dict[str, tuple[Binding, Callable[..., Any]]] = {}

    def add(self, binding: Binding) -> None:
        """Takes one more method."""
        service = binding.method.containing_service.full_name
        opened = self._channel.unary_stream if binding.method.server_streaming else self._channel.unary_unary
        call = opened(
            f"/{service}/{binding.method.name}",
            request_serializer=GetMessageClass(binding.method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(binding.method.output_type).FromString,
        )
        self._calls[binding.verb] = (binding, call)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the path has."""
        return (*self._calls, "HEAD") if "GET" in self._calls else tuple(self._calls)

    async def answer(self, exchange: Exchange) -> None:
        """Answers one request."""
        binding, call = self._calls["GET" if exchange.method == "HEAD" else exchange.method]
        body: dict[str, Any] = {}
        if binding.body:
            given = await exchange.body()
            # A request of which everything is optional needs no body.
            body = json_object(given, exchange.config.json_depth) if given.strip() else {}
        variables = {name: exchange.path_params[f"v{place}"] for place, name in enumerate(binding.variables)}
        request = request_message(binding, variables, exchange.scope.get("query_string", b""), body)
        if binding.resource is not None and (fixed := named_fields(binding.resource, body)):
            check_fixed(fixed, body, await self._told(exchange, variables.values()))
        begun = call(request, metadata=exchange.metadata(), timeout=exchange.timeout())
        if binding.method.server_streaming:
            await relay(exchange, binding, begun)
        else:
            try:
                response = await begun
            except aio.AioRpcError as error:
                raise in_body(error, binding.body) from error
            told = Told(await begun.trailing_metadata()).lines()
            await exchange.respond(200, answer(binding, response), [*JSON, *NOT_KEPT], told)

    async def _told(self, exchange: Exchange, values: Iterable[str]) -> Any:
        """What GET tells of this path."""
        binding, call = self._calls["GET"]
        variables = dict(zip(binding.variables, values, strict=True))
        request = request_message(binding, variables, b"", {})
        return data(binding, await call(request, metadata=exchange.metadata(), timeout=exchange.timeout()))


async def relay(exchange: Exchange, binding: Binding, call: Any) -> None:
    """Writes the HttpBody of each response as it arrives; a failure on the way breaks the connection off."""
    async with aclosing(batches(call, size)) as groups:
        # Until the first piece is there, a failure has a status of its own.
        group: list[Any] = await anext(groups, [])
        pieces = [getattr(response, binding.response_body) for response in group]
        content_type = pieces[0].content_type if pieces else ""
        told = Told(await call.initial_metadata()).lines()
        kind = (content_type or "application/octet-stream").encode("latin-1", "replace")
        await exchange.start_stream(200, [(b"content-type", kind), *NOT_KEPT], told)
        await exchange.send(b"".join(piece.data for piece in pieces))
        async for group in groups:
            await exchange.send(b"".join(getattr(response, binding.response_body).data for response in group))
    await exchange.end()


def size(response: Message) -> int:
    """The bytes of a response."""
    return response.ByteSize()


async def refuse_path(exchange: Exchange) -> None:
    """Says that there is no such path."""
    raise Refused(Failure.route_not_found(exchange.method, str(exchange.scope["path"])))
