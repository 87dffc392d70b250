"""OpenAI's own SDK through a whole gateway to Amazon Bedrock: what Converse says, and what it is told back."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from gateway_core.config import Config, ProviderConfig
from tests.support.bedrock_vendor import (
    Document,
    Event,
    called,
    completion,
    events,
    refusal,
    said,
    streamed_answer,
    thought,
    usage,
    whole_answer,
)
from tests.support.event_stream import exception
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.openai_vendor import texts
from tests.support.upstream import Answer, Cut, Upstream

MODEL = "lab/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PATH = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"
HI: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def tool_use(identity: str, city: str) -> Document:
    return {"toolUse": {"toolUseId": identity, "name": "get_weather", "input": {"city": city}}}


def signed(text: str, signature: str) -> Document:
    return {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}


REDACTED: Document = {"reasoningContent": {"redactedContent": "ZW5jLTI="}}
# Each turn as blocks, and as the events that say the same.
TURNS: list[tuple[list[Document], list[Sequence[Event]]]] = [
    (
        [signed("Lyon, then Nice.", "c2lnLTE="), {"text": "I look."}, tool_use("tooluse_1", "Lyon")],
        [
            thought("Lyon, ", "then Nice.", signature="c2lnLTE="),
            said("I ", "look."),
            called("get_weather", "tooluse_1", '{"ci', 'ty":"Lyon"}'),
        ],
    ),
    (
        [REDACTED, signed("Now Nice.", "c2lnLTI="), tool_use("tooluse_2", "Nice"), tool_use("tooluse_3", "Nîmes")],
        [
            [("contentBlockDelta", {"delta": REDACTED})],
            thought("Now Nice.", signature="c2lnLTI="),
            called("get_weather", "tooluse_2", '{"city":"Nice"}'),
            called("get_weather", "tooluse_3", '{"city":"Nîmes"}'),
        ],
    ),
    (
        [signed("Done.", "c2lnLTM="), {"text": "Rain everywhere."}],
        [thought("Done.", signature="c2lnLTM="), said("Rain ", "everywhere.")],
    ),
]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def gateway(upstream: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A whole gateway whose provider "lab" is Bedrock."""
    keys = {"region": "us-east-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "s3cr3t-0123456789"}
    row: Any = {"kind": "bedrock", "base_url": upstream.base_url.removesuffix("/v1"), "aws": keys}
    async with running(Config(providers={"lab": ProviderConfig.model_validate(row)}), arrangement) as started:
        yield started


def answered(turn: tuple[list[Document], list[Sequence[Event]]], *, stream: bool) -> Answer:
    blocks, told = turn
    stop = "tool_use" if any("toolUse" in block for block in blocks) else "end_turn"
    return streamed_answer(events(*told, stop=stop)) if stream else whole_answer(completion(*blocks, stop=stop))


async def test_a_chat_is_answered(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    used = usage(29, 4, cacheReadInputTokens=300, cacheWriteInputTokens=0) | {"totalTokens": 333}
    upstream.script(whole_answer(completion({"text": "Hello"}, used=used)))
    answer = await sdk.chat.completions.create(model=MODEL, messages=HI, max_tokens=7, stop=["END"], temperature=0.5)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert answer.model == MODEL.removeprefix("lab/")
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (329, 4, 333)
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 300
    received = await upstream.received()
    assert received.path == f"{PATH}/converse"
    assert received.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert received.json() == {
        "messages": [{"role": "user", "content": [{"text": "What is the weather?"}]}],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 7, "temperature": 0.5, "stopSequences": ["END"]},
    }


async def test_a_chat_is_streamed_with_its_thinking(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(answered(TURNS[2], stream=True))
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True, reasoning_effort="medium")
    chunks = [chunk async for chunk in stream]
    assert texts(chunks) == "Rain everywhere."
    assert "".join(reasoning(chunk) for chunk in chunks) == "Done."
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 13
    received = await upstream.received()
    assert received.path == f"{PATH}/converse-stream"
    fields = received.json()["additionalModelRequestFields"]
    assert fields == {"thinking": {"type": "enabled", "budget_tokens": 8192}}


@pytest.mark.parametrize("stream", [True, False])
async def test_three_turns_with_tools_send_signed_thinking_back(
    sdk: AsyncOpenAI, upstream: Upstream, stream: bool
) -> None:
    upstream.script(*[answered(turn, stream=stream) for turn in TURNS])
    conversation = list(HI)
    for blocks, _ in TURNS:
        spoken = await answer_of(sdk, conversation, stream=stream)
        calls = spoken.get("tool_calls", [])
        assert len(calls) == sum("toolUse" in block for block in blocks)
        conversation.append(spoken)
        conversation += [{"role": "tool", "tool_call_id": call["id"], "content": "Rain"} for call in calls]
    assert conversation[-1]["content"] == "Rain everywhere."
    assert conversation[-1]["reasoning"] == "Done."
    last = (await upstream.received(3)).json()
    assert last["additionalModelRequestFields"]["thinking"]["type"] == "enabled"
    sent = last["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[1]["content"] == TURNS[0][0]
    assert sent[3]["content"] == TURNS[1][0]
    assert sent[4]["content"] == [
        {"toolResult": {"toolUseId": name, "content": [{"text": "Rain"}]}} for name in ("tooluse_2", "tooluse_3")
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_has_the_form_of_a_schema(sdk: AsyncOpenAI, upstream: Upstream, stream: bool) -> None:
    text = '{"name":"Ada","age":36}'
    if stream:
        upstream.script(streamed_answer(events(said(text[:9], text[9:]))))
        async with sdk.chat.completions.stream(model=MODEL, messages=HI, response_format=Person) as opened:
            parsed = (await opened.get_final_completion()).choices[0].message.parsed
    else:
        upstream.script(whole_answer(completion({"text": text})))
        answer = await sdk.chat.completions.parse(model=MODEL, messages=HI, response_format=Person)
        parsed = answer.choices[0].message.parsed
    assert parsed == Person(name="Ada", age=36)
    form = (await upstream.received()).json()["outputConfig"]["textFormat"]
    assert form["type"] == "json_schema"
    assert form["structure"]["jsonSchema"]["name"] == "Person"
    assert '"additionalProperties":false' in form["structure"]["jsonSchema"]["schema"].replace(" ", "")


async def test_what_a_guardrail_stops_is_told(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(completion({"text": "I may not."}, stop="guardrail_intervened")))
    guardrail = {"guardrailIdentifier": "gr1", "guardrailVersion": "1"}
    answer = await sdk.chat.completions.create(model=MODEL, messages=HI, extra_body={"guardrailConfig": guardrail})
    assert answer.choices[0].finish_reason == "content_filter"
    assert (await upstream.received()).json()["guardrailConfig"] == guardrail


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "ValidationException"), (429, "ThrottlingException"), (503, "ServiceUnavailableException")],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_request_is_an_error_of_the_sdk(
    sdk: AsyncOpenAI, upstream: Upstream, status: int, kind: str, stream: bool
) -> None:
    upstream.script(refusal(status, kind, "Not now"))
    with pytest.raises(APIStatusError, match="Not now") as raised:
        await sdk.chat.completions.create(model=MODEL, messages=HI, stream=stream)
    assert raised.value.status_code == status


@pytest.mark.parametrize(
    "end", [Cut(), exception("throttlingException", {"message": "Slow down."})], ids=["cut", "told"]
)
async def test_an_answer_that_breaks_off_is_never_a_success(sdk: AsyncOpenAI, upstream: Upstream, end: Any) -> None:
    upstream.script(streamed_answer([*events(said("Hel", "lo"))[:3], end]))
    found: list[ChatCompletionChunk] = []
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    with pytest.raises(APIError):
        await collect(stream, found)
    assert texts(found) == "Hello"
    assert not any(choice.finish_reason for chunk in found for choice in chunk.choices)


async def test_a_mark_for_the_cache_reaches_the_vendor(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(completion({"text": "Hello"})))
    marked: Any = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    await sdk.chat.completions.create(model=MODEL, messages=[{"role": "system", "content": [marked]}, HI[1]])
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert (await upstream.received()).json()["system"] == [{"text": "Long."}, point]


async def collect(stream: Any, found: list[ChatCompletionChunk]) -> None:
    """Reads a stream; what was said before a failure is kept."""
    async for chunk in stream:
        found.append(chunk)


def reasoning(chunk: ChatCompletionChunk) -> str:
    return "".join((choice.delta.model_extra or {}).get("reasoning") or "" for choice in chunk.choices)


async def answer_of(sdk: AsyncOpenAI, conversation: list[Any], *, stream: bool) -> dict[str, Any]:
    """What the assistant says, as a client keeps it: of a stream, put together from its deltas."""
    asked: dict[str, Any] = {"messages": conversation, "tools": [WEATHER], "reasoning_effort": "high"}
    if not stream:
        answer = await sdk.chat.completions.create(model=MODEL, **asked)
        whole: dict[str, Any] = answer.choices[0].message.model_dump(exclude_none=True)
        return whole
    async with sdk.chat.completions.stream(model=MODEL, **asked) as opened:
        async for _ in opened:
            pass
        final = await opened.get_final_completion()
    spoken: dict[str, Any] = final.choices[0].message.model_dump(exclude_none=True)
    return spoken
