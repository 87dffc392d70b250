"""OpenAI's own SDK through a whole gateway to Gemini: what its native API says, and what it is told back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel, SecretStr

from gateway_core.config import Config, ProviderConfig
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.gemini_vendor import (
    called,
    detail,
    document,
    said,
    status,
    streamed_answer,
    thought,
    whole_answer,
)
from tests.support.openai_vendor import texts
from tests.support.upstream import Upstream

MODEL = "lab/gemini-3-flash-preview"
HI: list[Any] = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"city": {"type": "string", "minLength": 1}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def gateway(upstream: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A whole gateway whose provider "lab" is the Gemini API."""
    key = SecretStr("AIza-hush")
    lab = ProviderConfig(kind="gemini", base_url=upstream.base_url, api_key=key, lists_models=False)
    async with running(Config(providers={"lab": lab}), arrangement) as started:
        yield started


async def test_a_chat_is_answered(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(document(said("Hello"), finish="STOP")))
    talk: list[Any] = [{"role": "system", "content": "Be brief."}, *HI]
    answer = await sdk.chat.completions.create(model=MODEL, messages=talk, max_tokens=7, temperature=0.5, seed=3)
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.id, answer.model) == ("resp-1", "gemini-3-flash-preview")
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 36, 45)
    assert answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens_details.reasoning_tokens == 32
    asked = await upstream.received()
    assert asked.path == "/v1/models/gemini-3-flash-preview:generateContent"
    assert asked.headers["x-goog-api-key"] == "AIza-hush"
    assert asked.json() == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 7, "temperature": 0.5, "seed": 3},
    }


async def test_a_chat_is_streamed_with_its_thoughts(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    last = document(said("", thoughtSignature="c2ln"), finish="STOP")
    events = [document(thought("Let me")), document(thought(" see")), document(said("Hel")), document(said("lo")), last]
    upstream.script(streamed_answer(events))
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True, reasoning_effort="high")
    chunks = [chunk async for chunk in stream]
    assert texts(chunks) == "Hello"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas) == "Let me see"
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 45
    asked = await upstream.received()
    assert asked.path.endswith(":streamGenerateContent?alt=sse")
    assert asked.json()["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingLevel": "high"}


@pytest.mark.parametrize("sent_back", ["reasoning_details", "tool_calls"])
async def test_three_turns_with_tools_and_signed_thoughts(sdk: AsyncOpenAI, upstream: Upstream, sent_back: str) -> None:
    first = document(
        thought("Two cities."),
        called("get_weather", "fc_1", "c2lnMQ==", city="Paris"),
        called("get_weather", "fc_2", city="Oslo"),
        finish="STOP",
    )
    second = [
        document(thought("And Rome.")),
        document(called("get_weather", signature="c2lnMg==", city="Rome")),
        document(said(""), finish="STOP"),
    ]
    upstream.script(
        whole_answer(first), streamed_answer(second), whole_answer(document(said("11, 3 and 20."), finish="STOP"))
    )
    asked: dict[str, Any] = {"model": MODEL, "tools": [WEATHER], "reasoning_effort": "low"}
    answer = await sdk.chat.completions.create(messages=HI, **asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    talk = [*HI, *turn(answer.choices[0].message, sent_back, "11 degrees", "3 degrees")]
    async with sdk.chat.completions.stream(messages=talk, **asked) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].finish_reason == "tool_calls"
    talk += turn(completion.choices[0].message, sent_back, "20 degrees")
    answer = await sdk.chat.completions.create(messages=talk, **asked)
    assert answer.choices[0].message.content == "11, 3 and 20."
    told = (await upstream.received(3)).json()["contents"]
    assert [content["role"] for content in told] == ["user", "model", "user", "model", "user"]
    calls = [part for content in told for part in content["parts"] if "functionCall" in part]
    assert [call["functionCall"]["args"]["city"] for call in calls] == ["Paris", "Oslo", "Rome"]
    assert [call.get("thoughtSignature") for call in calls] == ["c2lnMQ==", None, "c2lnMg=="]
    results = [part["functionResponse"] for content in told for part in content["parts"] if "functionResponse" in part]
    assert [result["id"] for result in results] == [call["functionCall"]["id"] for call in calls]
    assert [result["response"]["output"] for result in results] == ["11 degrees", "3 degrees", "20 degrees"]


def turn(message: ChatCompletionMessage, sent_back: str, *results: str) -> list[Any]:
    """What a caller adds to a conversation: what the model said, with the signatures in one place, and the results."""
    assert message.tool_calls
    told = message.model_dump(exclude_none=True, include={"role", "content", "tool_calls", "reasoning_details"})
    if sent_back == "tool_calls":
        told.pop("reasoning_details", None)
    else:
        for call in told["tool_calls"]:
            call.pop("extra_content", None)
    answered = zip(message.tool_calls, results, strict=True)
    return [told, *({"role": "tool", "tool_call_id": call.id, "content": result} for call, result in answered)]


async def test_an_answer_has_the_form_that_was_asked_for(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(document(said('{"name": "Ada", "age": 36}'), finish="STOP")))
    answer = await sdk.chat.completions.parse(model=MODEL, messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    asked = (await upstream.received()).json()["generationConfig"]
    assert asked["responseMimeType"] == "application/json"
    assert asked["responseJsonSchema"]["properties"]["age"]["type"] == "integer"


async def test_what_is_left_out_of_a_schema_is_told(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(document(said("Hello"), finish="STOP")))
    raw = await sdk.chat.completions.with_raw_response.create(model=MODEL, messages=HI, tools=[WEATHER])
    (function,) = (await upstream.received()).json()["tools"][0]["functionDeclarations"]
    assert function["parametersJsonSchema"]["properties"] == {"city": {"type": "string"}}
    warnings = [value for name, value in raw.headers.items() if "warning" in name]
    assert any("minLength" in value for value in warnings)


async def test_a_blocked_prompt_is_refused_with_the_reason(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}
    upstream.script(streamed_answer([blocked]))
    with pytest.raises(APIStatusError, match="PROHIBITED_CONTENT") as raised:
        await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    assert raised.value.status_code == 400
    assert len(upstream.requests) == 1


async def test_a_filtered_answer_says_so(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(streamed_answer([document(said("First")), document(finish="SAFETY")]))
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    chunks = [chunk async for chunk in stream]
    assert texts(chunks) == "First"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "content_filter"


async def test_an_error_inside_a_stream_reaches_the_caller(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    failure = status(503, "UNAVAILABLE", "The model is overloaded.")
    upstream.script(streamed_answer([document(said("Hel")), failure]))
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    said_so_far: list[Any] = []
    with pytest.raises(APIError, match="overloaded"):
        await collect(stream, said_so_far)
    assert texts(said_so_far) == "Hel"
    assert all(choice.finish_reason is None for chunk in said_so_far for choice in chunk.choices)


async def test_a_stream_that_breaks_off_is_no_success(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(streamed_answer([document(said("Hel"))]))
    stream = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True)
    said_so_far: list[Any] = []
    with pytest.raises(APIError, match="broke its answer off"):
        await collect(stream, said_so_far)


async def collect(stream: Any, into: list[Any]) -> None:
    """Puts what a stream says into a list, which has what was said before an error too."""
    async for chunk in stream:
        into.append(chunk)


async def test_a_quota_is_told_with_how_long_to_wait(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    refusal = status(429, "RESOURCE_EXHAUSTED", "You exceeded your quota.", detail("RetryInfo", retryDelay="34.5s"))
    upstream.script(whole_answer(refusal, 429))
    with pytest.raises(APIStatusError, match="quota") as raised:
        await sdk.chat.completions.create(model=MODEL, messages=HI)
    assert raised.value.status_code == 429
    assert raised.value.response.headers["retry-after"] == "35"
