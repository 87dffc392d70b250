"""The gRPC side of the load: grpc.aio clients over one channel, as an internal service would call."""

import grpc
from google.protobuf.empty_pb2 import Empty
from headgate.v1 import chat_completion_service_pb2_grpc
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_pb2 import ChatCompletionSpec, StreamOptions
from headgate.v1.message_pb2 import ROLE_SYSTEM, ROLE_USER, ChatMessage

from bench.answers import EVENT_COUNT, QUESTION, SYSTEM_PROMPT, chat_flaw
from bench.floor import SERVICE, STREAM, UNARY
from bench.wrong_answer import WrongAnswer

DEADLINE_SECONDS = 30.0


def spec(model: str, stream: bool) -> ChatCompletionSpec:
    """The request of `answers.request_body`, in the contract's words."""
    return ChatCompletionSpec(
        model=model,
        messages=[
            ChatMessage(role=ROLE_SYSTEM, text=SYSTEM_PROMPT),
            ChatMessage(role=ROLE_USER, text=QUESTION),
        ],
        temperature=0.7,
        max_tokens=128,
        stream_options=StreamOptions(include_usage=True) if stream else None,
    )


class ChatClient:
    """Asks for a chat completion through the generated stub."""

    def __init__(self, port: int, model: str, stream: bool, key: str = "bench") -> None:
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._stub = chat_completion_service_pb2_grpc.ChatCompletionServiceStub(self._channel)
        self._stream = stream
        self._unary_request = CreateChatCompletionRequest(spec=spec(model, stream=False))
        self._stream_request = StreamChatCompletionRequest(spec=spec(model, stream=True))

    async def ask(self) -> None:
        """Asks once and checks the answer; raises WrongAnswer. Chunks may be merged on their way, text may not."""
        try:
            flaw = await (self._stream_flaw() if self._stream else self._unary_flaw())
        except grpc.aio.AioRpcError as error:
            raise WrongAnswer(f"{error.code().name}: {error.details()}") from error
        if flaw is not None:
            raise WrongAnswer(flaw)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def _unary_flaw(self) -> str | None:
        response = await self._stub.CreateChatCompletion(
            self._unary_request, timeout=DEADLINE_SECONDS, metadata=self._metadata
        )
        completion = response.completion
        if len(completion.choices) != 1:
            return f"{len(completion.choices)} choices instead of 1"
        choice = completion.choices[0]
        return chat_flaw(choice.message.content, choice.finish_reason, completion.usage.total_tokens)

    async def _stream_flaw(self) -> str | None:
        pieces: list[str] = []
        finish_reason = None
        total_tokens = None
        async for response in self._stub.StreamChatCompletion(
            self._stream_request, timeout=DEADLINE_SECONDS, metadata=self._metadata
        ):
            chunk = response.chunk
            for choice in chunk.choices:
                pieces.append(choice.delta.content)
                finish_reason = choice.finish_reason or finish_reason
            if chunk.HasField("usage"):
                total_tokens = chunk.usage.total_tokens
        return chat_flaw("".join(pieces), finish_reason, total_tokens)


class FloorClient:
    """Calls the gRPC server that does nothing."""

    def __init__(self, port: int, stream: bool) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        codec = (Empty.SerializeToString, Empty.FromString)
        self._unary = self._channel.unary_unary(f"/{SERVICE}/{UNARY}", *codec)
        self._pieces = self._channel.unary_stream(f"/{SERVICE}/{STREAM}", *codec)
        self._stream = stream

    async def ask(self) -> None:
        """Calls once and counts the messages; raises WrongAnswer."""
        try:
            if not self._stream:
                await self._unary(Empty(), timeout=DEADLINE_SECONDS)
                return
            count = 0
            async for _ in self._pieces(Empty(), timeout=DEADLINE_SECONDS):
                count += 1
        except grpc.aio.AioRpcError as error:
            raise WrongAnswer(f"{error.code().name}: {error.details()}") from error
        if count != EVENT_COUNT:
            raise WrongAnswer(f"{count} messages instead of {EVENT_COUNT}")

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
