"""When an answer of an OpenAI-compatible host has begun, and when it has ended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage

from gateway_core import errors
from gateway_core.call import Call, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig, TimeoutsConfig
from gateway_core.known.hosts import Quirks
from gateway_core.providers import Provider, load
from gateway_core.providers.openai import decoder
from gateway_core.services.chat_completion import ChatCompletion
from rest_bridge.batches import batches
from tests.support.openai_vendor import completion, event, streamed, usage_event
from tests.support.upstream import Cut, Reset, Silence, Upstream, Wait, answer, json_answer, reached, sse_answer

DONE = b"data: [DONE]\n\n"


def new_call(*, stream: bool = True, **fields: Any) -> Call[ChatCompletionSpec]:
    spec = ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="Hi")], **fields)
    return Call("r1", ChatCompletion(), spec, stream=stream, target=Target("lab", "tiny"))


@pytest.fixture
async def lab(upstream: Upstream) -> AsyncIterator[Provider]:
    """The provider, which may be silent for 0.2 seconds."""
    timeouts = TimeoutsConfig(idle_seconds=0.2)
    loaded = load("lab", ProviderConfig(kind="openai", base_url=upstream.base_url, timeouts=timeouts))
    yield loaded
    await loaded.close()


def text(chunks: Sequence[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content for chunk in chunks for choice in chunk.choices)


async def said(lab: Provider, call: Call[ChatCompletionSpec]) -> list[ChatCompletionChunk]:
    async with aclosing(await lab.open_chat_completion(call)) as events:
        return [event async for event in events]


async def test_opening_waits_for_the_first_event_and_no_longer(upstream: Upstream, lab: Provider) -> None:
    begin, go_on = asyncio.Event(), asyncio.Event()
    upstream.script(sse_answer([Wait(begin), event({"content": "Hel"}), Wait(go_on), event({"content": "lo"}, "stop")]))
    opening = asyncio.ensure_future(lab.open_chat_completion(new_call()))
    await upstream.received()
    await asyncio.sleep(0.05)
    assert not opening.done()
    begin.set()
    async with aclosing(await opening) as events:
        assert text([await anext(events)]) == "Hel"
        go_on.set()
        assert text([event async for event in events]) == "lo"


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([Cut()], errors.ProviderBroken),
        ([Reset()], errors.ProviderBroken),
        ([b"data: {oops\n\n"], errors.ProviderBroken),
        ([Silence()], errors.ProviderTimeout),
        ([b": ping\n\n", Silence()], errors.ProviderTimeout),
        ([{"error": {"message": "No.", "code": "rate_limit_exceeded"}}], errors.ProviderRefused),
        ([{"detail": "Not Found"}], errors.ProviderBroken),
        ([{"detail": "Not Found"}, DONE], errors.ProviderBroken),
        ([DONE], errors.ProviderBroken),
        ([event({}, "error"), DONE], errors.ProviderBroken),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_fault_before_the_first_event_is_raised_by_the_opening(
    upstream: Upstream, lab: Provider, steps: Sequence[Any], kind: type[errors.GatewayError], stream: bool
) -> None:
    upstream.script(sse_answer(steps, done=False))
    with pytest.raises(kind):
        await lab.open_chat_completion(new_call(stream=stream))


async def test_what_comes_before_the_answer_is_held_and_told_first(upstream: Upstream, lab: Provider) -> None:
    upstream.script(sse_answer([{"x_progress": 0.5}, {"x_progress": 1}, *streamed("Hello")]))
    chunks = await said(lab, new_call())
    assert [chunk.extra_json for chunk in chunks[:2]] == ['{"x_progress":0.5}', '{"x_progress":1}']
    assert text(chunks) == "Hello"


async def test_a_host_that_tells_much_before_its_answer_is_held_only_so_long(
    upstream: Upstream, lab: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.stream.HELD_AT_MOST", 3)
    go_on = asyncio.Event()
    upstream.script(sse_answer([{"x_progress": 1}] * 3 + [Wait(go_on), *streamed("Hello")]))
    async with aclosing(await asyncio.wait_for(lab.open_chat_completion(new_call()), 5)) as events:
        go_on.set()
        assert text([event async for event in events]) == "Hello"


async def test_usage_opens_an_answer(upstream: Upstream, lab: Provider) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([usage_event(), Wait(go_on), event({"content": "a"}, "stop")]))
    async with aclosing(await lab.open_chat_completion(new_call())) as events:
        assert (await anext(events)).usage.total_tokens == 13
        go_on.set()
        assert text([event async for event in events]) == "a"


async def test_closing_an_opened_answer_that_nobody_read_closes_its_connection(
    upstream: Upstream, lab: Provider
) -> None:
    upstream.script(sse_answer([event({"content": "a"}), Silence()]))
    await (await lab.open_chat_completion(new_call())).aclose()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


async def test_leaving_while_the_first_event_is_awaited_closes_the_connection(
    upstream: Upstream, lab: Provider
) -> None:
    begun = asyncio.Event()
    upstream.script(sse_answer([{"x_progress": 1}, Wait(begun)]))
    opening = asyncio.ensure_future(lab.open_chat_completion(new_call()))
    received = await upstream.received()
    await reached(lambda: received.bytes_written > 0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(received.closed.wait(), 1)


async def test_a_unary_call_that_is_answered_in_chunks_is_read_to_its_end_by_the_opening(
    upstream: Upstream, lab: Provider
) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Cut()], done=False), sse_answer(streamed("Hel", "lo")))
    with pytest.raises(errors.ProviderBroken):
        await lab.open_chat_completion(new_call(stream=False))
    assert text(await said(lab, new_call(stream=False))) == "Hello"


@pytest.mark.parametrize("end", [[], [Cut()], [Reset()]])
async def test_fewer_answers_than_were_asked_for_are_a_broken_answer_where_the_host_does_not_say_that_it_is_done(
    upstream: Upstream, lab: Provider, end: Sequence[Any]
) -> None:
    upstream.script(sse_answer([event({"content": "a"}, "stop"), usage_event(), *end], done=False))
    with pytest.raises(errors.ProviderBroken):
        await said(lab, new_call(n=2))


async def test_fewer_answers_than_were_asked_for_are_taken_where_the_host_says_that_it_is_done(
    upstream: Upstream, lab: Provider
) -> None:
    upstream.script(sse_answer(streamed("Hello")), json_answer(completion({"content": "Hello"})))
    assert text(await said(lab, new_call(n=2))) == "Hello"
    assert text(await said(lab, new_call(n=2, stream=False))) == "Hello"


def choice(**fields: Any) -> dict[str, Any]:
    return {"id": "c1", "created": 1, "model": "tiny", "choices": [{"index": 0, **fields}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (choice(finish_reason="stop"), "without a message"),
        (choice(finish_reason="stop", message=None), "without a message"),
        (choice(finish_reason="stop", message="Hi"), "without a message"),
        (choice(finish_reason="stop", text="Hi"), "without a message"),
        ({"choices": []}, "without choices"),
        (choice(finish_reason="error", message={"content": "Hel"}), "ended its answer with an error"),
        (choice(finish_reason="error", message={}, error={"message": "On fire."}), "On fire"),
    ],
)
async def test_a_whole_answer_that_says_nothing_or_failed_is_broken(
    upstream: Upstream, lab: Provider, document: Any, message: str
) -> None:
    upstream.script(json_answer(document))
    for stream in (True, False):
        with pytest.raises(errors.ProviderBroken, match=message):
            await lab.open_chat_completion(new_call(stream=stream))


async def test_a_stream_whose_choice_ends_with_an_error_fails_after_what_was_said(
    upstream: Upstream, lab: Provider
) -> None:
    last = event({}, "error")
    last["choices"][0]["error"] = {"code": 502, "message": "The host went away."}
    for failed, kind in ((event({}, "error"), errors.ProviderBroken), (last, errors.ProviderRefused)):
        upstream.script(sse_answer([event({"content": "Hel"}), failed]))
        async with aclosing(await lab.open_chat_completion(new_call())) as events:
            assert text([await anext(events)]) == "Hel"
            with pytest.raises(kind):
                await anext(events)


async def test_a_missing_finish_reason_is_taken_where_the_host_tells_none(upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hello"})]), json_answer(choice(message={"content": "Hello"})))
    lab = load("lab", ProviderConfig(kind="openai", base_url=upstream.base_url, quirks=Quirks(finish_reasons=False)))
    for stream in (True, False):
        completed = fold(await said(lab, new_call(stream=stream)))
        assert completed.choices[0].message.content == "Hello"
        assert not completed.choices[0].HasField("finish_reason")
    await lab.close()


async def test_a_consumer_that_is_busy_while_the_end_is_awaited_is_not_disturbed(
    upstream: Upstream, lab: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "USAGE_SECONDS", 0.05)
    upstream.script(sse_answer([event({"content": "Hello"}, "stop"), Silence()]))
    events = await lab.open_chat_completion(new_call())
    heard: list[ChatCompletionChunk] = []
    async with aclosing(batches(events)) as groups:
        async for group in groups:
            heard += group
            # The next read is suspended in this very task, and what ends it is another matter than this wait.
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
            await asyncio.sleep(0.05)
    assert text(heard) == "Hello"


async def test_what_came_while_a_consumer_was_busy_is_read(
    upstream: Upstream, lab: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "USAGE_SECONDS", 0.1)
    upstream.script(sse_answer([event({"content": "Hello"}, "stop"), usage_event(), Silence()]))
    heard: list[ChatCompletionChunk] = []
    async with aclosing(batches(await lab.open_chat_completion(new_call()))) as groups:
        async for group in groups:
            heard += group
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert text(heard) == "Hello"
    assert heard[-1].usage.total_tokens == 13


async def test_a_list_of_models_that_is_refused_tells_no_key(upstream: Upstream) -> None:
    key = "sk-secret-0123456789"
    upstream.script(answer([f"no{key}no".encode()], status=400))
    loaded = load("lab", ProviderConfig(kind="openai", base_url=upstream.base_url, api_key=key))  # type: ignore[arg-type]
    with pytest.raises(errors.ProviderRefused) as failed:
        await loaded.list_models()
    await loaded.close()
    assert failed.value.message == "no***no"


@pytest.mark.parametrize(
    ("told", "kept"),
    [("req_1", "req_1"), (None, ""), ("r" * 200, "r" * 200), ("r" * 201, ""), ("r\tr", ""), ("r\u00e9", "")],
)
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_host_calls_the_request_is_known_once_it_answers(
    upstream: Upstream, lab: Provider, told: str | None, kept: str, status: int, stream: bool
) -> None:
    headers = {} if told is None else {"X-Request-Id": told}
    if stream and status == 200:
        upstream.script(sse_answer(streamed("Hi"), headers=headers))
    else:
        upstream.script(json_answer(completion({"content": "Hi"}), status=status, headers=headers))
    call = new_call(stream=stream)
    try:
        await said(lab, call)
    except errors.ProviderRefused:
        assert status == 429
    assert call.upstream_request_id == kept
