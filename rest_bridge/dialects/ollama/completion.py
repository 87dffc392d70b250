"""What POST /api/chat and POST /api/generate share: the call to the core, and the answer in lines or whole."""

import time
from collections.abc import Iterable
from contextlib import aclosing

import orjson
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_service_pb2 import GetModelRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub

from rest_bridge import ndjson
from rest_bridge.batches import batches
from rest_bridge.dialects.ollama import errors
from rest_bridge.dialects.ollama.response import (
    ChunkWriter,
    Line,
    Timing,
    UnreadableToolCall,
    completion_document,
)
from rest_bridge.errors import Failure, Refused
from rest_bridge.exchange import Exchange
from rest_bridge.pieces import apart
from rest_bridge.told import Told


class Completions:
    """Answers what is asked for, in the lines of a writer."""

    def __init__(self, channel: aio.Channel) -> None:
        """Takes the way to the core."""
        self._stub = ChatCompletionServiceStub(channel)
        self._models = ModelServiceStub(channel)

    async def load(self, exchange: Exchange, model: str, line: Line) -> None:
        """Answers with a line that only tells that the model is there; there is nothing here to load."""
        await self._models.GetModel(GetModelRequest(id=model), metadata=exchange.metadata(), timeout=exchange.timeout())
        await exchange.respond(200, orjson.dumps(line))

    async def answer(self, exchange: Exchange, spec: ChatCompletionSpec, writer: ChunkWriter) -> None:
        """Answers in one document."""
        began = time.monotonic_ns()
        call = self._stub.CreateChatCompletion(
            CreateChatCompletionRequest(spec=spec), metadata=exchange.metadata(), timeout=exchange.timeout()
        )
        response = await call
        timing = Timing(time.monotonic_ns() - began)
        try:
            document = completion_document(writer, response.completion, timing, time.time_ns())
        except UnreadableToolCall as error:
            raise Refused(broken(error)) from error
        told = Told(await call.trailing_metadata()).lines()
        await exchange.respond(200, orjson.dumps(document), told=told)

    async def stream(self, exchange: Exchange, spec: ChatCompletionSpec, writer: ChunkWriter) -> None:
        """Answers line by line. A late failure is a last line of its own, and no line is done."""
        began = time.monotonic_ns()
        call = self._stub.StreamChatCompletion(
            StreamChatCompletionRequest(spec=spec), metadata=exchange.metadata(), timeout=exchange.timeout()
        )
        async with aclosing(batches(call, StreamChatCompletionResponse.ByteSize)) as groups:
            # Until the first event is there, a failure has a status of its own.
            written = framed(written_lines(writer, await anext(groups, [])))
            first_ns = time.monotonic_ns() - began
            await exchange.start_stream(200, ndjson.HEADERS, Told(await call.initial_metadata()).lines())
            try:
                await exchange.send(written)
                async for group in groups:
                    written = framed(written_lines(writer, group))
                    await exchange.send(written)
                lines = writer.finish(Timing(time.monotonic_ns() - began, first_ns), time.time_ns())
            except aio.AioRpcError as error:
                exchange.tell_behind(error.trailing_metadata())
                await exchange.end(ndjson.line(errors.document(Failure.of(error))))
            except UnreadableToolCall as error:
                await exchange.end(ndjson.line(errors.document(broken(error))))
            else:
                exchange.tell_behind(await call.trailing_metadata())
                await exchange.end(framed(lines))


def broken(error: UnreadableToolCall) -> Failure:
    """The failure that a tool call is which Ollama's JSON cannot say."""
    return Failure(StatusCode.UNAVAILABLE, "ERROR_REASON_PROVIDER_BROKEN", str(error))


def written_lines(writer: ChunkWriter, group: list[StreamChatCompletionResponse]) -> list[Line]:
    """The lines of a group, which is empty afterwards: it is not held while a slow reader is written to."""
    now_ns = time.time_ns()
    lines = [line for response in group for chunk in apart(response.chunk) for line in writer.write(chunk, now_ns)]
    group.clear()
    return lines


def framed(lines: Iterable[Line]) -> bytes:
    """Lines in one piece."""
    return b"".join([ndjson.line(orjson.dumps(line)) for line in lines])
