from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Caller, Events, Given
from gateway_core.config_plan import PublicKeysConfig
from gateway_core.errors import ProviderUnreachable, RateLimited
from gateway_core.identity.public import PublicLimits
from gateway_core.pipeline.authenticate import Stage
from gateway_core.services.chat_completion import ChatCompletion

GATEWAY = "01890000-0000-7000-8000-000000000000"
LIMIT = 100
DAYS = 31 * 86400


class Public:
    """Everybody has one public key."""

    def remembered(self, authorization: str | None) -> Caller:
        return Caller(account_id="a", key_id="k", kind="public")

    async def caller(self, authorization: str | None, certificate: str = "") -> Caller:
        raise AssertionError


def limited() -> Stage:
    windows = {"per_address": [], "per_key": [{"seconds": DAYS, "input_tokens": LIMIT}]}
    return Stage(Public(), PublicLimits(PublicKeysConfig.model_validate(windows)))


def asked(*, words: int = 1, stream: bool = False) -> Call[Any]:
    spec = ChatCompletionSpec(model=GATEWAY)
    spec.messages.add(role=ROLE_USER, text="hello " * words)
    return Call("id", ChatCompletion(), spec, stream=stream)


def used(tokens: int | None) -> list[ChatCompletionChunk]:
    usage = None if tokens is None else TokenUsage(prompt_tokens=tokens)
    return [ChatCompletionChunk(id="1"), ChatCompletionChunk(usage=usage), ChatCompletionChunk(id="2")]


async def answered(stage: Stage, call: Call[Any], tokens: int | None) -> list[ChatCompletionChunk]:
    async def streamed() -> Events:
        for event in used(tokens):
            yield event

    async def next(call: Call[Any]) -> Events:
        return streamed() if call.stream else Given(*used(tokens))

    events = await stage(call, next)
    return [event async for event in events]


async def test_a_prompt_that_is_estimated_at_more_than_is_left_is_refused() -> None:
    stage = limited()
    assert len(await answered(stage, asked(words=60), None)) == 3
    with pytest.raises(RateLimited, match="input tokens"):
        await answered(stage, asked(words=60), None)
    await answered(stage, asked(), None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 99, 5000])
async def test_tokens_of_public_keys_are_trued_up_after_the_call(stream: bool, tokens: int) -> None:
    stage = limited()
    assert await answered(stage, asked(words=60, stream=stream), tokens) == used(tokens)
    more = asked(words=60, stream=stream)
    if tokens > 1:
        with pytest.raises(RateLimited):
            await answered(stage, more, tokens)
    else:
        await answered(stage, more, tokens)


async def test_a_stream_that_is_left_ends_what_it_reads_from() -> None:
    ended = []

    async def streamed() -> Events:
        try:
            for event in used(1):
                yield event
        finally:
            ended.append(True)

    async def next(call: Call[Any]) -> Events:
        return streamed()

    events = await limited()(asked(stream=True), next)
    assert (await anext(events)).id == "1"
    await events.aclose()
    assert ended == [True]


async def test_a_call_that_fails_keeps_what_was_estimated() -> None:
    async def failing(call: Call[Any]) -> Events:
        raise ProviderUnreachable("It is not there.", provider="x")

    stage = limited()
    with pytest.raises(ProviderUnreachable):
        await stage(asked(words=60), failing)
    with pytest.raises(RateLimited):
        await stage(asked(words=60), failing)
