"""POST /v1/chat/completions (https://platform.openai.com/docs/api-reference/chat)."""

from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, TypeAlias

import orjson
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec

from rest_bridge.batches import batches
from rest_bridge.dialects.openai import errors
from rest_bridge.dialects.openai.answer import COST, priced
from rest_bridge.dialects.openai.event import EventWriter
from rest_bridge.dialects.openai.plain import put_plain_spec
from rest_bridge.dialects.openai.request import any_spec, is_stream
from rest_bridge.dialects.openai.response import ChunkWriter, completion_document
from rest_bridge.dialects.openai.resume import DETACH, LAST_EVENT_ID, ResumableStreams, place_of
from rest_bridge.errors import Failure
from rest_bridge.exchange import Exchange, check_depth, decoded_object
from rest_bridge.sse import EventStream, event
from rest_bridge.told import Told

DONE = event(b"[DONE]")
Stream: TypeAlias = "aio.UnaryStreamCall[StreamChatCompletionRequest, StreamChatCompletionResponse]"


class ChatCompletions:
    """Answers a chat completion: whole, or as server-sent events."""

    def __init__(self, channel: aio.Channel) -> None:
        """Takes the way to the core."""
        self._stub = ChatCompletionServiceStub(channel)
        self._resumable = ResumableStreams(self._stub)
        self.resume = self._resumable.resume

    async def create(self, exchange: Exchange) -> None:
        """Answers one request."""
        given = exchange.arrived_body()
        if given is None:
            given = await exchange.body()
        body = decoded_object(given)
        # The spec is read into the request: put there later, it would be copied.
        if body.get("stream") is True:
            streaming = StreamChatCompletionRequest()
            read_spec(exchange, given, body, streaming.spec)
            streams = self._streams(exchange, streaming)
            del given, body, streaming  # a stream may be open for hours
            await streams
            return
        request = CreateChatCompletionRequest()
        request.json_format = "openai"
        read_spec(exchange, given, body, request.spec)
        call = self._stub.CreateChatCompletion(request, metadata=exchange.metadata(), timeout=exchange.timeout())
        response = await call
        told = Told(await call.trailing_metadata())
        # Where the provider speaks the same JSON, it is there already, but for the cost.
        answer = response.json
        if answer:
            answer = priced(answer, told.text(COST))
        else:
            answer = orjson.dumps(
                completion_document(response.completion, request.spec.model, exchange.config.reasoning_fields)
            )
        await exchange.respond(200, answer, told=told.lines())

    def _streams(self, exchange: Exchange, streaming: StreamChatCompletionRequest) -> Coroutine[Any, Any, None]:
        """What is awaited for a stream: a new one, or the rest of one that goes on."""
        if LAST_EVENT_ID in exchange.headers and (place := place_of(exchange)) is not None:
            return self._resumable.go_on(exchange, place)
        if DETACH in exchange.headers:
            return self._resumable.begin(exchange, streaming)
        reasoning = exchange.config.reasoning_fields
        include_usage, model = streaming.spec.stream_options.include_usage, streaming.spec.model
        writer = EventWriter(ChunkWriter(include_usage, model, reasoning))
        call = self._stub.StreamChatCompletion(streaming, metadata=exchange.metadata(), timeout=exchange.timeout())
        return self._stream(exchange, call, writer)

    async def _stream(self, exchange: Exchange, call: Stream, writer: EventWriter) -> None:
        async with aclosing(batches(call, StreamChatCompletionResponse.ByteSize)) as groups:
            # Until the first event is there, a failure has a status of its own.
            written = framed(writer, await anext(groups, []))
            told = Told(await call.initial_metadata()).lines()
            async with EventStream(exchange, exchange.config.ping_seconds, told) as stream:
                try:
                    await stream.write(written)
                    async for group in groups:
                        written = framed(writer, group)
                        await stream.write(written)
                except aio.AioRpcError as error:
                    exchange.tell_behind(error.trailing_metadata())
                    await stream.end(event(errors.document(Failure.of(error))))
                else:
                    exchange.tell_behind(await call.trailing_metadata())
                    await stream.end(writer.finish() + DONE)


def read_spec(exchange: Exchange, given: bytes, body: dict[str, Any], spec: ChatCompletionSpec) -> None:
    """Puts what a body asks for into a spec that is empty; takes the body as it came too. Raises InvalidBody."""
    if not put_plain_spec(body, spec):
        # A plain one nests three deep. Counting the brackets takes longer than all of its reading where it is long.
        check_depth(given, body, exchange.config.json_depth)
        is_stream(body)
        spec.CopyFrom(any_spec(body))


def framed(writer: EventWriter, group: list[StreamChatCompletionResponse]) -> bytes:
    """The events that a group becomes, which is empty afterwards: it is not held while a slow reader is written to."""
    if len(group) == 1:
        return writer.write(group.pop().chunk)
    written = b"".join([writer.write(response.chunk) for response in group])
    group.clear()
    return written
