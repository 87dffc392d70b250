"""One body over every file of gateway_core/providers: what each must do, whatever its wire format."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core import providers
from gateway_core.call import Call, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.errors import (
    GatewayError,
    ProviderRefused,
    ProviderUnauthorized,
    ProviderUnreachable,
    UnsupportedParameter,
)
from gateway_core.providers import Provider
from gateway_core.services.chat_completion import ChatCompletion
from tests.support import anthropic_vendor, bedrock_vendor, gemini_vendor, ollama_vendor
from tests.support.upstream import Answer, Silence, Upstream, json_answer, refusing, sse_answer

# What a vendor of the wire format says; None: the kind has no upstream.
Says = Callable[[bool], Answer]


def anthropic_says(stream: bool) -> Answer:
    usage = {"input_tokens": 2, "output_tokens": 2}
    said = anthropic_vendor.message(anthropic_vendor.text("Hello there"), usage=usage)
    return anthropic_vendor.streamed_answer(said) if stream else anthropic_vendor.whole_answer(said)


def openai_says(stream: bool) -> Answer:
    head = {"id": "c-1", "created": 1, "model": "tiny"}
    usage = {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}
        return json_answer({**head, "choices": [choice], "usage": usage})
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hello"}, None),
        ({"content": " there"}, None),
        ({}, "stop"),
    ]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas
    ]
    return sse_answer([*chunks, {**head, "choices": [], "usage": usage}])


def ollama_says(stream: bool) -> Answer:
    end = ollama_vendor.ended(None if stream else ollama_vendor.line("Hello there"), prompt=2, completion=2)
    if not stream:
        return ollama_vendor.whole_answer(end)
    return ollama_vendor.streamed_answer([ollama_vendor.line("Hello"), ollama_vendor.line(" there"), end])


def gemini_says(stream: bool) -> Answer:
    used = {"promptTokenCount": 2, "candidatesTokenCount": 2, "totalTokenCount": 4}
    said, document = gemini_vendor.said, gemini_vendor.document
    if not stream:
        return gemini_vendor.whole_answer(document(said("Hello there"), finish="STOP", usageMetadata=used))
    end = document(said(" there"), finish="STOP", usageMetadata=used)
    return gemini_vendor.streamed_answer([document(said("Hello")), end])


def bedrock_says(stream: bool) -> Answer:
    used = bedrock_vendor.usage(2, 2)
    if not stream:
        return bedrock_vendor.whole_answer(bedrock_vendor.completion({"text": "Hello there"}, used=used))
    said = bedrock_vendor.events(bedrock_vendor.said("Hello", " there"), used=used)
    head, start, first, *rest = bedrock_vendor.streamed_answer(said)
    assert isinstance(start, bytes)
    assert isinstance(first, bytes)
    return [head, start + first, *rest]


SAYS: dict[str, Says | None] = {
    "anthropic": anthropic_says,
    "bedrock": bedrock_says,
    "echo": None,
    "gemini": gemini_says,
    "ollama": ollama_says,
    "openai": openai_says,
}
KINDS = sorted(SAYS)
WITH_UPSTREAM = [kind for kind in KINDS if SAYS[kind]]


def config(kind: str, upstream: Upstream) -> ProviderConfig:
    base_url = upstream.base_url if SAYS[kind] else None
    return ProviderConfig(kind=kind, base_url=base_url, api_key="sk-hush")  # type: ignore[arg-type]


def call(*, stream: bool, **spec: Any) -> Call[ChatCompletionSpec]:
    asked = ChatCompletionSpec(model="m", messages=[{"role": ROLE_USER, "text": "Hello there"}], **spec)
    return Call("id", ChatCompletion(), asked, stream=stream, target=Target("lab", "tiny"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(kind: str, upstream: Upstream) -> AsyncIterator[Provider]:
    loaded = providers.load("lab", config(kind, upstream))
    yield loaded
    await loaded.close()


def test_every_file_has_its_case_and_its_name_in_the_configuration() -> None:
    folder = Path(providers.__file__).parent
    files = {path.stem for path in folder.iterdir() if path.name not in {"__init__.py", "__pycache__"}}
    assert files == set(KINDS) == set(providers.KINDS)
    assert set(get_args(ProviderConfig.model_fields["kind"].annotation)) == files


@pytest.mark.parametrize("stream", [False, True])
async def test_it_answers(provider: Provider, kind: str, stream: bool, upstream: Upstream) -> None:
    says = SAYS[kind]
    if says:
        upstream.script(says(stream))
    events = [event async for event in await provider.open_chat_completion(call(stream=stream))]
    answer = fold(events)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 2)
    assert len({event.id for event in events}) == 1
    assert (len(events) > 1) == stream


async def test_a_stream_folded_is_the_unary_answer(provider: Provider, kind: str, upstream: Upstream) -> None:
    answers = []
    for stream in (False, True):
        says = SAYS[kind]
        if says:
            upstream.script(says(stream))
        answer = fold([event async for event in await provider.open_chat_completion(call(stream=stream))])
        answer.id, answer.created = "", 0
        answers.append(answer)
    assert answers[0] == answers[1]


async def test_what_it_cannot_take_is_refused_or_told(provider: Provider, kind: str, upstream: Upstream) -> None:
    says = SAYS[kind]
    if says:
        upstream.script(says(False))
    told = call(stream=False, seed=7)
    told.target = Target("lab", "tiny", "warn", frozenset({"seed"}))
    assert [event async for event in await provider.open_chat_completion(told)]
    assert [rewrite.name for rewrite in told.rewrites] == ["seed"]
    assert all(b"seed" not in request.body for request in upstream.requests)
    dropped = call(stream=False, seed=7)
    dropped.target = Target("lab", "tiny", "drop", frozenset({"seed"}))
    assert [event async for event in await provider.open_chat_completion(dropped)]
    assert dropped.rewrites == []
    asked = len(upstream.requests)
    refused = call(stream=False, seed=7)
    refused.target = Target("lab", "tiny", "reject", frozenset({"seed"}))
    with pytest.raises(UnsupportedParameter) as failure:
        await provider.open_chat_completion(refused)
    assert failure.value.metadata == {"param": "seed", "provider": "lab"}
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (400, ProviderRefused),
        (401, ProviderUnauthorized),
        (403, ProviderRefused),
        (404, ProviderRefused),
        (429, ProviderRefused),
        (500, ProviderRefused),
        (529, ProviderRefused),
    ],
)
@pytest.mark.parametrize("kind", WITH_UPSTREAM)
async def test_a_refusal_is_raised_by_the_opening(
    provider: Provider, upstream: Upstream, status: int, failure: type[GatewayError], stream: bool
) -> None:
    upstream.script(json_answer({"error": {"message": "No: sk-hush."}}, status=status, headers={"retry-after": "3"}))
    with pytest.raises(failure) as raised:
        await provider.open_chat_completion(call(stream=stream))
    assert raised.value.metadata["upstream_status"] == str(status)
    assert "sk-hush" not in raised.value.message
    assert str(upstream.port) not in raised.value.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", WITH_UPSTREAM)
async def test_a_host_that_is_not_there_is_raised_by_the_opening(kind: str, stream: bool) -> None:
    with refusing() as base_url:
        loaded = providers.load("lab", ProviderConfig(kind=kind, base_url=base_url, api_key="k"))  # type: ignore[arg-type]
        with pytest.raises(ProviderUnreachable):
            await loaded.open_chat_completion(call(stream=stream))
        await loaded.close()


@pytest.mark.parametrize("kind", WITH_UPSTREAM)
async def test_a_caller_who_leaves_closes_the_connection(provider: Provider, kind: str, upstream: Upstream) -> None:
    says = SAYS[kind]
    assert says is not None
    head, first, *_ = says(True)
    upstream.script([head, first, Silence()])
    events = await provider.open_chat_completion(call(stream=True))
    await anext(events)
    await events.aclose()
    await asyncio.wait_for((await upstream.received()).closed.wait(), 1)


@pytest.mark.parametrize("kind", WITH_UPSTREAM)
async def test_events_that_nobody_read_hold_no_connection(provider: Provider, kind: str, upstream: Upstream) -> None:
    says = SAYS[kind]
    assert says is not None
    head, first, *_ = says(True)
    upstream.script([head, first, Silence()])
    events = await provider.open_chat_completion(call(stream=True))
    await events.aclose()
    await asyncio.wait_for((await upstream.received()).closed.wait(), 1)
