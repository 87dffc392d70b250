"""OpenAI's own SDK, unchanged but for the base URL, through a whole gateway to a scripted vendor."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultHttpxClient, OpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from tests.support.gateway import Gateway
from tests.support.openai_vendor import USAGE, called, completion, event, streamed, texts, usage_event
from tests.support.upstream import Upstream, Wait, json_answer, sse_answer

HI: list[Any] = [{"role": "user", "content": "hi"}]
ADD: Any = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {"a": {}}}},
}


async def chunks(sdk: AsyncOpenAI, **asked: Any) -> list[ChatCompletionChunk]:
    stream = await sdk.chat.completions.create(**{"model": "lab/tiny", "messages": HI, **asked}, stream=True)
    return [chunk async for chunk in stream]


async def test_a_chat_is_answered(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"}, service_tier="flex", system_fingerprint="fp_1")))
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI, temperature=0.5, max_tokens=7)
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.id, answer.model, answer.created) == ("chatcmpl-1", "tiny-2026", 1_700_000_000)
    assert (answer.service_tier, answer.system_fingerprint) == ("flex", "fp_1")
    assert answer.usage
    assert answer.usage.model_dump(exclude_none=True) == USAGE
    asked = await upstream.received()
    assert asked.json() == {"model": "tiny", "messages": HI, "temperature": 0.5, "max_tokens": 7}
    assert (asked.path, asked.headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-lab-secret")


async def test_a_chat_is_streamed_with_the_usage_in_its_last_chunk(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed("Hel", "lo")))
    found = await chunks(sdk, stream_options={"include_usage": True})
    assert texts(found) == "Hello"
    assert [chunk.choices[0].delta.role for chunk in found[:-1]] == ["assistant", None, None, None][: len(found) - 1]
    assert [chunk.usage for chunk in found[:-1]] == [None] * (len(found) - 1)
    assert found[-2].choices[0].finish_reason == "stop"
    assert found[-1].choices == []
    assert found[-1].usage
    assert found[-1].usage.model_dump(exclude_none=True) == USAGE


async def test_without_asking_the_finish_chunk_has_the_usage(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed("Hel", "lo")))
    found = await chunks(sdk)
    assert texts(found) == "Hello"
    assert [chunk.usage for chunk in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1].choices[0].finish_reason == "stop"
    assert found[-1].usage
    assert found[-1].usage.model_dump(exclude_none=True) == USAGE
    assert (await upstream.received()).json()["stream_options"] == {"include_usage": True}


async def test_what_is_said_arrives_before_the_vendor_says_more(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(go_on), event({"content": "lo"}), event({}, "stop")]))
    stream = await sdk.chat.completions.create(model="lab/tiny", messages=HI, stream=True)
    async with asyncio.timeout(10):
        assert texts([await anext(stream)]) == "Hel"
        go_on.set()
        assert texts([chunk async for chunk in stream]) == "lo"


async def test_the_sdk_that_blocks_reads_the_same(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})), sse_answer(streamed("Hel", "lo")))

    def call() -> tuple[str | None, str]:
        with DefaultHttpxClient(trust_env=False) as http:
            client = OpenAI(base_url=f"{gateway.http_url}/v1", api_key="k", max_retries=0, http_client=http)
            answer = client.chat.completions.create(model="lab/tiny", messages=HI)
            stream = client.chat.completions.create(model="lab/tiny", messages=HI, stream=True)
            return answer.choices[0].message.content, texts(list(stream))

    assert await asyncio.to_thread(call) == ("Hello", "Hello")


async def test_a_tool_is_called_and_its_result_goes_back(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    message = {"content": None, "tool_calls": [called("add", '{"a": 1}')]}
    upstream.script(json_answer(completion(message, "tool_calls")))
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI, tools=[ADD], tool_choice="required")
    assert answer.choices[0].finish_reason == "tool_calls"
    said = answer.choices[0].message
    assert said.tool_calls
    assert said.tool_calls[0].model_dump() == called("add", '{"a": 1}')
    sent = (await upstream.received()).json()
    assert (sent["tools"], sent["tool_choice"]) == ([ADD], "required")

    upstream.script(json_answer(completion({"content": "2"})))
    turn: list[Any] = [
        *HI,
        said.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    ]
    await sdk.chat.completions.create(model="lab/tiny", messages=turn, tools=[ADD])
    sent = (await upstream.received(2)).json()["messages"]
    assert sent[1]["tool_calls"] == [called("add", '{"a": 1}')]
    assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "2"}


async def test_parallel_calls_come_whole(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    calls = [called("add", '{"a": 1}'), called("add", '{"a": 2}', "call_2")]
    upstream.script(json_answer(completion({"content": None, "tool_calls": calls}, "tool_calls")))
    asked: dict[str, Any] = {"tools": [ADD], "parallel_tool_calls": True}
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI, **asked)
    assert [call.model_dump() for call in answer.choices[0].message.tool_calls or ()] == calls
    assert (await upstream.received()).json()["parallel_tool_calls"] is True


@pytest.mark.parametrize("host", ["by index only", "without any index", "all of it again"])
async def test_the_pieces_of_parallel_calls_find_their_calls(sdk: AsyncOpenAI, upstream: Upstream, host: str) -> None:
    begun = [called("add", "", "call_1"), called("sub", "", "call_2")]

    def piece(index: int, arguments: str) -> dict[str, Any]:
        """What adds to a call; llama-cpp-python's server tells id and name with every piece."""
        call: dict[str, Any] = {"function": {"arguments": arguments}}
        if host == "all of it again":
            call = called(begun[index]["function"]["name"], arguments, begun[index]["id"])
        return event({"tool_calls": [call if host == "without any index" else {"index": index, **call}]})

    def first(index: int) -> dict[str, Any]:
        call = begun[index]
        return event({"tool_calls": [call if host == "without any index" else {"index": index, **call}]})

    pieces = [first(0), piece(0, '{"a"'), piece(0, ": 1}"), first(1), piece(1, '{"b": 2}')]
    upstream.script(sse_answer([*pieces, event({}, "tool_calls"), usage_event()], piece_bytes=7))
    async with sdk.chat.completions.stream(model="lab/tiny", messages=HI, tools=[ADD]) as stream:
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "add", '{"a": 1}'),
        ("call_2", "sub", '{"b": 2}'),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"


class Sum(BaseModel):
    a: int
    b: int


async def test_an_answer_is_parsed_by_its_schema(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": '{"a": 1, "b": 2}'})))
    answer = await sdk.chat.completions.parse(model="lab/tiny", messages=HI, response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(a=1, b=2)
    form = (await upstream.received()).json()["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Sum", True)
    assert form["json_schema"]["schema"]["required"] == ["a", "b"]


async def test_a_streamed_answer_is_parsed_by_its_schema(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed('{"a": 1,', ' "b": 2}')))
    async with sdk.chat.completions.stream(model="lab/tiny", messages=HI, response_format=Sum) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.parsed == Sum(a=1, b=2)


async def test_unknown_fields_arrive_unchanged(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    vendor: dict[str, Any] = {"x_timing": {"ms": [1.5, None, "ü"]}}
    whole = completion({"content": "Hello", **vendor}, **vendor)
    whole["choices"][0] |= vendor
    part = event({"content": "Hello", **vendor}, "stop", **vendor)
    part["choices"][0] |= vendor
    upstream.script(json_answer(whole), sse_answer([part]))
    asked: dict[str, Any] = {"model": "lab/tiny", "messages": [{**HI[0], **vendor}], "extra_body": vendor}
    answer = await sdk.chat.completions.create(**asked)
    for level in (answer, answer.choices[0], answer.choices[0].message):
        assert (level.model_extra or {})["x_timing"] == vendor["x_timing"]
    said, ended = [chunk async for chunk in await sdk.chat.completions.create(**asked, stream=True)]
    for piece in (said.choices[0].delta, ended, ended.choices[0]):
        assert (piece.model_extra or {})["x_timing"] == vendor["x_timing"]
    for received in upstream.requests:
        sent = received.json()
        assert sent["x_timing"] == sent["messages"][0]["x_timing"] == vendor["x_timing"]


@pytest.mark.parametrize("word", ["reasoning", "reasoning_content"])
async def test_reasoning_is_told_in_both_words(sdk: AsyncOpenAI, upstream: Upstream, word: str) -> None:
    thought = [event({"role": "assistant", word: "Hm"}), event({word: "m."})]
    upstream.script(
        json_answer(completion({"content": "4", word: "Hmm."})),
        sse_answer([*thought, event({"content": "4"}), event({}, "stop"), usage_event()]),
    )
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI, reasoning_effort="low")
    extra = answer.choices[0].message.model_extra or {}
    assert (extra["reasoning"], extra["reasoning_content"]) == ("Hmm.", "Hmm.")
    deltas = [choice.delta.model_extra or {} for chunk in await chunks(sdk) for choice in chunk.choices]
    for either in ("reasoning", "reasoning_content"):
        assert "".join(delta.get(either) or "" for delta in deltas) == "Hmm."
    assert upstream.requests[0].json()["reasoning_effort"] == "low"


async def test_log_probabilities_arrive(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    top = {"token": "He", "logprob": -1.5, "bytes": [72, 101]}
    found: dict[str, Any] = {
        "content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [top]}],
        "refusal": None,
    }
    whole, part = completion({"content": "Hi"}), event({"content": "Hi"}, "stop")
    whole["choices"][0]["logprobs"] = part["choices"][0]["logprobs"] = found
    upstream.script(json_answer(whole), sse_answer([part]))
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 1}
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI, **asked)
    assert answer.choices[0].logprobs
    assert answer.choices[0].logprobs.model_dump() == found
    chunk, _ = await chunks(sdk, **asked)
    assert chunk.choices[0].logprobs
    assert chunk.choices[0].logprobs.model_dump() == found
    assert upstream.requests[1].json()["top_logprobs"] == 1


async def test_several_answers_stay_apart(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    spoken = [event({"content": text}, index=index) for text, index in (("a", 0), ("x", 1), ("b", 0), ("y", 1))]
    ended = [event({}, "length", index=1), event({}, "stop", index=0), usage_event()]
    upstream.script(sse_answer([*spoken, *ended]))
    found = await chunks(sdk, n=2)
    choices = [choice for chunk in found for choice in chunk.choices]
    said = ["".join(choice.delta.content or "" for choice in choices if choice.index == index) for index in (0, 1)]
    assert said == ["ab", "xy"]
    assert {choice.index: choice.finish_reason for choice in choices} == {0: "stop", 1: "length"}
    assert [chunk.usage.total_tokens for chunk in found if chunk.usage] == [13]
    assert (await upstream.received()).json()["n"] == 2


async def test_images_and_other_parts_reach_the_vendor(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "A cat."})))
    parts: list[Any] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "x_point", "x": 1, "y": [2.5]},
    ]
    await sdk.chat.completions.create(model="lab/tiny", messages=[{"role": "user", "content": parts}])
    assert (await upstream.received()).json()["messages"][0]["content"] == parts


async def test_what_the_target_cannot_take_is_told(sdk: AsyncOpenAI) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="echo/echo", messages=HI, tools=[ADD], response_format={"type": "json_object"}, extra_body={"x_a": 1}
    )
    assert raw.parse().choices[0].message.content == "hi"
    warnings = raw.headers.get_list("x-headgate-warning")
    assert [warning.partition(": ")[0] for warning in warnings] == ["response_format", "tools", "x_a"]
    assert all("echo" in warning.partition(": ")[2] for warning in warnings)


async def test_the_headers_tell_of_the_call(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})), sse_answer(streamed("Hello")))
    create = sdk.chat.completions.with_raw_response.create
    raw = await create(model="lab/tiny", messages=HI, extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-headgate-request-id"] == raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-headgate-provider"] == "lab"
    assert raw.parse()._request_id == "mine-1"
    streaming = await create(model="lab/tiny", messages=HI, stream=True)
    assert streaming.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streaming.headers["x-headgate-provider"] == "lab"
    assert streaming.headers["x-headgate-request-id"] == streaming.headers["x-request-id"] != "mine-1"
    assert texts([chunk async for chunk in streaming.parse()]) == "Hello"


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/api/v1/open-ai"])
async def test_every_base_url_serves(connect: Callable[..., AsyncOpenAI], prefix: str) -> None:
    sdk = connect(prefix)
    answer = await sdk.chat.completions.create(model="echo/echo", messages=HI)
    assert answer.choices[0].message.content == "hi"
    assert "echo/echo" in [model.id async for model in sdk.models.list()]
    assert (await sdk.models.retrieve("lab/org/tiny:7b")).id == "lab/org/tiny:7b"
    spelled: Any = await sdk.post("/chat-completions", cast_to=object, body={"model": "echo/echo", "messages": HI})
    assert spelled["choices"][0]["message"]["content"] == "hi"


async def test_the_answer_of_an_unnamed_model_is_named_alike_whole_and_streamed(
    sdk: AsyncOpenAI, upstream: Upstream
) -> None:
    whole, part = completion({"content": "Hello"}), event({"content": "Hello"}, "stop")
    del whole["model"], part["model"]
    upstream.script(json_answer(whole), sse_answer([part]))
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI)
    assert {answer.model, *[chunk.model for chunk in await chunks(sdk)]} == {"lab/tiny"}


async def test_ten_megabytes_pass_both_ways(sdk: AsyncOpenAI) -> None:
    said = "ü" * (5 << 20)
    answer = await sdk.chat.completions.create(model="echo/echo", messages=[{"role": "user", "content": said}])
    assert answer.choices[0].message.content == said
