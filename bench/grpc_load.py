"""The gRPC side of the load: grpc.aio clients over few channels, as an internal service would call."""

import asyncio
from dataclasses import dataclass
from itertools import cycle

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
CALLERS_PER_CHANNEL = 64


def channels(port: int, callers: int, share: int = CALLERS_PER_CHANNEL) -> list["grpc.aio.Channel"]:
    """A connection for each 64 callers, or what else their share is."""
    # Channels of one target share a connection unless each has a pool of its own.
    own = [("grpc.use_local_subchannel_pool", 1)]
    count = -(-callers // share)
    return [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own) for _ in range(count)]


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


@dataclass(frozen=True)
class ChatPlace:
    """Where the contract's service is asked, by how many callers at once."""

    port: int
    key: str
    callers: int
    callers_per_channel: int = CALLERS_PER_CHANNEL
    timeout_seconds: float = DEADLINE_SECONDS


class ChatClient:
    """Asks for a chat completion through the generated stub."""

    def __init__(self, place: ChatPlace, model: str, stream: bool) -> None:
        self._metadata = (("authorization", f"Bearer {place.key}"),)
        self._timeout = place.timeout_seconds
        self._channels = channels(place.port, place.callers, place.callers_per_channel)
        stubs = map(chat_completion_service_pb2_grpc.ChatCompletionServiceStub, self._channels)
        self._stubs = cycle(list(stubs))
        self._stream = stream
        self._unary_request = CreateChatCompletionRequest(spec=spec(model, stream=False))
        self._stream_request = StreamChatCompletionRequest(spec=spec(model, stream=True))

    async def ask(self, begun: asyncio.Event | None = None) -> None:
        """Asks once and checks the answer; raises WrongAnswer. Chunks may be merged on their way, text may not.

        The event is set when the first chunk has come.
        """
        try:
            flaw = await (self._stream_flaw(begun) if self._stream else self._unary_flaw())
        except grpc.aio.AioRpcError as error:
            raise WrongAnswer(f"{error.code().name}: {error.details()}") from error
        if flaw is not None:
            raise WrongAnswer(flaw)

    async def close(self) -> None:
        """Closes the channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _unary_flaw(self) -> str | None:
        response = await next(self._stubs).CreateChatCompletion(
            self._unary_request, timeout=self._timeout, metadata=self._metadata
        )
        completion = response.completion
        if len(completion.choices) != 1:
            return f"{len(completion.choices)} choices instead of 1"
        choice = completion.choices[0]
        return chat_flaw(choice.message.content, choice.finish_reason, completion.usage.total_tokens)

    async def _stream_flaw(self, begun: asyncio.Event | None) -> str | None:
        pieces: list[str] = []
        finish_reason = None
        total_tokens = None
        async for response in next(self._stubs).StreamChatCompletion(
            self._stream_request, timeout=self._timeout, metadata=self._metadata
        ):
            if begun is not None:
                begun.set()
            chunk = response.chunk
            for choice in chunk.choices:
                pieces.append(choice.delta.content)
                finish_reason = choice.finish_reason or finish_reason
            if chunk.HasField("usage"):
                total_tokens = chunk.usage.total_tokens
        return chat_flaw("".join(pieces), finish_reason, total_tokens)


class FloorClient:
    """Calls the gRPC server that does nothing."""

    def __init__(self, port: int, stream: bool, callers: int) -> None:
        self._channels = channels(port, callers)
        codec = (Empty.SerializeToString, Empty.FromString)
        self._unary = cycle([one.unary_unary(f"/{SERVICE}/{UNARY}", *codec) for one in self._channels])
        self._pieces = cycle([one.unary_stream(f"/{SERVICE}/{STREAM}", *codec) for one in self._channels])
        self._stream = stream

    async def ask(self) -> None:
        """Calls once and counts the messages; raises WrongAnswer."""
        try:
            if not self._stream:
                await next(self._unary)(Empty(), timeout=DEADLINE_SECONDS)
                return
            count = 0
            async for _ in next(self._pieces)(Empty(), timeout=DEADLINE_SECONDS):
                count += 1
        except grpc.aio.AioRpcError as error:
            raise WrongAnswer(f"{error.code().name}: {error.details()}") from error
        if count != EVENT_COUNT:
            raise WrongAnswer(f"{count} messages instead of {EVENT_COUNT}")

    async def close(self) -> None:
        """Closes the channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels))
