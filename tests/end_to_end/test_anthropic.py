"""OpenAI's own SDK through a whole gateway to Anthropic: what its Messages API says, and what it is told back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from gateway_core.config import Config, ModelConfig, ProviderConfig, TargetConfig
from tests.support.anthropic_vendor import (
    Document,
    error,
    events,
    message,
    redacted,
    refused,
    streamed_answer,
    text,
    thinking,
    tool_use,
    whole_answer,
)
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.openai_vendor import texts
from tests.support.upstream import Cut, Upstream

MODEL = "lab/claude-opus-4-8"
HI: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TURNS = [
    message(
        thinking("Which city? Lyon, then Nice.", "sig-1"), text("I look."), tool_use("toolu_1", "get_weather", city="Lyon"),
        stop_reason="tool_use",
    ),
    message(
        redacted("enc-2"), thinking("Now Nice.", "sig-2"), tool_use("toolu_2", "get_weather", city="Nice"),
        tool_use("toolu_3", "get_weather", city="Nîmes"), stop_reason="tool_use",
    ),
    message(thinking("Done.", "sig-3"), text("Rain everywhere.")),
]  # fmt: skip


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def gateway(upstream: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A whole gateway whose provider "lab" is Anthropic."""
    row: Any = {"kind": "anthropic", "base_url": upstream.base_url, "api_key": "sk-ant-1", "lists_models": False}
    target = TargetConfig(provider="lab", model="claude-opus-4-8")
    config = Config(
        providers={"lab": ProviderConfig.model_validate(row)},
        models={"short": ModelConfig(targets=(target,), max_output_tokens=900)},
    )
    async with running(config, arrangement) as started:
        yield started


async def test_a_chat_is_answered(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(message(text("Hello"))))
    answer = await sdk.chat.completions.create(model=MODEL, messages=HI, max_tokens=7, stop=["END"], user="u-1")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert answer.id == "msg_01XFDUDYJgAACzvnptvVoYEL"
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (329, 4, 333)
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 300
    received = await upstream.received()
    assert (received.path, received.headers["x-api-key"]) == ("/v1/messages", "sk-ant-1")
    assert received.json() == {
        "model": "claude-opus-4-8",
        "max_tokens": 7,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "What is the weather?"}],
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
    }


async def test_the_most_tokens_of_a_model_are_asked_for_where_the_caller_does_not_say(
    sdk: AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(whole_answer(message(text("Hello"))))
    for model in ("short", MODEL):
        await sdk.chat.completions.create(model=model, messages=HI)
    assert [request.json()["max_tokens"] for request in upstream.requests] == [900, 128000]


async def test_a_chat_is_streamed_with_its_thinking(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(streamed_answer(TURNS[2]))
    chunks = await streamed(sdk, messages=HI, reasoning_effort="medium")
    assert texts(chunks) == "Rain everywhere."
    assert "".join(reasoning(chunk) for chunk in chunks) == "Done."
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 333
    body = (await upstream.received()).json()
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "medium"}


@pytest.mark.parametrize("stream", [True, False])
async def test_three_turns_with_tools_send_signed_thinking_back(
    sdk: AsyncOpenAI, upstream: Upstream, stream: bool
) -> None:
    upstream.script(*[streamed_answer(turn) if stream else whole_answer(turn) for turn in TURNS])
    conversation = list(HI)
    for turn in TURNS:
        said = await spoken(sdk, conversation, stream=stream)
        assert [call["function"]["name"] for call in said.get("tool_calls", [])] == ["get_weather"] * calls_in(turn)
        conversation.append(said)
        conversation += [
            {"role": "tool", "tool_call_id": call["id"], "content": "Rain"} for call in said.get("tool_calls", [])
        ]
    assert conversation[-1]["content"] == "Rain everywhere."
    assert conversation[-1]["reasoning"] == conversation[-1]["reasoning_content"] == "Done."
    sent = (await upstream.received(3)).json()["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[1]["content"] == TURNS[0]["content"]
    assert sent[3]["content"] == TURNS[1]["content"]
    assert sent[4]["content"] == [
        {"type": "tool_result", "tool_use_id": name, "content": "Rain"} for name in ("toolu_2", "toolu_3")
    ]


async def test_an_answer_has_the_form_of_a_schema(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(message(text('{"name":"Ada","age":36}'))))
    answer = await sdk.chat.completions.parse(model=MODEL, messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    form = (await upstream.received()).json()["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"]["required"] == ["name", "age"]
    assert form["schema"]["additionalProperties"] is False


async def test_a_refusal_is_told_with_the_vendors_reason(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "It may do harm."}
    upstream.script(whole_answer(message(stop_reason="refusal", stop_details=details)))
    (choice,) = (await sdk.chat.completions.create(model=MODEL, messages=HI)).choices
    assert (choice.finish_reason, choice.message.refusal) == ("content_filter", "It may do harm.")
    assert choice.model_dump()["stop_details"] == details


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (429, "rate_limit_error"), (529, "overloaded_error")],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_request_is_an_error_of_the_sdk(
    sdk: AsyncOpenAI, upstream: Upstream, status: int, kind: str, stream: bool
) -> None:
    upstream.script(refused(status, kind, "Not now"))
    with pytest.raises(APIStatusError, match="Not now") as raised:
        await sdk.chat.completions.create(model=MODEL, messages=HI, stream=stream)
    assert raised.value.status_code == status


@pytest.mark.parametrize("end", [Cut(), error("overloaded_error", "Overloaded")], ids=["cut", "overloaded"])
async def test_an_answer_that_breaks_off_is_never_a_success(sdk: AsyncOpenAI, upstream: Upstream, end: Any) -> None:
    upstream.script(streamed_answer([*list(events(message(text("Hello"))))[:5], end]))
    found: list[ChatCompletionChunk] = []
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    with pytest.raises(APIError):
        await collect(stream, found)
    assert texts(found) == "Hello"
    assert not any(choice.finish_reason for chunk in found for choice in chunk.choices)


async def test_an_overload_told_before_the_first_word_is_tried_again_unseen(
    sdk: AsyncOpenAI, upstream: Upstream
) -> None:
    begun = next(events(message(text("Hello"))))
    upstream.script(
        streamed_answer([begun, {"type": "ping"}, error("overloaded_error", "Overloaded")]),
        streamed_answer(message(text("Hello"))),
    )
    chunks = await streamed(sdk, messages=HI)
    assert texts(chunks) == "Hello"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(upstream.requests) == 2


async def test_a_mark_for_the_cache_reaches_the_vendor(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(message(text("Hello"))))
    marked: Any = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    await sdk.chat.completions.create(model=MODEL, messages=[{"role": "system", "content": [marked]}, HI[1]])
    assert (await upstream.received()).json()["system"] == [marked]


async def collect(stream: Any, found: list[ChatCompletionChunk]) -> None:
    """Reads a stream; what was said before a failure is kept."""
    async for chunk in stream:
        found.append(chunk)


async def streamed(sdk: AsyncOpenAI, **asked: Any) -> list[ChatCompletionChunk]:
    stream = await sdk.chat.completions.create(model=MODEL, stream=True, **asked)
    return [chunk async for chunk in stream]


def reasoning(chunk: ChatCompletionChunk) -> str:
    return "".join((choice.delta.model_extra or {}).get("reasoning") or "" for choice in chunk.choices)


def calls_in(turn: Document) -> int:
    return sum(block["type"] == "tool_use" for block in turn["content"])


async def spoken(sdk: AsyncOpenAI, conversation: list[Any], *, stream: bool) -> dict[str, Any]:
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
    said: dict[str, Any] = final.choices[0].message.model_dump(exclude_none=True)
    return said
