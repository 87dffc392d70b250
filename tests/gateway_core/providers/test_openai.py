"""The provider `openai` against a vendor on raw sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec, StreamOptions
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage, ContentPart, ContentParts
from headgate.v1.model_pb2 import Model

from gateway_core import errors
from gateway_core.call import Call, OnUnsupported, Rewrite, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers import Provider, load
from gateway_core.providers.openai import decoder
from gateway_core.services.chat_completion import ChatCompletion
from tests.support.upstream import Cut, Reset, Silence, Step, Upstream, Wait, answer, json_answer, reached, sse_answer

KEY = "sk-secret-0123456789"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def spec(**fields: Any) -> ChatCompletionSpec:
    return ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="Hi")], **fields)


def call_of(
    request: ChatCompletionSpec,
    *,
    stream: bool = True,
    on_unsupported: OnUnsupported = "warn",
    unsupported: Sequence[str] = (),
) -> Call[ChatCompletionSpec]:
    call = Call(request_id="r1", operation=ChatCompletion(), asked=request, stream=stream)
    call.target = Target("lab", "tiny", on_unsupported, frozenset(unsupported))
    return call


def delta(content: str | None = None, finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    said = {} if content is None else {"content": content}
    choice = {"index": index, "delta": {**said, **fields}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}


def usage_chunk(**fields: Any) -> dict[str, Any]:
    return {"id": "c1", "created": 1, "model": "tiny", "choices": [], "usage": USAGE, **fields}


def whole(content: str = "Hello") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice], "usage": USAGE}


@pytest.fixture
async def make(upstream: Upstream) -> AsyncIterator[Callable[..., Provider]]:
    """Makes providers of the vendor, and closes them."""
    made: list[Provider] = []

    def provider(**fields: Any) -> Provider:
        row = {"kind": "openai", "base_url": upstream.base_url, "api_key": KEY, **fields}
        made.append(load("lab", ProviderConfig.model_validate(row)))
        return made[-1]

    yield provider
    for each in made:
        await each.close()


Make = Callable[..., Provider]


async def events(provider: Provider, call: Call[ChatCompletionSpec]) -> list[ChatCompletionChunk]:
    said: list[ChatCompletionChunk] = []
    await read(provider, call, said)
    return said


async def read(provider: Provider, call: Call[ChatCompletionSpec], into: list[ChatCompletionChunk]) -> None:
    """Reads an answer; what was said before a failure is kept."""
    async with aclosing(await provider.open_chat_completion(call)) as opened:
        async for event in opened:
            into.append(event)


def text(chunks: Sequence[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content for chunk in chunks for choice in chunk.choices)


async def test_a_stream_is_read_to_its_end_and_its_connection_is_used_again(upstream: Upstream, make: Make) -> None:
    upstream.script(sse_answer([delta("Hel"), delta("lo"), delta(finish="stop"), usage_chunk()]))
    provider = make()
    for _ in range(2):
        chunks = await events(provider, call_of(spec()))
        assert text(chunks) == "Hello"
        assert chunks[-1].usage.total_tokens == 5
    assert upstream.connection_count == 1


async def test_a_unary_call_is_one_event_that_folds_into_what_the_stream_does(upstream: Upstream, make: Make) -> None:
    upstream.script(
        json_answer(whole()), sse_answer([delta("Hel", role="assistant"), delta("lo", "stop"), usage_chunk()])
    )
    provider = make()
    unary = await events(provider, call_of(spec(), stream=False))
    assert len(unary) == 1
    assert fold(unary) == fold(await events(provider, call_of(spec())))


async def test_what_is_sent_is_the_targets_model_with_the_key_and_the_providers_headers(
    upstream: Upstream, make: Make
) -> None:
    upstream.script(sse_answer([delta("a", "stop")]))
    await events(make(headers={"X-Title": "t"}), call_of(spec(temperature=0.5)))
    received = upstream.requests[0]
    assert received.path == "/v1/chat/completions"
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["x-title"] == "t"
    assert received.json() == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_an_authorization_of_the_configuration_stands_in_place_of_the_key(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(whole()))
    await events(make(headers={"Authorization": "Basic x"}), call_of(spec(), stream=False))
    assert upstream.requests[0].headers["authorization"] == "Basic x"


async def test_a_unary_call_sends_nothing_about_streaming_and_says_so(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(whole()))
    call = call_of(spec(stream_options=StreamOptions(include_usage=True)), stream=False)
    await events(make(), call)
    assert upstream.requests[0].json().keys() == {"model", "messages"}
    assert call.rewrites == [Rewrite("stream_options", "dropped, the answer is not streamed")]
    call = call_of(call.request, stream=False, on_unsupported="reject")
    with pytest.raises(errors.UnsupportedParameter, match="not streamed"):
        await make().open_chat_completion(call)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("options", "rewritten"),
    [
        (None, []),
        (StreamOptions(include_usage=True), []),
        (StreamOptions(include_usage=True, include_obfuscation=False), ["stream_options"]),
        (StreamOptions(extra_json='{"x":1}'), ["stream_options"]),
    ],
)
async def test_a_host_that_does_not_take_stream_options_is_not_asked_for_the_usage(
    upstream: Upstream, make: Make, options: StreamOptions | None, rewritten: list[str]
) -> None:
    upstream.script(sse_answer([delta("a", "stop")]))
    call = call_of(spec(stream_options=options))
    await events(make(unsupported_parameters=["stream_options"]), call)
    assert "stream_options" not in upstream.requests[0].json()
    assert [rewrite.name for rewrite in call.rewrites] == rewritten


async def test_closing_the_events_closes_the_connection(upstream: Upstream, make: Make) -> None:
    upstream.script(sse_answer([delta("a"), Silence()]))
    async with aclosing(await make().open_chat_completion(call_of(spec()))) as opened:
        await anext(opened)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


async def test_cancelling_a_unary_call_closes_the_connection(upstream: Upstream, make: Make) -> None:
    upstream.script(answer([b"{", Silence()], headers={"content-type": "application/json", "content-length": "99"}))
    task = asyncio.create_task(make().open_chat_completion(call_of(spec(), stream=False)))
    received = await upstream.received()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(received.closed.wait(), 1)


# Streams that end well, though not as OpenAI's do.
ENDS: dict[str, Sequence[Step | Any]] = {
    "without [DONE]": [delta("Hello", "stop"), usage_chunk()],
    "cut after the finish reason": [delta("Hello", "stop"), Cut()],
    "reset after the finish reason": [delta("Hello", "stop"), Reset()],
    "silent after the usage": [delta("Hello", "stop"), usage_chunk(), Silence()],
    "silent after [DONE]": [delta("Hello", "stop"), b"data: [DONE]\n\n", Silence()],
    "with words that keep the connection": [
        b"data: : PROCESSING\n\n",
        delta("Hel"),
        b"data: ping\n\n",
        b"data: null\n\n",
        delta("lo", "stop"),
    ],
    "no JSON after the finish reason": [delta("Hello", "stop"), b"data: {oops\n\n", usage_chunk()],
    "half an event after the finish reason": [delta("Hello", "stop"), b'data: {"choices":[],"usa'],
    "[DONE] without an empty line": [delta("Hello", "stop"), b"data: [DONE]"],
    "a last event without an empty line": [
        delta("Hel"),
        b'data: {"choices":[{"delta":{"content":"lo"},"finish_reason":"stop"}]}',
    ],
    "with comments and empty events": [b": ping\n\n", b"data:\n\n", delta("Hello", "stop"), b": bye\n\n"],
    "with events after [DONE]": [delta("Hello", "stop"), b"data: [DONE]\n\ndata: nonsense\n\n"],
    "with two choices where one was asked for": [delta("Hello", "stop"), delta(finish="stop", index=1)],
}


@pytest.mark.parametrize("steps", ENDS.values(), ids=ENDS.keys())
async def test_a_stream_that_ended_is_whole_however_it_ended(upstream: Upstream, make: Make, steps: Any) -> None:
    upstream.script(sse_answer(steps, done=False))
    assert text(await asyncio.wait_for(events(make(), call_of(spec())), 5)) == "Hello"


BREAKS: dict[str, tuple[Sequence[Step | Any], type[errors.GatewayError], str]] = {
    "nothing": ([], errors.ProviderBroken, "broke its answer off"),
    "end without a finish reason": ([delta("Hel")], errors.ProviderBroken, "broke its answer off"),
    "cut": ([delta("Hel"), Cut()], errors.ProviderBroken, "broke"),
    "reset": ([delta("Hel"), Reset()], errors.ProviderBroken, "broke"),
    "[DONE] without a finish reason": ([delta("Hel"), b"data: [DONE]\n\n"], errors.ProviderBroken, "without a finish"),
    "given up": ([delta("Hel"), delta(finish="abort"), b"data: [DONE]\n\n"], errors.ProviderBroken, "with an error"),
    "half an event": ([delta("Hel"), b'data: lo"},"finish_reason":null}]}\n\n'], errors.ProviderBroken, "not JSON"),
    "an error in a word": ([delta("Hel"), b"event: error\ndata: overloaded\n\n"], errors.ProviderBroken, "overloaded"),
    "one of two choices ended": ([delta("a", index=1), delta("Hel", "stop")], errors.ProviderBroken, "broke"),
    "no JSON": ([delta("Hel"), b"data: {oops\n\n"], errors.ProviderBroken, "not JSON"),
    "no text": ([delta("Hel"), b"data: \xff\xfe\xfa\n\n"], errors.ProviderBroken, "not JSON"),
    "no object": ([delta("Hel"), b"data: [1]\n\n"], errors.ProviderBroken, "not a JSON object"),
    "no choices": ([delta("Hel"), {"choices": "x"}], errors.ProviderBroken, "makes no sense"),
    "an error": ([delta("Hel"), {"error": {"message": "The GPU is on fire."}}], errors.ProviderBroken, "on fire"),
    "an error in words": ([delta("Hel"), {"error": "on fire"}], errors.ProviderBroken, "on fire"),
    "an event named error": (
        [delta("Hel"), b'event: error\ndata: {"message":"on fire"}\n\n'],
        errors.ProviderBroken,
        "on fire",
    ),
    "an error beside choices": (
        [delta("Hel"), {**delta(finish="error"), "error": {"code": 429, "message": "Slow down."}}],
        errors.ProviderRefused,
        "Slow down",
    ),
}


@pytest.mark.parametrize(("steps", "kind", "message"), BREAKS.values(), ids=BREAKS.keys())
async def test_a_stream_that_breaks_off_is_a_failure_after_what_was_said(
    upstream: Upstream, make: Make, steps: Any, kind: type[errors.GatewayError], message: str
) -> None:
    upstream.script(sse_answer(steps, done=False))
    said: list[ChatCompletionChunk] = []
    with pytest.raises(kind, match=message) as failed:
        await read(make(), call_of(spec()), said)
    assert text(said) == "".join(choice["delta"].get("content", "") for choice in before(steps))
    assert failed.value.metadata["provider"] == "lab"


def before(steps: Sequence[Step | Any]) -> list[dict[str, Any]]:
    """The choices in the chunks of a stream that breaks."""
    chunks = [step for step in steps if isinstance(step, dict) and "error" not in step]
    return [choice for chunk in chunks for choice in chunk["choices"] if isinstance(choice, dict)]


async def test_a_late_error_keeps_its_status_type_and_code(upstream: Upstream, make: Make) -> None:
    error = {"message": "Slow down.", "type": "rate_limit", "code": 429, "param": "model"}
    upstream.script(sse_answer([delta("a"), {"error": error}], done=False))
    with pytest.raises(errors.ProviderRefused) as failed:
        await events(make(), call_of(spec()))
    assert failed.value.metadata == {
        "provider": "lab",
        "upstream_status": "429",
        "upstream_type": "rate_limit",
        "upstream_code": "429",
        "param": "model",
    }


async def test_a_stream_of_an_answer_with_several_choices_waits_for_all_of_them(
    upstream: Upstream, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "TRAILER_SECONDS", 0.01)
    go_on = asyncio.Event()
    upstream.script(sse_answer([delta("a", "stop"), usage_chunk(), Wait(go_on), delta("b", "stop", index=1)]))
    async with aclosing(await make().open_chat_completion(call_of(spec(n=2)))) as opened:
        chunks = [await anext(opened), await anext(opened)]
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        chunks += [event async for event in opened]
    assert text(chunks) == "ab"


async def test_a_host_that_answers_a_stream_whole_is_read_all_the_same(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(whole()))
    assert text(await events(make(), call_of(spec()))) == "Hello"


async def test_a_host_that_streams_though_it_should_not_is_read_all_the_same(upstream: Upstream, make: Make) -> None:
    upstream.script(sse_answer([delta("Hel"), delta("lo", "stop")]))
    assert text(await events(make(), call_of(spec(), stream=False))) == "Hello"


@pytest.mark.parametrize(
    ("document", "kind", "message"),
    [
        ({"error": {"message": "No.", "code": 503}}, errors.ProviderRefused, "No."),
        ({"error": {"message": "No."}}, errors.ProviderBroken, "No."),
        ([], errors.ProviderBroken, "not a JSON object"),
        ({"choices": [1]}, errors.ProviderBroken, "makes no sense"),
    ],
)
async def test_a_whole_answer_that_is_none_fails_before_it_is_open(
    upstream: Upstream, make: Make, document: Any, kind: type[errors.GatewayError], message: str
) -> None:
    upstream.script(json_answer(document))
    with pytest.raises(kind, match=message):
        await make().open_chat_completion(call_of(spec(), stream=False))


async def test_an_answer_without_an_id_gets_one(upstream: Upstream, make: Make) -> None:
    documents = [{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
    upstream.script(sse_answer(documents))
    chunks = await events(make(), call_of(spec()))
    assert {chunk.id for chunk in chunks} == {"chatcmpl-r1"}
    assert all(chunk.created for chunk in chunks)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ProviderRefused),
        (401, errors.ProviderUnauthorized),
        (403, errors.ProviderRefused),
        (404, errors.ProviderRefused),
        (429, errors.ProviderRefused),
        (500, errors.ProviderRefused),
        (529, errors.ProviderRefused),
        (302, errors.ProviderBroken),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_status_that_is_no_success_fails_before_the_answer_is_open(
    upstream: Upstream, make: Make, status: int, kind: type[errors.GatewayError], stream: bool
) -> None:
    upstream.script(json_answer({"error": {"message": "No."}}, status))
    with pytest.raises(kind):
        await make().open_chat_completion(call_of(spec(), stream=stream))


async def test_a_refusal_keeps_the_vendors_words_and_its_wait(upstream: Upstream, make: Make) -> None:
    error = {"message": "Too many.", "type": "tokens", "code": "rate_limit_exceeded", "param": None}
    upstream.script(json_answer({"error": error}, 429, {"retry-after": "7"}))
    with pytest.raises(errors.ProviderRefused) as failed:
        await make().open_chat_completion(call_of(spec()))
    assert failed.value.message == "Too many."
    assert failed.value.retry_after_seconds == 7
    assert failed.value.metadata == {
        "provider": "lab",
        "upstream_status": "429",
        "upstream_type": "tokens",
        "upstream_code": "rate_limit_exceeded",
    }


async def test_a_refusal_whose_body_breaks_off_keeps_its_status(upstream: Upstream, make: Make) -> None:
    upstream.script(answer([b'{"error"', Cut()], status=503, headers={"content-length": "99"}))
    with pytest.raises(errors.ProviderRefused) as failed:
        await make().open_chat_completion(call_of(spec()))
    assert failed.value.metadata["upstream_status"] == "503"


async def test_no_error_tells_the_key_or_the_address(upstream: Upstream, make: Make) -> None:
    message = (
        f"Bad {KEY} at {upstream.base_url} ({upstream.base_url.removeprefix('http://')}) 127.0.0.1:{upstream.port}"
    )
    upstream.script(json_answer({"error": {"message": message, "code": KEY}}, 400), sse_answer([{"error": message}]))
    for _ in range(2):
        with pytest.raises(errors.ProviderError) as failed:
            await events(make(), call_of(spec()))
        told = f"{failed.value.message} {failed.value.metadata}"
        assert KEY not in told
        assert "127.0.0.1" not in told
        assert "***" in told


async def test_what_a_target_cannot_take_is_dropped_with_a_warning(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(whole()))
    call = call_of(
        spec(seed=1, top_k=2, prefill="Once", extra_json='{"min_tokens":1}'), stream=False, unsupported=["seed"]
    )
    await events(make(unsupported_parameters=["top_k", "min_tokens"]), call)
    assert upstream.requests[0].json().keys() == {"model", "messages"}
    assert [rewrite.name for rewrite in call.rewrites] == ["min_tokens", "prefill", "seed", "top_k"]


async def test_what_a_target_cannot_take_is_refused_where_the_configuration_says_so(make: Make) -> None:
    with pytest.raises(errors.UnsupportedParameter) as failed:
        await make().open_chat_completion(call_of(spec(seed=1), on_unsupported="reject", unsupported=["seed"]))
    assert failed.value.metadata == {"param": "seed", "provider": "lab"}


async def test_what_a_target_cannot_take_is_dropped_in_silence_where_the_configuration_says_so(
    upstream: Upstream, make: Make
) -> None:
    upstream.script(json_answer(whole()))
    call = call_of(spec(seed=1), stream=False, on_unsupported="drop", unsupported=["seed"])
    await events(make(), call)
    assert "seed" not in upstream.requests[0].json()
    assert call.rewrites == []


def foreign() -> ChatCompletionSpec:
    parts = ContentParts(
        parts=[ContentPart(text="Hi", extra_json='{"cache_control":{}}'), ContentPart(other_json="{}")]
    )
    return ChatCompletionSpec(
        messages=[ChatMessage(role=ROLE_USER, parts=parts)], extra_json='{"thinking":{}}', extra_format="anthropic"
    )


async def test_the_unknown_fields_of_another_format_are_dropped_with_a_warning_each(
    upstream: Upstream, make: Make
) -> None:
    upstream.script(json_answer(whole()))
    call = call_of(foreign(), stream=False)
    await events(make(), call)
    assert upstream.requests[0].json() == {
        "model": "tiny",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    names = [rewrite.name for rewrite in call.rewrites]
    assert names == ["thinking", "messages.content.cache_control", "messages.content"]
    assert all(isinstance(rewrite, Rewrite) and rewrite.reason for rewrite in call.rewrites)


async def test_the_unknown_fields_of_another_format_are_refused_where_the_configuration_says_so(make: Make) -> None:
    request = foreign()
    request.extra_json = ""
    with pytest.raises(errors.UnsupportedParameter, match=r"messages\.content\.cache_control"):
        await make().open_chat_completion(call_of(request, on_unsupported="reject"))


@pytest.mark.parametrize("text", ["{", "[]", "7"])
async def test_json_text_that_is_none_is_the_callers_fault(make: Make, text: str) -> None:
    with pytest.raises(errors.InvalidRequest) as failed:
        await make().open_chat_completion(call_of(spec(extra_json=text)))
    assert failed.value.metadata["param"] == "extra_json"


async def test_models_are_listed_with_what_the_host_says_beside(upstream: Upstream, make: Make) -> None:
    listed = {"id": "tiny", "object": "model", "created": 1.0, "owned_by": "vllm", "max_model_len": 8192}
    upstream.script(json_answer({"object": "list", "data": [listed, {"id": ""}, {"name": "x"}, 7, {"id": "big"}]}))
    assert list(await make().list_models()) == [
        Model(id="tiny", created=1, owned_by="vllm", extra_json='{"max_model_len":8192}'),
        Model(id="big"),
    ]
    assert upstream.requests[0].path == "/v1/models"
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("body", [b"<html>", b"7", b'{"data":{}}'])
async def test_a_list_of_models_that_is_none_is_a_failure(upstream: Upstream, make: Make, body: bytes) -> None:
    upstream.script(answer([body]))
    with pytest.raises(errors.ProviderBroken, match="list of models"):
        await make().list_models()


async def test_a_host_without_a_list_of_models_is_not_asked(upstream: Upstream, make: Make) -> None:
    assert list(await make(lists_models=False).list_models()) == []
    assert upstream.requests == []


async def test_a_whole_answer_leaves_its_connection_to_the_next(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(whole()))
    provider = make()
    await events(provider, call_of(spec(), stream=False))
    await events(provider, call_of(spec(), stream=False))
    await reached(lambda: len(upstream.requests) == 2)
    assert upstream.connection_count == 1
