"""ChatCompletionService: what is asked becomes a call, and its events become the answer."""

from collections.abc import AsyncIterator
from typing import cast

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceServicer
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Events, Next, whole
from gateway_core.completion import fold
from gateway_core.completion.affinity import affinity
from gateway_core.metering.estimate import input_tokens
from gateway_core.providers import Provider
from gateway_core.services.edge import (
    Bridges,
    Context,
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

    def check(self, request: ChatCompletionSpec) -> None:
        """Raises InvalidRequest, which names the field, for what no provider could answer."""
        check(request)

    def usage(self, event: ChatCompletionChunk) -> TokenUsage | None:
        """The tokens used, where the event tells."""
        return event.usage if event.HasField("usage") else None

    def labels(self, request: ChatCompletionSpec) -> dict[str, str]:
        """Names and values of the caller's, which are kept with what the call cost."""
        return dict(request.metadata) if request.metadata else {}

    def prompt_token_count(self, request: ChatCompletionSpec) -> int:
        """The tokens of what is asked, estimated."""
        return input_tokens(request)

    def affinity(self, request: ChatCompletionSpec, by: str) -> str:
        """What requests have in common that one target should answer: "session", "user", "prompt". Empty: nothing."""
        return affinity(request, by)

    async def open(self, provider: object, call: Call[ChatCompletionSpec]) -> Events:
        """Asks the provider."""
        return await cast(Provider, provider).open_chat_completion(call)


class ChatCompletionService(ChatCompletionServiceServicer):
    """Answers chat completions by way of the pipeline."""

    def __init__(self, pipeline: Next[ChatCompletionSpec], bridges: Bridges) -> None:
        """Takes the composed stages, and the bridges that are believed."""
        self._pipeline = pipeline
        self._bridges = bridges
        self._operation = ChatCompletion()

    async def CreateChatCompletion(
        self, request: CreateChatCompletionRequest, context: Context
    ) -> CreateChatCompletionResponse:
        """Answers at once: the same way as in chunks, folded."""
        call = self._call(request.spec, context, stream=False)
        call.json_format = request.json_format
        try:
            answer = await whole(await self._pipeline(call))
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
            events = await self._pipeline(call)
            try:
                metadata = answer_metadata(call)
                await context.send_initial_metadata(metadata)
                async for event in events:
                    response = StreamChatCompletionResponse()
                    response.chunk.CopyFrom(event)
                    yield response
            finally:
                await events.aclose()
            context.set_trailing_metadata(answer_metadata(call))
        except Exception as error:
            await fail(context, error, answer_metadata(call))

    def _call(self, spec: ChatCompletionSpec, context: Context, *, stream: bool) -> Call[ChatCompletionSpec]:
        metadata = metadata_of(context)
        return Call(
            request_id=chosen_request_id(metadata),
            operation=self._operation,
            request=spec,
            stream=stream,
            metadata=metadata,
            deadline=deadline_of(context),
            address=self._bridges.caller_address(context, metadata),
        )
