"""OpenAI's own SDK through a whole gateway to an Ollama: what its native API says, and what it is told back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from gateway_core.config import Config, ProviderConfig
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.ollama_vendor import called, ended, line, streamed_answer, whole_answer
from tests.support.openai_vendor import texts
from tests.support.upstream import Upstream

HI: list[Any] = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def gateway(upstream: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A whole gateway whose provider "lab" is an Ollama."""
    lab = ProviderConfig(kind="ollama", base_url=upstream.base_url.removesuffix("/v1"), lists_models=False)
    async with running(Config(providers={"lab": lab}), arrangement) as started:
        yield started


async def test_a_chat_is_answered(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(ended(line("Hello"))))
    answer = await sdk.chat.completions.create(model="lab/qwen3:8b", messages=HI, max_tokens=7, temperature=0.5, seed=3)
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "qwen3:8b"
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 4, 13)
    asked = (await upstream.received()).json()
    assert asked["options"] == {"temperature": 0.5, "seed": 3, "num_predict": 7}
    assert asked["stream"] is False


async def test_a_chat_is_streamed_with_its_thinking(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    thought = [line(thinking="Let me"), line(thinking=" see")]
    upstream.script(streamed_answer([*thought, line("Hel"), line("lo"), ended()]))
    stream = await sdk.chat.completions.create(
        model="lab/qwen3:8b", messages=HI, stream=True, reasoning_effort="high", extra_body={"keep_alive": "10m"}
    )
    chunks = [chunk async for chunk in stream]
    assert texts(chunks) == "Hello"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas) == "Let me see"
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 13
    asked = (await upstream.received()).json()
    assert (asked["think"], asked["keep_alive"]) == ("high", "10m")


async def test_three_turns_with_tools_and_thinking(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    first = ended(line(thinking="I need Paris.", calls=[called("get_weather", city="Paris")]))
    second = [line(thinking="And Rome."), line(calls=[called("get_weather", "call_own", city="Rome")]), ended()]
    last = ended(line("11 and 20 degrees."))
    upstream.script(whole_answer(first), streamed_answer(second), whole_answer(last))
    asked: dict[str, Any] = {"model": "lab/qwen3:8b", "tools": [WEATHER]}
    answer = await sdk.chat.completions.create(messages=HI, **asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    talk = [*HI, *turn(answer.choices[0].message, "11 degrees")]
    async with sdk.chat.completions.stream(messages=talk, **asked) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].finish_reason == "tool_calls"
    talk += turn(completion.choices[0].message, "20 degrees")
    answer = await sdk.chat.completions.create(messages=talk, **asked)
    assert answer.choices[0].message.content == "11 and 20 degrees."
    told = (await upstream.received(3)).json()["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "assistant", "tool"]
    assert [message.get("thinking") for message in told] == [None, "I need Paris.", None, "And Rome.", None]
    assert [message.get("tool_name") for message in told] == [None, None, "get_weather", None, "get_weather"]
    calls = [call for message in told for call in message.get("tool_calls", ())]
    assert [call["function"] for call in calls] == [
        {"name": "get_weather", "arguments": {"city": "Paris"}},
        {"name": "get_weather", "arguments": {"city": "Rome"}},
    ]
    assert calls[1]["id"] == told[4]["tool_call_id"] == "call_own"
    assert calls[0]["id"] == told[2]["tool_call_id"]


def turn(message: ChatCompletionMessage, result: str) -> list[Any]:
    """What a caller adds to a conversation: what the model said, as it is, and what its one call gave."""
    assert message.tool_calls
    said = message.model_dump(exclude_none=True, include={"role", "content", "tool_calls", "reasoning"})
    return [said, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": result}]


async def test_an_answer_has_the_form_that_was_asked_for(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer(ended(line('{"name": "Ada", "age": 36}'))))
    answer = await sdk.chat.completions.parse(model="lab/qwen3:8b", messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    asked = (await upstream.received()).json()["format"]
    assert asked["properties"]["age"]["type"] == "integer"


async def test_an_error_inside_a_stream_reaches_the_caller(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(streamed_answer([line("Hel"), {"error": "the runner has stopped"}]))
    stream = await sdk.chat.completions.create(model="lab/qwen3:8b", messages=HI, stream=True)
    said: list[Any] = []
    with pytest.raises(APIError, match="the runner has stopped"):
        await collect(stream, said)
    assert texts(said) == "Hel"
    assert all(choice.finish_reason is None for chunk in said for choice in chunk.choices)


async def collect(stream: Any, said: list[Any]) -> None:
    """Puts what a stream says into a list, which has what was said before an error too."""
    async for chunk in stream:
        said.append(chunk)


async def test_a_model_that_is_not_there_is_not_found(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(whole_answer({"error": "model 'nope' not found"}, 404))
    with pytest.raises(APIStatusError, match="not found") as raised:
        await sdk.chat.completions.create(model="lab/nope", messages=HI)
    assert raised.value.status_code == 404
