"""The provider `ollama` against an Ollama on raw sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from random import Random
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec, ResponseFormat, StreamOptions
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER, ChatMessage, ImageUrl
from headgate.v1.tool_pb2 import AllowedTools, CustomTool, FunctionTool, Tool, ToolChoice
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core import errors
from gateway_core.call import Call, OnUnsupported, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers import Provider, load
from gateway_core.providers.ollama.decoder import Decoder
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.upstream.ndjson import LineReader
from gateway_core.upstream.refusal import Refusals
from tests.support.json_mutation import mutate
from tests.support.ollama_vendor import called, ended, line, streamed_answer, whole_answer
from tests.support.upstream import Cut, Reset, Silence, Step, Upstream, answer, json_answer

HELLO = [line("Hel"), line("lo"), ended()]


def spec(**fields: Any) -> ChatCompletionSpec:
    return ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="Hi")], **fields)


def call_of(
    request: ChatCompletionSpec, *, stream: bool = True, on_unsupported: OnUnsupported = "warn"
) -> Call[ChatCompletionSpec]:
    call = Call(request_id="r1", operation=ChatCompletion(), asked=request, stream=stream)
    call.target = Target("lab", "qwen3:8b", on_unsupported)
    return call


@pytest.fixture
async def make(upstream: Upstream) -> AsyncIterator[Callable[..., Provider]]:
    """Makes providers of the vendor, and closes them."""
    made: list[Provider] = []

    def provider(**fields: Any) -> Provider:
        row = {"kind": "ollama", "base_url": upstream.base_url.removesuffix("/v1"), **fields}
        made.append(load("lab", ProviderConfig.model_validate(row)))
        return made[-1]

    yield provider
    for each in made:
        await each.close()


Make = Callable[..., Provider]


async def events(provider: Provider, call: Call[ChatCompletionSpec]) -> list[ChatCompletionChunk]:
    async with aclosing(await provider.open_chat_completion(call)) as opened:
        return [event async for event in opened]


async def test_it_is_asked_at_its_own_path_with_the_key(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer(HELLO))
    said = fold(await events(make(api_key="sk-hush"), call_of(spec())))
    assert said.choices[0].message.content == "Hello"
    asked = await upstream.received()
    assert (asked.path, asked.headers["authorization"]) == ("/api/chat", "Bearer sk-hush")
    assert asked.json() == {"model": "qwen3:8b", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


async def test_a_connection_whose_answer_has_ended_is_used_again(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer(HELLO))
    provider = make()
    await events(provider, call_of(spec()))
    await events(provider, call_of(spec()))
    assert upstream.connection_count == 1


async def test_an_end_that_keeps_the_connection_open_delays_nobody_for_long(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer([*HELLO, Silence()]))
    async with asyncio.timeout(5):
        assert len(await events(make(), call_of(spec()))) == 3


async def test_a_stream_that_was_not_asked_for_is_read(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer(HELLO))
    (choice,) = fold(await events(make(), call_of(spec(), stream=False))).choices
    assert choice.message.content == "Hello"


@pytest.mark.parametrize("last", [Cut(), Reset(), b""], ids=["cut", "reset", "ended"])
async def test_a_stream_without_its_end_is_no_success(make: Make, upstream: Upstream, last: Step) -> None:
    upstream.script(streamed_answer([line("Hel"), last]))
    with pytest.raises(errors.ProviderBroken):
        await events(make(), call_of(spec()))


async def test_a_whole_answer_without_its_end_is_no_success(make: Make, upstream: Upstream) -> None:
    upstream.script(whole_answer(line("Hel")))
    with pytest.raises(errors.ProviderBroken, match="before its end"):
        await events(make(), call_of(spec(), stream=False))


@pytest.mark.parametrize("body", [b"nonsense\n", b"[]\n", b'{"done": "yes"}\n', b'{"done": false}\n', b"\n\n"])
async def test_nonsense_is_raised_by_the_opening(make: Make, upstream: Upstream, body: bytes) -> None:
    upstream.script(answer([body], headers={"content-type": "application/x-ndjson"}))
    with pytest.raises(errors.ProviderBroken):
        await make().open_chat_completion(call_of(spec()))


async def test_a_line_without_end_is_refused(make: Make, upstream: Upstream) -> None:
    upstream.script(answer([b"x" * 5000], headers={"content-type": "application/x-ndjson"}))
    with pytest.raises(errors.ProviderBroken, match="1000"):
        await make(answer_bytes=1000).open_chat_completion(call_of(spec()))


async def test_an_error_in_the_first_line_is_raised_by_the_opening(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer([{"error": "model runner has unexpectedly stopped"}]))
    with pytest.raises(errors.ProviderBroken, match="model runner has unexpectedly stopped"):
        await make().open_chat_completion(call_of(spec()))


async def test_an_error_in_a_later_line_ends_the_answer(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer([line("Hel"), {"error": "an error was encountered"}]))
    opened = await make().open_chat_completion(call_of(spec()))
    assert (await anext(opened)).choices[0].delta.content == "Hel"
    with pytest.raises(errors.ProviderBroken, match="an error was encountered"):
        await anext(opened)


async def test_a_refusal_says_what_ollama_says(make: Make, upstream: Upstream) -> None:
    upstream.script(whole_answer({"error": "model 'qwen3:8b' not found"}, 404))
    with pytest.raises(errors.ProviderRefused, match="not found") as raised:
        await make().open_chat_completion(call_of(spec()))
    assert raised.value.metadata["upstream_status"] == "404"


OFFERED = Tool(function=FunctionTool(name="f", strict=True))
CUSTOM = Tool(custom=CustomTool(name="c"))
SUNG = ChatMessage(role=ROLE_USER, name="ann", text="Hi")
FAR = ChatMessage(role=ROLE_USER)
FAR.parts.parts.add().image_url.url = "https://example.org/a.png"
NEAR = ChatMessage(role=ROLE_USER)
NEAR.parts.parts.add().image_url.CopyFrom(ImageUrl(url="data:image/png;base64,AAAA", detail="high"))
KEPT = ChatMessage(role=ROLE_USER)
KEPT.parts.parts.add(text="Hi", extra_json='{"cache_control": {"type": "ephemeral"}}')
MARKED = ChatMessage(role=ROLE_USER)
MARKED.parts.parts.add(text="Hi").prompt_cache_breakpoint.mode = "explicit"
NOTED = Tool(function=FunctionTool(name="f", extra_json='{"note": 1}'))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n"),
        ({"tools": [OFFERED]}, "tools[0].function.strict"),
        ({"tools": [CUSTOM]}, "tools[0]"),
        ({"tool_choice": ToolChoice(mode="required")}, "tool_choice"),
        ({"tool_choice": ToolChoice(function_name="f")}, "tool_choice"),
        ({"tool_choice": ToolChoice(allowed_tools=AllowedTools(mode="auto"))}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"logit_bias": {"1": 5.0}}, "logit_bias"),
        ({"user": "u"}, "user"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"store": True}, "store"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"stream_options": StreamOptions(include_obfuscation=True)}, "stream_options"),
        ({"extra_json": '{"other": 1}'}, "other"),
        ({"extra_json": '{"raw": true}', "extra_format": "ollama"}, "raw"),
        ({"messages": [SUNG]}, "messages[1].name"),
        ({"messages": [FAR]}, "messages[1].content[0].image_url"),
        ({"messages": [NEAR]}, "messages[1].content[0].image_url.detail"),
        ({"messages": [KEPT]}, "messages[1].content[0].cache_control"),
        ({"messages": [MARKED]}, "messages[1].content[0].prompt_cache_breakpoint"),
        ({"tools": [NOTED]}, "tools[0].function.note"),
    ],
)
async def test_what_ollama_has_no_word_for_is_told_or_refused(
    make: Make, upstream: Upstream, fields: dict[str, Any], named: str
) -> None:
    upstream.script(streamed_answer(HELLO))
    request = spec(**{name: value for name, value in fields.items() if name != "messages"})
    request.messages.extend(fields.get("messages", ()))
    call = call_of(request)
    await events(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == [named]
    with pytest.raises(errors.UnsupportedParameter) as refused:
        await events(make(), call_of(request, on_unsupported="reject"))
    assert refused.value.metadata["param"] == named


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"parallel_tool_calls": True},
        {"tool_choice": ToolChoice(mode="auto"), "tools": [Tool(function=FunctionTool(name="f"))]},
        {"tool_choice": ToolChoice(mode="none"), "tools": [Tool(function=FunctionTool(name="f"))]},
        {"response_format": ResponseFormat(type="text")},
        {"modalities": ["text"]},
        {"store": False},
        {"service_tier": "auto"},
        {"stream_options": StreamOptions(include_usage=True)},
        {"extra_json": '{"keep_alive": "5m"}'},
        {"reasoning_effort": "none"},
    ],
    ids=str,
)
async def test_what_ollama_does_anyway_is_nothing_to_tell(
    make: Make, upstream: Upstream, fields: dict[str, Any]
) -> None:
    upstream.script(streamed_answer(HELLO))
    await events(make(), call_of(spec(**fields), on_unsupported="reject"))


async def test_another_level_of_reasoning_is_told(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer(HELLO))
    call = call_of(spec(reasoning_effort="minimal"))
    await events(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == ["reasoning_effort"]
    assert (await upstream.received()).json()["think"] == "low"


async def test_encrypted_reasoning_of_another_vendor_is_told_and_never_refused(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer(HELLO))
    request = spec()
    request.messages.add(role=ROLE_ASSISTANT, text="Yes").reasoning_details.add(type="reasoning.encrypted", data="x")
    call = call_of(request, on_unsupported="reject")
    await events(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == ["messages[1].reasoning_details"]


async def test_unknown_fields_of_ollamas_own_are_sent(make: Make, upstream: Upstream) -> None:
    upstream.script(streamed_answer(HELLO))
    request = spec(tools=[NOTED], extra_format="ollama")
    request.messages.add(role=ROLE_USER, text="Hi", extra_json='{"tool_name": "f"}')
    await events(make(), call_of(request, on_unsupported="reject"))
    asked = (await upstream.received()).json()
    assert (asked["messages"][1]["tool_name"], asked["tools"][0]["function"]["note"]) == ("f", 1)


async def test_arguments_that_a_model_did_not_write_as_an_object_are_said_as_a_text(
    make: Make, upstream: Upstream
) -> None:
    upstream.script(streamed_answer([ended(line("Hi"))]))
    request = spec()
    request.messages.add(role=ROLE_ASSISTANT).tool_calls.add(id="c").function.arguments = "{"
    request.messages.add(role=ROLE_TOOL, text="1", tool_call_id="c")
    await events(make(), call_of(request))
    (call,) = (await upstream.received()).json()["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == {"INVALID_JSON": "{"}


async def test_what_is_on_its_disk_is_listed(make: Make, upstream: Upstream) -> None:
    details = {"family": "qwen3", "parameter_size": "8.2B"}
    entry = {"name": "qwen3:8b", "model": "qwen3:8b", "modified_at": "2026-05-10T08:06:48.639712648-07:00"}
    upstream.script(json_answer({"models": [{**entry, "size": 5, "details": details}, {"size": 1}, 7]}))
    (model,) = await make().list_models()
    assert (model.id, model.created) == ("qwen3:8b", 1_778_425_608)
    assert json.loads(model.extra_json) == {"size": 5, "details": details}
    assert (await upstream.received()).path == "/api/tags"


@pytest.mark.parametrize("document", [{"models": None}, {"models": []}])
async def test_an_empty_disk_is_no_fault(make: Make, upstream: Upstream, document: Any) -> None:
    upstream.script(json_answer(document))
    assert await make().list_models() == []


@pytest.mark.parametrize("document", [{}, [], "x", {"models": {}}], ids=str)
async def test_a_list_that_is_none_is_refused(make: Make, upstream: Upstream, document: Any) -> None:
    upstream.script(json_answer(document))
    with pytest.raises(errors.ProviderBroken):
        await make().list_models()


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_whatever_a_line_holds_it_is_an_answer_or_broken(seed: int, count: int) -> None:
    random = Random(seed)
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1}]}
    document = ended({**line("Hi", thinking="hm", calls=[called("f", "c1", a=1)]), "logprobs": [token]})
    for _ in range(count):
        mutate(document, random)
    refusals = Refusals("lab", ProviderConfig(kind="ollama", base_url="http://127.0.0.1:1"))
    with suppress(errors.ProviderError):
        fold([Decoder(refusals, "r").whole(json.dumps(document).encode())])


@given(data=st.binary(max_size=60), cut=st.integers(0, 60))
def test_lines_are_the_same_wherever_the_bytes_were_cut(data: bytes, cut: int) -> None:
    whole, parts = LineReader(100, "lab"), LineReader(100, "lab")
    expected = whole.feed(data) + whole.finish()
    assert parts.feed(data[:cut]) + parts.feed(data[cut:]) + parts.finish() == expected
    assert expected == [each for each in data.split(b"\n") if each.strip()]
