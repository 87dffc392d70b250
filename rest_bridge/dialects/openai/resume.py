"""Streams that outlive their connections: begun by x-headgate-detach, and gone on with behind any of their events.

GET or POST /v1/chat/completions/{id}/stream with Last-Event-ID goes on; so does the first POST, sent again with it.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from grpc import aio
from headgate.v1.chat_completion_service_pb2 import (
    ResumeChatCompletionRequest,
    ResumeChatCompletionResponse,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from rest_bridge.batches import batches
from rest_bridge.body import InvalidBody
from rest_bridge.dialects.openai import errors
from rest_bridge.dialects.openai.event import EventWriter
from rest_bridge.dialects.openai.numbered import NumberedWriter, Place, caught_up
from rest_bridge.dialects.openai.response import ChunkWriter
from rest_bridge.errors import Failure
from rest_bridge.exchange import Exchange
from rest_bridge.sse import EventStream
from rest_bridge.told import Told

DETACH = b"x-headgate-detach"
LAST_EVENT_ID = b"last-event-id"
STREAM_ID = "x-headgate-stream-id"

ONLY_THIS_ANSWER = frozenset({"", "ERROR_REASON_CANCELLED", "ERROR_REASON_DEADLINE_EXCEEDED"})
"""Reasons of failures that may be those of one connection: the stream may go on on another."""

Groups = AsyncGenerator[list[Any], None]


class ResumableStreams:
    """Answers with events that have ids."""

    def __init__(self, stub: ChatCompletionServiceStub) -> None:
        """Takes the way to the core."""
        self._stub: Any = stub  # the type stubs take it for one of grpc, where it is one of grpc.aio

    async def begin(self, exchange: Exchange, request: StreamChatCompletionRequest) -> None:
        """Answers a request whose caller asks that it goes on without its connection."""
        spec = request.spec
        call: Any = self._stub.StreamChatCompletion(request, metadata=exchange.metadata(), timeout=exchange.timeout())
        chunks = ChunkWriter(spec.stream_options.include_usage, spec.model, exchange.config.reasoning_fields)
        async with aclosing(batches(call, StreamChatCompletionResponse.ByteSize)) as groups:
            # Until the first event is there, a failure has a status of its own.
            first: list[Any] = await anext(groups, [])
            metadata = await call.initial_metadata()
            writer = NumberedWriter(EventWriter(chunks), told_id(metadata))
            await answer(exchange, call, writer, first, groups)

    async def resume(self, exchange: Exchange) -> None:
        """Answers a request for the rest of the stream that its path names."""
        await exchange.body() if exchange.reading else None
        identity = exchange.path_params["id"]
        place = place_of(exchange) or Place(identity)
        if place.id != identity:
            raise InvalidBody("Last-Event-ID is of another stream than the path.", "last-event-id")
        await self.go_on(exchange, place)

    async def go_on(self, exchange: Exchange, place: Place) -> None:
        """Answers with the rest of a stream."""
        if place.mark == "done":
            await exchange.respond(204, b"", ())
            return
        request = ResumeChatCompletionRequest(id=place.id, after_sequence=place.sequence)
        call: Any = self._stub.ResumeChatCompletion(request, metadata=exchange.metadata(), timeout=exchange.timeout())
        async with aclosing(batches(call, ResumeChatCompletionResponse.ByteSize)) as groups:
            first: list[Any] = await anext(groups, [])
            before = first.pop(0).resumed
            reasoning = exchange.config.reasoning_fields
            chunks = ChunkWriter(before.stream_options.include_usage, before.model, reasoning)
            caught_up(chunks, before.begun, place)
            writer = NumberedWriter(EventWriter(chunks), place.id, place.sequence)
            await answer(exchange, call, writer, first, groups)


async def answer(exchange: Exchange, call: Any, writer: NumberedWriter, first: list[Any], groups: Groups) -> None:
    """Writes the events of a stream; takes its RPC, the first responses and what gives the others."""
    written = framed(writer, first)
    told = Told(await call.initial_metadata()).lines()
    async with EventStream(exchange, exchange.config.ping_seconds, told) as stream:
        try:
            await stream.write(written)
            async for group in groups:
                written = framed(writer, group)
                await stream.write(written)
        except aio.AioRpcError as error:
            failure = Failure.of(error)
            document = errors.document(failure)
            exchange.tell_behind(error.trailing_metadata())
            await stream.end(writer.fail(document, is_final=failure.reason not in ONLY_THIS_ANSWER))
        else:
            exchange.tell_behind(await call.trailing_metadata())
            await stream.end(writer.finish())


def framed(writer: NumberedWriter, group: list[Any]) -> bytes:
    """The events that a group becomes, which is empty afterwards: it is not held while a slow reader is written to."""
    written = b"".join([writer.write(response.sequence, response.chunk) for response in group])
    group.clear()
    return written


def told_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The id of the stream, in the metadata of its call. Empty: it cannot be continued."""
    return next((str(value) for key, value in metadata if key == STREAM_ID), "")


def place_of(exchange: Exchange) -> Place | None:
    """Where the caller stands, by its Last-Event-ID. None: it gives none. Raises InvalidBody for one that is none."""
    given = exchange.headers.get(LAST_EVENT_ID)
    if not given:
        return None
    place = Place.parse(given.decode("latin-1"))
    if place is None:
        raise InvalidBody("Last-Event-ID must be the id of an event of a stream.", "last-event-id")
    return place
