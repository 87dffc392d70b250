"""ChatCompletionService: what is asked becomes a call, and its events become the answer."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    ResumeChatCompletionRequest,
    ResumeChatCompletionResponse,
    ResumedStream,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceServicer
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Caller, Events, Given, Next, Rewrite, whole
from gateway_core.chat import chat_of
from gateway_core.completion import fold
from gateway_core.completion.affinity import affinity
from gateway_core.errors import InvalidRequest, NotFound
from gateway_core.metering.estimate import input_tokens
from gateway_core.providers import Provider
from gateway_core.resume.duration import asked_seconds
from gateway_core.resume.stream import ResumableStream
from gateway_core.resume.streams import Streams
from gateway_core.resume.worker import Copied, Peers
from gateway_core.services.access import Access
from gateway_core.services.edge import (
    Bridges,
    Context,
    Rpc,
    answer_metadata,
    chosen_request_id,
    deadline_of,
    fail,
    metadata_of,
)
from gateway_core.services.spec import check


class ChatCompletion:
    """The operation of the OpenTelemetry conventions that this service serves."""

    name = "chat"

    def model(self, request: ChatCompletionSpec) -> str:
        """The model that is asked for."""
        return request.model

    def check(self, call: Call[ChatCompletionSpec]) -> None:
        """Raises InvalidRequest, which names the field, for what no provider could answer."""
        check(chat_of(call))

    def usage(self, event: ChatCompletionChunk) -> TokenUsage | None:
        """The tokens used, where the event tells."""
        return event.usage if "usage" in event else None

    def labels(self, call: Call[ChatCompletionSpec]) -> dict[str, str]:
        """Names and values of the caller's, which are kept with what the call cost."""
        told = chat_of(call).fields.get("metadata")
        return {} if told is None else dict(told)

    def prompt_token_count(self, call: Call[ChatCompletionSpec]) -> int:
        """The tokens of what is asked, estimated."""
        return input_tokens(chat_of(call))

    def affinity(self, request: ChatCompletionSpec, by: str) -> str:
        """What requests have in common that one target should answer: "session", "user", "prompt". Empty: nothing."""
        return affinity(request, by)

    def open(self, provider: Any, call: Call[ChatCompletionSpec]) -> Awaitable[Events]:
        """Asks the provider."""
        asked: Provider = provider
        return asked.open_chat_completion(call)


class ChatCompletionService(ChatCompletionServiceServicer):
    """Answers chat completions by way of the pipeline."""

    peers: Peers | None = None
    """The other processes of this server, where it has any."""
    copies: Copied | None = None
    """What processes of other servers have copied of their streams, where they do."""

    def __init__(self, pipeline: Next[ChatCompletionSpec], bridges: Bridges, streams: Streams, access: Access) -> None:
        """Takes the composed stages, the bridges that are believed, the streams that can be continued, and who may."""
        self._pipeline = pipeline
        self._bridges = bridges
        self._streams = streams
        self._access = access
        self._operation = ChatCompletion()

    async def CreateChatCompletion(
        self, request: CreateChatCompletionRequest, context: Context
    ) -> CreateChatCompletionResponse:
        """Answers at once: the same way as in chunks, folded."""
        call = self._call(request.spec, context, stream=False)
        call.json_format = request.json_format
        try:
            events = await self._pipeline(call)
            answer = events if isinstance(events, Given) else await whole(events)
            context.set_trailing_metadata(answer_metadata(call))
            response = CreateChatCompletionResponse()
            if answer.json is not None:
                response.json = answer.json
            else:
                fold(answer.events, response.completion)
            return response
        except Exception as error:
            await fail(context, error, answer_metadata(call))

    async def StreamChatCompletion(
        self, request: StreamChatCompletionRequest, context: Context
    ) -> AsyncIterator[StreamChatCompletionResponse]:
        """Answers in chunks, as they arrive."""
        call = self._call(request.spec, context, stream=True)
        try:
            kept = await self._kept(request, call, context)
            del request
            if isinstance(kept, ResumableStream):
                async with aclosing(self._first_heard(kept, context)) as responses:
                    async for response in responses:
                        yield response
                return
            events = await self._pipeline(call)
            if kept is not None:
                call.rewrites.append(kept)
            sequence = 0
            try:
                await context.send_initial_metadata(answer_metadata(call))
                async for event in events:
                    sequence += 1
                    response = StreamChatCompletionResponse()
                    response.sequence = sequence
                    response.chunk.CopyFrom(event)
                    yield response
                    del response, event
            finally:
                await events.aclose()
            context.set_trailing_metadata(answer_metadata(call))
        except Exception as error:
            await fail(context, error, answer_metadata(call))

    async def ResumeChatCompletion(
        self, request: ResumeChatCompletionRequest, context: Context
    ) -> AsyncGenerator[ResumeChatCompletionResponse, None]:
        """Continues a stream whose caller was lost."""
        rpc = Rpc(context, "resume_chat_completion")
        try:
            other, is_found = self._streams.worker_of(request.id), False
            if other is not None and self.peers is not None:
                try:
                    async with aclosing(self.peers.resume(other, request, context)) as responses:
                        async for response in responses:
                            is_found = True
                            yield response
                    return  # the one that runs it tells of it
                except NotFound:
                    if is_found or self.copies is None:
                        raise
            caller = await self._access.any(context)
            given = request.detach if request.HasField("detach") else None
            seconds = self._streams.bounded(asked_seconds(given, metadata_of(context)))
            stream = self._own(request.id, caller)
            if stream is None:
                async with aclosing(self._copied(request, seconds, caller, context)) as copied:
                    async for response in copied:
                        yield response
                rpc.succeeded()
                return
            with stream.listen(request.after_sequence, seconds) as listener:
                await context.send_initial_metadata(kept_metadata(stream))
                yield resumed(stream, request.after_sequence)
                async for sequence, chunk in listener:
                    yield ResumeChatCompletionResponse(chunk=chunk, sequence=sequence)
            context.set_trailing_metadata(answer_metadata(stream.call))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()

    def _own(self, identity: str, caller: Caller) -> ResumableStream | None:
        """The stream of this process. None: another one may have copied it. Raises NotFound."""
        try:
            return self._streams.find(identity, caller)
        except NotFound:
            if self.copies is None:
                raise
            return None

    async def _copied(
        self, request: ResumeChatCompletionRequest, seconds: float | None, caller: Caller, context: Context
    ) -> AsyncGenerator[ResumeChatCompletionResponse, None]:
        """Continues what another process has copied; raises as where there is none."""
        assert self.copies is not None, "else it was not found"
        try:
            async with aclosing(self.copies.resume(request, seconds, caller, context)) as responses:
                async for response in responses:
                    yield response
        except NotFound:
            self._streams.find(request.id, caller)
            raise

    async def _kept(
        self, request: StreamChatCompletionRequest, call: Call[ChatCompletionSpec], context: Context
    ) -> ResumableStream | Rewrite | None:
        """The call, begun, as a stream that goes on without its caller; or why not. None: that was not asked for."""
        given = request.detach if request.HasField("detach") else None
        try:
            seconds = asked_seconds(given, call.metadata)
        except InvalidRequest as error:
            await Rpc(context, self._operation.name).failed(error)  # no stage has seen the call that could tell
        return self._streams.begin(call, seconds, self._pipeline) if seconds else None

    async def _first_heard(
        self, stream: ResumableStream, context: Context
    ) -> AsyncGenerator[StreamChatCompletionResponse, None]:
        """The chunks of a stream for the caller who has begun it."""
        with stream.listen(0) as listener:
            await listener.opened()
            opening = kept_metadata(stream)
            stream.tell_id(opening)
            await context.send_initial_metadata(opening)
            async for sequence, chunk in listener:
                yield StreamChatCompletionResponse(chunk=chunk, sequence=sequence)
        context.set_trailing_metadata(answer_metadata(stream.call))

    def _call(self, spec: ChatCompletionSpec, context: Context, *, stream: bool) -> Call[ChatCompletionSpec]:
        metadata = metadata_of(context)
        id_, deadline = chosen_request_id(metadata), deadline_of(context)
        call = Call(id_, self._operation, spec, stream, metadata, deadline, spec.model)
        call.address = self._bridges.caller_address(context, metadata)
        if self._access.certificates is not None:
            call.certificate = self._access.certificate(context)
        return call


def kept_metadata(stream: ResumableStream) -> tuple[tuple[str, str], ...]:
    """What an answer tells that can be continued: its id, and how long it goes on without a caller."""
    told = (("x-headgate-stream-id", stream.id), ("x-headgate-detach", f"{stream.seconds:g}s"))
    return (*answer_metadata(stream.call), *told)


def resumed(stream: ResumableStream, after: int) -> ResumeChatCompletionResponse:
    """What is told first to who continues a stream behind a position."""
    begun = ResumedStream(begun=stream.buffer.begun(after))
    begun.MergeFrom(stream.asked)
    return ResumeChatCompletionResponse(sequence=after, resumed=begun)
