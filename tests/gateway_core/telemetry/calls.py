"""Calls, events and providers to tell the telemetry of."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Events, Next, Target
from gateway_core.telemetry import Telemetry

LAB = Target("lab", "tiny")


class Chat:
    """An operation that no provider is asked for."""

    name = "chat"

    def model(self, request: ChatCompletionSpec) -> str:
        return request.model

    def check(self, call: Call[ChatCompletionSpec]) -> None:
        pass

    def usage(self, event: ChatCompletionChunk) -> TokenUsage | None:
        return event.usage if event.HasField("usage") else None

    def labels(self, call: Call[ChatCompletionSpec]) -> dict[str, str]:
        return {}

    def prompt_token_count(self, call: Call[ChatCompletionSpec]) -> int:
        return 1

    def affinity(self, request: ChatCompletionSpec, by: str) -> str:
        return ""

    async def open(self, provider: object, call: Call[ChatCompletionSpec]) -> Events:
        raise NotImplementedError


def new_call(
    model: str = "small", *, stream: bool = True, metadata: dict[str, str] | None = None, request_id: str = "call-1"
) -> Call[ChatCompletionSpec]:
    """A call that has not been routed."""
    spec = ChatCompletionSpec(model=model, temperature=0.5, max_completion_tokens=64, stop=["END"])
    return Call(request_id, Chat(), spec, stream, metadata or {})


def text(content: str, model: str = "tiny-2026") -> ChatCompletionChunk:
    """An event with some text."""
    event = ChatCompletionChunk(id="answer-1", model=model)
    event.choices.add().delta.content = content
    return event


def finish(prompt_tokens: int = 12, completion_tokens: int = 5, model: str = "tiny-2026") -> ChatCompletionChunk:
    """An event that ends the answer and tells the tokens."""
    event = ChatCompletionChunk(id="answer-1", model=model)
    event.choices.add().finish_reason = "stop"
    event.usage.prompt_tokens = prompt_tokens
    event.usage.completion_tokens = completion_tokens
    event.usage.prompt_tokens_details.cached_tokens = 4
    event.usage.completion_tokens_details.reasoning_tokens = 2
    return event


async def answer(
    events: Iterable[ChatCompletionChunk], then: BaseException | None = None
) -> AsyncGenerator[ChatCompletionChunk, None]:
    """An answer that ends, or fails, after some events."""
    for event in events:
        yield event
    if then is not None:
        raise then


Open = Callable[[Call[Any]], Awaitable[Events]]


def opens(events: Iterable[ChatCompletionChunk], then: BaseException | None = None) -> Open:
    """A provider that accepts."""

    async def open_(call: Call[Any]) -> Events:
        return answer(events, then)

    return open_


def refuses(error: BaseException) -> Open:
    """A provider that does not."""

    async def open_(call: Call[Any]) -> Events:
        raise error

    return open_


def attempting(telemetry: Telemetry, *attempts: tuple[Target, Open]) -> Next[Any]:
    """What lies below the stage `trace`: attempts, one after the other until one opens."""

    async def below(call: Call[Any]) -> Events:
        call.targets = tuple(target for target, _ in attempts)
        for call.target, open_ in attempts:
            call.attempt_count += 1
            attempt = telemetry.attempts.begin(call)
            try:
                events = await open_(call)
            except BaseException as error:
                telemetry.attempts.failed(attempt, error)
                if call.attempt_count == len(attempts):
                    raise
            else:
                telemetry.attempts.opened(attempt)
                return events
        raise AssertionError

    return below
