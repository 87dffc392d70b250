import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_TOOL, ROLE_USER
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway_core.call import Call, OnUnsupported, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.errors import (
    InvalidRequest,
    ProviderBroken,
    ProviderError,
    ProviderRefused,
    ProviderUnauthorized,
    UnsupportedParameter,
)
from gateway_core.providers.gemini import Provider
from gateway_core.providers.gemini import decoder as decoding
from gateway_core.providers.gemini.decoder import Decoder
from gateway_core.providers.gemini.family import EFFORTS, FAMILIES, family, thinking_config
from gateway_core.providers.gemini.listing import model_path
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event, EventReader
from tests.support.gemini_vendor import (
    called,
    detail,
    document,
    listed,
    said,
    status,
    streamed_answer,
    whole_answer,
)
from tests.support.json_mutation import mutate
from tests.support.upstream import Cut, Delay, Silence, Upstream

KEY = "AIza-hush-hush"
GOLDEN = Path(__file__).parents[2] / "golden/providers/gemini"
HELLO = document(said("Hello"), finish="STOP")


@pytest.fixture
async def provider(upstream: Upstream) -> AsyncIterator[Provider]:
    row = ProviderConfig(kind="gemini", base_url=upstream.base_url, api_key=SecretStr(KEY))
    opened = Provider("lab", row)
    yield opened
    await opened.close()


def call(
    *, stream: bool = False, model: str = "gemini-3-flash-preview", on_unsupported: OnUnsupported = "warn", **spec: Any
) -> Call[ChatCompletionSpec]:
    asked = ChatCompletionSpec(model="m", **{"messages": [{"role": ROLE_USER, "text": "Hi"}], **spec})
    target = Target("lab", model, on_unsupported)
    return Call("id", ChatCompletion(), asked, stream=stream, target=target)


async def answered(provider: Provider, asked: Call[ChatCompletionSpec]) -> list[ChatCompletionChunk]:
    return [event async for event in await provider.open_chat_completion(asked)]


def decoder() -> Decoder:
    refusals = Refusals("lab", ProviderConfig(kind="gemini", base_url="http://127.0.0.1:1"))
    return Decoder(refusals, "id", 1)


async def test_the_key_is_in_a_header_of_its_own(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(HELLO))
    await answered(provider, call())
    (asked,) = upstream.requests
    assert asked.headers["x-goog-api-key"] == KEY
    assert "authorization" not in asked.headers
    assert KEY not in asked.path


async def test_what_the_host_calls_an_answer_is_known_once_it_is_open(provider: Provider, upstream: Upstream) -> None:
    for stream, answer in ((False, whole_answer(HELLO)), (True, streamed_answer([HELLO]))):
        upstream.script(answer)
        asked = call(stream=stream)
        events = await provider.open_chat_completion(asked)
        assert asked.upstream_request_id == "resp-1"
        await events.aclose()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gemini-3-flash", "/models/gemini-3-flash"),
        ("models/gemini-3-flash", "/models/gemini-3-flash"),
        ("tunedModels/mine", "/tunedModels/mine"),
        ("../files?x=1#y", "/models/..%2Ffiles%3Fx%3D1%23y"),
    ],
)
def test_a_models_name_stays_within_its_place_in_the_path(name: str, path: str) -> None:
    assert model_path(name) == path


# ---- how answers end ----


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_prompt_is_refused_with_the_vendors_reason(
    provider: Provider, upstream: Upstream, stream: bool
) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}
    upstream.script(streamed_answer([blocked]) if stream else whole_answer(blocked))
    with pytest.raises(ProviderRefused, match="SAFETY") as raised:
        await answered(provider, call(stream=stream))
    assert raised.value.metadata["upstream_code"] == "content_filter"
    assert raised.value.metadata["upstream_type"] == "SAFETY"
    assert not raised.value.retryable


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_the_model_has_spoilt_may_be_tried_elsewhere(
    provider: Provider, upstream: Upstream, stream: bool, reason: str
) -> None:
    spoilt = document(finish=reason)
    spoilt["candidates"][0]["finishMessage"] = f"Malformed function call: print({KEY})"
    upstream.script(streamed_answer([spoilt]) if stream else whole_answer(spoilt))
    with pytest.raises(ProviderBroken, match=f"{reason}: Malformed function call") as raised:
        await answered(provider, call(stream=stream))
    assert raised.value.retryable
    assert KEY not in raised.value.message


async def test_a_request_that_lacks_a_signature_is_not_tried_again(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(document(finish="MISSING_THOUGHT_SIGNATURE")))
    with pytest.raises(ProviderRefused, match="thought signature") as raised:
        await answered(provider, call())
    assert not raised.value.retryable


async def test_a_stream_without_an_end_is_broken_however_it_stops(provider: Provider, upstream: Upstream) -> None:
    for rest in ([], [Cut()]):
        upstream.script(streamed_answer([document(said("Hel")), *rest]))
        events = await provider.open_chat_completion(call(stream=True))
        assert (await anext(events)).choices[0].delta.content == "Hel"
        with pytest.raises(ProviderBroken):
            await anext(events)


async def test_a_whole_answer_that_does_not_say_why_it_ended_is_broken(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(document(said("Hel"))))
    with pytest.raises(ProviderBroken, match="why it ended"):
        await answered(provider, call())


async def test_a_stream_ends_with_its_answer_though_the_connection_stays(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.script(streamed_answer([HELLO, Silence()]))
    (event,) = await answered(provider, call(stream=True))
    assert event.choices[0].finish_reason == "stop"
    await asyncio.wait_for((await upstream.received()).closed.wait(), 1)


async def test_a_host_that_says_of_every_piece_why_the_answer_ended_is_read_to_the_end(
    provider: Provider, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "TRAILER_SECONDS", 0.05)
    pieces = [document(said(text), finish="STOP") for text in ("He", "ll", "o")]
    # Longer than what may follow an end is waited for.
    upstream.script(streamed_answer([pieces[0], pieces[1], Delay(0.2), pieces[2]]))
    folded = fold(await answered(provider, call(stream=True)))
    assert folded.choices[0].message.content == "Hello"


async def test_a_stream_of_several_answers_waits_for_all(provider: Provider, upstream: Upstream) -> None:
    second = document(said("Ho"), finish="STOP", index=1)
    upstream.script(streamed_answer([document(said("Hi"), finish="STOP"), second]))
    folded = fold(await answered(provider, call(stream=True, n=2)))
    assert [choice.message.content for choice in folded.choices] == ["Hi", "Ho"]


# ---- refusals ----


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_that_google_does_not_know_is_headgates_own_trouble(
    provider: Provider, upstream: Upstream, stream: bool
) -> None:
    refusal = status(
        400, "INVALID_ARGUMENT", f"API key {KEY} not valid.", detail("ErrorInfo", reason="API_KEY_INVALID")
    )
    upstream.script(whole_answer(refusal, 400))
    with pytest.raises(ProviderUnauthorized) as raised:
        await answered(provider, call(stream=stream))
    assert KEY not in raised.value.message


@pytest.mark.parametrize(("header", "seconds"), [({}, 34.5), ({"retry-after": "3"}, 3.0)])
async def test_how_long_to_wait_is_in_the_header_or_else_in_the_body(
    provider: Provider, upstream: Upstream, header: dict[str, str], seconds: float
) -> None:
    wait = detail("RetryInfo", retryDelay="34.5s")
    refusal = status(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", detail("QuotaFailure", violations=[]), wait)
    (head, body) = whole_answer(refusal, 429)
    assert isinstance(head, bytes)
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in header.items())
    upstream.script([head.removesuffix(b"\r\n") + lines + b"\r\n", body])
    with pytest.raises(ProviderRefused, match="Quota") as raised:
        await answered(provider, call())
    assert raised.value.retry_after_seconds == seconds
    assert raised.value.metadata["upstream_type"] == "RESOURCE_EXHAUSTED"
    assert raised.value.retryable


@pytest.mark.parametrize("delay", ["", "s", "-1s", "1e9s", "soon", 34, None, {}, ["1s"]])
async def test_a_wait_that_makes_no_sense_is_none(provider: Provider, upstream: Upstream, delay: Any) -> None:
    refusal = status(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", detail("RetryInfo", retryDelay=delay))
    upstream.script(whole_answer(refusal, 429))
    with pytest.raises(ProviderRefused) as raised:
        await answered(provider, call())
    assert raised.value.retry_after_seconds is None


async def test_a_failure_inside_a_stream_is_told_by_its_own_status(provider: Provider, upstream: Upstream) -> None:
    for code, word in ((503, "UNAVAILABLE"), (500, "INTERNAL"), (429, "RESOURCE_EXHAUSTED")):
        upstream.script(streamed_answer([document(said("Hel")), status(code, word, "Not now.")]))
        events = await provider.open_chat_completion(call(stream=True))
        await anext(events)
        with pytest.raises(ProviderRefused, match="Not now") as raised:
            await anext(events)
        assert raised.value.metadata["upstream_status"] == str(code)


# ---- what is said otherwise, and what is left out ----

SCHEMA = json.dumps({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}})


@pytest.mark.parametrize("on_unsupported", ["warn", "reject", "drop"])
async def test_a_schema_is_cleaned_and_never_refused(
    provider: Provider, upstream: Upstream, on_unsupported: OnUnsupported
) -> None:
    upstream.script(whole_answer(HELLO))
    asked = call(on_unsupported=on_unsupported, tools=[{"function": {"name": "f", "parameters_json": SCHEMA}}])
    await answered(provider, asked)
    told = [(rewrite.name, "pattern" in rewrite.reason) for rewrite in asked.rewrites]
    assert told == ([] if on_unsupported == "drop" else [("tools[0].function.parameters", True)])


async def test_an_effort_is_not_made_less_where_that_is_to_be_refused(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(HELLO))
    warned = call(reasoning_effort="max")
    await answered(provider, warned)
    assert [tuple(rewrite) for rewrite in warned.rewrites] == [("reasoning_effort", "changed from max to high")]
    with pytest.raises(UnsupportedParameter) as raised:
        await answered(provider, call(reasoning_effort="max", on_unsupported="reject"))
    assert raised.value.metadata["param"] == "reasoning_effort"
    with pytest.raises(InvalidRequest):
        await answered(provider, call(reasoning_effort="much"))


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row.begins or "newer")
@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_is_one_that_the_model_takes(row: Any, effort: str) -> None:
    assert family(row.begins) == row
    if "reasoning_effort" in row.unsupported:
        return
    config, _ = thinking_config(effort, row)
    assert config.get("thinkingLevel", row.levels[0] if row.levels else None) in (*row.levels, None)
    if row.budget is not None:
        tokens = config["thinkingBudget"]
        assert isinstance(tokens, int)
        assert tokens == 0 or row.budget[0] <= tokens <= row.budget[1]
    assert config.get("includeThoughts", False) == (effort != "none")


@pytest.mark.parametrize(
    ("model", "spec", "names"),
    [
        (
            "gemini-3-flash",
            {"parallel_tool_calls": False, "logit_bias": {"1": 2}},
            ["logit_bias", "parallel_tool_calls"],
        ),
        ("gemini-3-flash", {"parallel_tool_calls": True, "stream_options": {"include_usage": True}}, []),
        ("gemini-3-flash", {"seed": 2**40, "service_tier": "scale"}, ["seed", "service_tier"]),
        ("gemini-2.0-flash", {"reasoning_effort": "low"}, ["reasoning_effort"]),
        ("gemini-9-flash", {"prefill": "Once"}, ["prefill"]),
        ("gemini-2.5-flash", {"prefill": "Once"}, []),
        ("gemini-3-flash", {"extra_json": '{"x": 1}'}, ["x"]),
        ("gemini-3-flash", {"extra_json": '{"google": {"cached_content": "cachedContents/a"}}'}, []),
        ("gemini-3-flash", {"extra_json": '{"extra_body": {"google": {"y": 1}}}'}, ["extra_body.google.y"]),
        ("gemini-3-flash", {"extra_json": '{"cachedContent": "a"}', "extra_format": "gemini"}, []),
        ("gemini-3-flash", {"web_search_options": {}}, []),
        (
            "gemini-3-flash",
            {"web_search_options": {}, "tools": [{"function": {"name": "f"}}]},
            ["web_search_options"],
        ),
        ("gemini-3-flash", {"tools": [{"custom": {"name": "sh"}}]}, ["tools[0].custom"]),
    ],
)
async def test_what_has_no_place_is_told(
    provider: Provider, upstream: Upstream, model: str, spec: dict[str, Any], names: list[str]
) -> None:
    upstream.script(whole_answer(HELLO))
    asked = call(model=model, **spec)
    await answered(provider, asked)
    assert [rewrite.name for rewrite in asked.rewrites] == names


async def test_arguments_that_nest_too_deep_are_sent_as_a_text(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(HELLO))
    deep = '{"a":' * 500 + "1" + "}" * 500
    called_before = {"role": ROLE_ASSISTANT, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": deep}}]}
    asked = call(messages=[{"role": ROLE_USER, "text": "Hi"}, called_before])
    await answered(provider, asked)
    assert [rewrite.name for rewrite in asked.rewrites] == ["messages[1].tool_calls[0].function.arguments"]
    assert upstream.requests[0].json()["contents"][1]["parts"][0]["functionCall"]["args"] == {"arguments": deep}


async def test_a_result_of_no_call_is_refused_by_its_place(provider: Provider) -> None:
    talk = [{"role": ROLE_USER, "text": "Hi"}, {"role": ROLE_TOOL, "tool_call_id": "lost", "text": "1"}]
    with pytest.raises(InvalidRequest) as raised:
        await answered(provider, call(messages=talk))
    assert raised.value.metadata["param"] == "messages[1].tool_call_id"


async def test_what_the_model_said_in_several_messages_is_one_turn(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(HELLO))
    turns: list[dict[str, Any]] = [
        {"role": ROLE_USER, "text": "Hi"},
        {"role": ROLE_ASSISTANT, "text": "Let me see."},
        {"role": ROLE_ASSISTANT, "tool_calls": [{"id": "c", "function": {"name": "now"}}]},
        {"role": ROLE_ASSISTANT, "tool_calls": [{"id": "d", "function": {"name": "now"}}]},
        {"role": ROLE_TOOL, "tool_call_id": "c", "text": "noon"},
        {"role": ROLE_SYSTEM, "text": "Be brief."},
        {"role": ROLE_TOOL, "tool_call_id": "d", "text": "noon"},
    ]
    await answered(provider, call(messages=turns))
    contents = (await upstream.received()).json()["contents"]
    assert [(content["role"], len(content["parts"])) for content in contents] == [
        ("user", 1),
        ("model", 3),
        ("user", 2),
    ]
    assert [next(iter(part)) for part in contents[1]["parts"]] == ["text", "functionCall", "functionCall"]


async def test_reasoning_of_another_vendor_is_not_sent(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(HELLO))
    signed = {"type": "reasoning.text", "format": "anthropic-claude-v1", "text": "Hm", "signature": "x"}
    spoken = {"role": ROLE_ASSISTANT, "text": "Yes", "reasoning": "Hm", "reasoning_details": [signed]}
    await answered(
        provider, call(messages=[{"role": ROLE_USER, "text": "Hi"}, spoken, {"role": ROLE_USER, "text": "?"}])
    )
    (asked,) = upstream.requests
    assert asked.json()["contents"][1] == {"role": "model", "parts": [{"text": "Yes"}]}


# ---- lists ----


async def test_models_are_listed_from_all_pages(provider: Provider, upstream: Upstream) -> None:
    other = {"name": "models/embedder", "supportedGenerationMethods": ["embedContent"]}
    first = listed("gemini-a", next_page="p 2")
    first["models"].append(other)
    upstream.script(whole_answer(first), whole_answer(listed("gemini-b")))
    models = await provider.list_models()
    assert [model.id for model in models] == ["gemini-a", "gemini-b"]
    assert (models[0].context_length, models[0].max_output_tokens) == (1048576, 65536)
    paths = [request.path.partition("?")[2] for request in upstream.requests]
    assert paths == ["pageSize=1000", "pageSize=1000&pageToken=p%202"]


async def test_pages_that_never_end_are_not_read_for_ever(provider: Provider, upstream: Upstream) -> None:
    upstream.script(whole_answer(listed("gemini-a", next_page="again")))
    assert len(await provider.list_models()) == 20


@pytest.mark.parametrize("body", [[], {"models": {}}, {"models": [1]}, {"models": [{"name": 5}]}, "x"])
async def test_a_list_that_makes_no_sense_is_told(provider: Provider, upstream: Upstream, body: Any) -> None:
    upstream.script(whole_answer(body))
    with pytest.raises(ProviderBroken):
        await provider.list_models()


# ---- anything at all ----


@given(st.sampled_from(sorted(GOLDEN.glob("*.answer.json"))), st.integers(0, 2**32), st.integers(1, 3))
def test_whatever_a_host_answers_is_read_or_told(path: Path, seed: int, changes: int) -> None:
    answer, random = json.loads(path.read_text(encoding="utf-8")), Random(seed)
    for _ in range(changes):
        mutate(answer, random)
    data = json.dumps(answer).encode()
    try:
        event = decoder().whole(data)
    except ProviderError:
        pass
    else:
        assert fold([event]).choices
    with suppress(ProviderError):
        decoder().event(Event("message", data))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.answer.sse")), ids=lambda path: path.name.partition(".")[0])
def test_a_stream_is_whole_nowhere_before_its_end(path: Path) -> None:
    data = path.read_bytes()
    for position in range(len(data.rstrip())):
        reader, answer = EventReader(1 << 20, "lab"), decoder()
        with suppress(ProviderBroken):
            for event in reader.feed(data[:position]) + reader.finish():
                answer.event(event)
        assert not answer.is_whole, position


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"1", b"{}", b'{"candidates":[]}', b"[" * 300 + b"]" * 300])
def test_what_is_no_answer_is_told(data: bytes) -> None:
    with pytest.raises(ProviderBroken):
        decoder().whole(data)


@pytest.mark.parametrize("grounding", [5, [], {"groundingChunks": 1}, {"groundingSupports": [{"segment": 1}]}])
def test_grounding_that_makes_no_sense_leaves_the_answer_as_it_is(grounding: Any) -> None:
    answer = document(said("Hello"), finish="STOP")
    answer["candidates"][0]["groundingMetadata"] = grounding
    event = decoder().whole(json.dumps(answer).encode())
    assert event.choices[0].delta.content == "Hello"
    assert not event.choices[0].delta.annotations


def test_calls_without_ids_have_ids_of_their_own() -> None:
    event = decoder().whole(json.dumps(document(called("f"), called("g"), finish="STOP")).encode())
    ids = [call.id for call in event.choices[0].delta.tool_calls]
    assert len(set(ids)) == 2
    assert all(ids)
