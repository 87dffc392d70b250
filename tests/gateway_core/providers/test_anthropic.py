"""The provider `anthropic` against a vendor on raw sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec, StreamOptions
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER, ChatMessage, ContentPart, ContentParts, File
from headgate.v1.model_pb2 import Model

from gateway_core import errors
from gateway_core.call import Call, OnUnsupported, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers import Provider, load
from gateway_core.services.chat_completion import ChatCompletion
from tests.support import anthropic_vendor
from tests.support.anthropic_vendor import HEADERS, events, message, refused, streamed_answer, text, whole_answer
from tests.support.upstream import Cut, Reset, Silence, Step, Upstream, answer, json_answer

KEY = "sk-ant-secret-0123456789"
TOOLS = [{"function": {"name": "now"}}]
FORCED = {"mode": "required"}
HELLO = message(text("Hello"))


def spec(**fields: Any) -> ChatCompletionSpec:
    return ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="Hi")], **fields)


def call_of(
    request: ChatCompletionSpec,
    *,
    stream: bool = True,
    model: str = "claude-haiku-4-5",
    on_unsupported: OnUnsupported = "warn",
) -> Call[ChatCompletionSpec]:
    call = Call(request_id="r1", operation=ChatCompletion(), asked=request, stream=stream)
    call.target = Target("lab", model, on_unsupported)
    return call


@pytest.fixture
async def make(upstream: Upstream) -> AsyncIterator[Callable[..., Provider]]:
    """Makes providers of the vendor, and closes them."""
    made: list[Provider] = []

    def provider(**fields: Any) -> Provider:
        row = {"kind": "anthropic", "base_url": upstream.base_url, "api_key": KEY, **fields}
        made.append(load("lab", ProviderConfig.model_validate(row)))
        return made[-1]

    yield provider
    for each in made:
        await each.close()


Make = Callable[..., Provider]


async def read(
    provider: Provider, call: Call[ChatCompletionSpec], into: list[ChatCompletionChunk] | None = None
) -> list[ChatCompletionChunk]:
    """Reads an answer; what was said before a failure is kept."""
    said = [] if into is None else into
    async with aclosing(await provider.open_chat_completion(call)) as opened:
        async for event in opened:
            said.append(event)
    return said


async def sent(upstream: Upstream) -> dict[str, Any]:
    body = (await upstream.received()).json()
    assert isinstance(body, dict)
    return body


async def test_a_host_is_asked_with_the_key_and_the_version(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer(HELLO))
    call = call_of(spec())
    said = fold(await read(make(headers={"X-Title": "t"}), call))
    assert said.choices[0].message.content == "Hello"
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (329, 4)
    assert call.upstream_request_id == HEADERS["request-id"]
    received = upstream.requests[0]
    assert received.path == "/v1/messages"
    assert received.headers["x-api-key"] == KEY
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert received.headers["x-title"] == "t"
    assert "authorization" not in received.headers
    assert received.json() == {
        "model": "claude-haiku-4-5",
        "max_tokens": 64000,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }


async def test_an_authorization_of_the_configuration_stands_in_place_of_the_key(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(HELLO))
    await read(make(headers={"Authorization": "Bearer x"}), call_of(spec(), stream=False))
    assert upstream.requests[0].headers["authorization"] == "Bearer x"
    assert "x-api-key" not in upstream.requests[0].headers
    assert "stream" not in await sent(upstream)


async def test_a_connection_whose_answer_has_ended_is_used_again(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer(HELLO))
    provider = make()
    for _ in range(2):
        await read(provider, call_of(spec()))
    assert upstream.connection_count == 1


async def test_a_file_that_the_provider_has_needs_its_beta_beside_those_of_the_configuration(
    upstream: Upstream, make: Make
) -> None:
    upstream.script(whole_answer(HELLO))
    part = ContentPart(file=File(file_id="file_1"))
    request = ChatCompletionSpec(messages=[ChatMessage(role=ROLE_USER, parts=ContentParts(parts=[part]))])
    await read(make(headers={"anthropic-beta": "a-1"}), call_of(request, stream=False))
    assert upstream.requests[0].headers["anthropic-beta"] == "a-1,files-api-2025-04-14"


async def test_what_has_no_word_is_told_and_what_asks_for_nothing_is_not(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(HELLO))
    request = spec(
        n=1, presence_penalty=0, stream_options=StreamOptions(include_usage=True), seed=7, logit_bias={"1": 2},
        temperature=1.5, top_p=0.9, extra_json='{"thinking":{"type":"disabled"},"x":1}', modalities=["text"],
    )  # fmt: skip
    call = call_of(request, stream=False)
    await read(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == ["logit_bias", "seed", "x", "top_p", "temperature"]
    body = await sent(upstream)
    assert (body["temperature"], body["thinking"]) == (1.0, {"type": "disabled"})
    assert not {"n", "seed", "x", "top_p"} & body.keys()


@pytest.mark.parametrize(
    ("model", "fields", "name"),
    [
        ("claude-haiku-4-5", {"seed": 7}, "seed"),
        ("claude-haiku-4-5", {"temperature": 1.5}, "temperature"),
        ("claude-opus-5", {"temperature": 0.5}, "temperature"),
        ("claude-opus-5", {"prefill": "{"}, "prefill"),
        ("claude-opus-5-5", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("claude-sonnet-4-6", {"reasoning_effort": "xhigh"}, "reasoning_effort"),
        ("claude-opus-5", {"reasoning_effort": "utter"}, "reasoning_effort"),
        ("claude-opus-4-7", {"reasoning_effort": "low", "tools": TOOLS, "tool_choice": FORCED}, "reasoning_effort"),
        ("claude-opus-5", {"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
async def test_what_would_be_left_out_or_changed_is_refused_where_the_configuration_says_so(
    upstream: Upstream, make: Make, model: str, fields: dict[str, Any], name: str
) -> None:
    with pytest.raises(errors.UnsupportedParameter) as raised:
        await read(make(), call_of(spec(**fields), model=model, on_unsupported="reject"))
    assert raised.value.metadata == {"param": name, "provider": "lab"}
    assert upstream.requests == []


async def test_what_a_schema_does_without_is_told(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(HELLO))
    schema = '{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"additionalProperties":true}'
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema_json": schema}}
    tools = [{"function": {"name": "f", "parameters_json": schema, "strict": strict}} for strict in (True, False)]
    call = call_of(spec(response_format=form, tools=tools), stream=False)
    await read(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == [
        "tools[0].function.parameters",
        "response_format.json_schema",
    ]
    assert all(rewrite.reason.endswith("to additionalProperties, minimum") for rewrite in call.rewrites)
    first, second = (await sent(upstream))["tools"]
    assert first["input_schema"]["additionalProperties"] is False
    assert second["input_schema"]["properties"] == {"a": {"type": "integer", "minimum": 1}}


async def test_what_the_configuration_tells_of_a_model_counts(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(HELLO))
    call = call_of(spec(prefill="{", temperature=1), stream=False)
    call.target = Target("lab", "claude-opus-5", unsupported=frozenset({"temperature"}), features=frozenset({"prefill"}),
                         max_output_tokens=500)  # fmt: skip
    await read(make(), call)
    assert call.rewrites == []
    body = await sent(upstream)
    assert (body["max_tokens"], body["messages"][-1]) == (500, {"role": "assistant", "content": "{"})


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"image_url": {"url": "data:nothing"}}, "messages[1].content[1].image_url.url"),
        ({"file": {"file_data": "data:text/plain;base64,/w=="}}, "messages[1].content[1].file.file_data"),
        ({"text": "a", "extra_json": "{"}, "messages[1].content[1].extra_json"),
    ],
)
async def test_what_cannot_be_written_is_refused_by_its_place(make: Make, part: dict[str, Any], param: str) -> None:
    parts = ContentParts(parts=[ContentPart(text="a"), ContentPart(**part)])
    request = spec()
    request.messages.add(role=ROLE_USER, parts=parts)
    with pytest.raises(errors.InvalidRequest) as raised:
        await read(make(), call_of(request))
    assert raised.value.metadata == {"param": param}


async def test_what_is_left_out_is_told_by_its_place(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(HELLO))
    request = spec(tools=[{"custom": {"name": "c"}}])
    sound = ContentPart(input_audio={"data": "AA", "format": "wav"})
    request.messages.add(role=ROLE_USER, name="ann", parts=ContentParts(parts=[ContentPart(text="a"), sound]))
    request.messages.add(role=ROLE_ASSISTANT, text="b", reasoning="Hm")
    call = call_of(request, stream=False)
    await read(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == [
        "messages[1].name",
        "messages[1].content[1].input_audio",
        "tools[0].custom",
        "messages[2].reasoning",
    ]


@pytest.mark.parametrize(
    ("status", "kind", "failure"),
    [
        (400, "invalid_request_error", errors.ProviderRefused),
        (401, "authentication_error", errors.ProviderUnauthorized),
        (403, "permission_error", errors.ProviderUnauthorized),
        (413, "request_too_large", errors.ProviderRefused),
        (429, "rate_limit_error", errors.ProviderRefused),
        (529, "overloaded_error", errors.ProviderRefused),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_tells_what_the_vendor_told(
    upstream: Upstream, make: Make, status: int, kind: str, failure: type[errors.ProviderError], stream: bool
) -> None:
    said = "Your API key does not have permission." if status == 403 else "Too much."
    upstream.script(refused(status, kind, said, **{"retry-after": "7"}))
    call = call_of(spec(), stream=stream)
    with pytest.raises(failure) as raised:
        await read(make(), call)
    assert raised.value.metadata["upstream_status"] == str(status)
    assert call.upstream_request_id == HEADERS["request-id"]
    if failure is errors.ProviderRefused:
        assert raised.value.metadata["upstream_type"] == kind
        assert raised.value.retry_after_seconds == 7
        assert raised.value.retryable == (status in (429, 529))


@pytest.mark.parametrize(
    ("kind", "failure", "status"),
    [
        ("overloaded_error", errors.ProviderRefused, "529"),
        ("api_error", errors.ProviderRefused, "500"),
        ("rate_limit_error", errors.ProviderRefused, "429"),
        ("strange_error", errors.ProviderBroken, None),
    ],
)
async def test_an_error_before_the_answer_has_begun_is_raised_by_the_opening(
    upstream: Upstream, make: Make, kind: str, failure: type[errors.ProviderError], status: str | None
) -> None:
    begun = list(events(HELLO))[:1]
    upstream.script(streamed_answer([*begun, {"type": "ping"}, anthropic_vendor.error(kind, "Overloaded")]))
    with pytest.raises(failure, match="Overloaded") as raised:
        await make().open_chat_completion(call_of(spec()))
    assert raised.value.metadata.get("upstream_status") == status


async def test_an_error_after_words_ends_them(upstream: Upstream, make: Make) -> None:
    begun = list(events(HELLO))[:5]
    upstream.script(streamed_answer([*begun, anthropic_vendor.error("overloaded_error", "Overloaded")]))
    said: list[ChatCompletionChunk] = []
    with pytest.raises(errors.ProviderRefused, match="Overloaded"):
        await read(make(), call_of(spec()), said)
    assert fold(said).choices[0].message.content == "Hello"


WHOLE = len(list(events(HELLO)))


@pytest.mark.parametrize("end", [Cut(), Reset(), b""], ids=str)
@pytest.mark.parametrize("count", range(WHOLE - 2))
async def test_an_answer_that_breaks_off_is_broken(upstream: Upstream, make: Make, count: int, end: Step) -> None:
    upstream.script(streamed_answer([*list(events(HELLO))[:count], end]))
    with pytest.raises(errors.ProviderBroken):
        await read(make(), call_of(spec()))


@pytest.mark.parametrize("end", [Cut(), Reset(), Silence(), b""], ids=str)
async def test_an_answer_whose_last_event_is_missing_ends_promptly(upstream: Upstream, make: Make, end: Step) -> None:
    upstream.script(streamed_answer([*list(events(HELLO))[:-1], end]))
    async with asyncio.timeout(5):
        assert fold(await read(make(), call_of(spec()))).choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "event",
    [
        b"event: message_start\ndata: {\n\n",
        b"data: []\n\n",
        {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 7}},
        {"type": "content_block_stop", "index": "0"},
        {"type": "content_block_start", "index": 1, "content_block": None},
        {"type": "message_delta", "delta": {"stop_reason": 7}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ],
    ids=str,
)
async def test_an_event_that_makes_no_sense_breaks_the_answer(upstream: Upstream, make: Make, event: Any) -> None:
    upstream.script(streamed_answer([*list(events(HELLO))[:4], event, *list(events(HELLO))[4:]]))
    with pytest.raises(errors.ProviderBroken):
        await read(make(), call_of(spec()))


@pytest.mark.parametrize(
    "document",
    [[], {}, {**HELLO, "content": {}}, {**HELLO, "usage": None}, {**HELLO, "stop_reason": None}, {**HELLO, "model": 1}],
    ids=str,
)
async def test_a_whole_answer_that_makes_no_sense_is_broken(upstream: Upstream, make: Make, document: Any) -> None:
    upstream.script(json_answer(document))
    with pytest.raises(errors.ProviderBroken):
        await read(make(), call_of(spec(), stream=False))


async def test_an_error_with_a_status_of_success_is_one(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(anthropic_vendor.error("overloaded_error", "Overloaded")))
    with pytest.raises(errors.ProviderRefused, match="Overloaded"):
        await read(make(), call_of(spec(), stream=False))


async def test_events_of_later_versions_are_passed_over(upstream: Upstream, make: Make) -> None:
    first, *rest = events(HELLO)
    news: list[Any] = [{"type": "news", "a": 1}, b": comment\n\n"]
    upstream.script(streamed_answer([first, *news, *rest]))
    assert fold(await read(make(), call_of(spec()))).choices[0].message.content == "Hello"


async def test_a_caller_who_leaves_closes_the_connection(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer([*list(events(HELLO))[:4], Silence()]))
    opened = await make().open_chat_completion(call_of(spec()))
    await anext(opened)
    await opened.aclose()
    await asyncio.wait_for((await upstream.received()).closed.wait(), 1)


def page(*names: str, has_more: bool = False) -> dict[str, Any]:
    entries = [
        {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-05-28T00:00:00Z",
         "max_input_tokens": 1000000, "max_tokens": 128000}
        for name in names
    ]  # fmt: skip
    return {"data": entries, "has_more": has_more, "first_id": names[0], "last_id": names[-1]}


async def test_models_are_listed_page_by_page(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(page("a", "b", has_more=True)), json_answer(page("c")))
    listed = await make().list_models()
    assert [model.id for model in listed] == ["a", "b", "c"]
    assert listed[0] == Model(
        id="a", created=1779926400, context_length=1000000, max_output_tokens=128000, extra_json='{"display_name":"A"}'
    )
    assert [request.path for request in upstream.requests] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=b",
    ]
    assert upstream.requests[0].headers["x-api-key"] == KEY


async def test_a_list_without_an_end_ends(upstream: Upstream, make: Make) -> None:
    upstream.script(json_answer(page("a", has_more=True)))
    assert len(await make().list_models()) == 20


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"data": 7}'])
async def test_a_list_of_models_that_makes_no_sense_is_broken(upstream: Upstream, make: Make, body: bytes) -> None:
    upstream.script(answer([body], headers={"content-type": "application/json"}))
    with pytest.raises(errors.ProviderBroken):
        await make().list_models()


async def test_a_host_that_lists_no_models_is_not_asked(upstream: Upstream, make: Make) -> None:
    assert list(await make(lists_models=False).list_models()) == []
    assert upstream.requests == []
