"""What OpenAI's own SDK raises when a call through a whole gateway fails, and what it must not show."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from gateway_core.config import Config, ModelConfig, ProviderConfig, TargetConfig
from tests.conftest import lab_config
from tests.support.gateway import Gateway, running
from tests.support.openai_vendor import completion, event, refusal, streamed, texts
from tests.support.upstream import (
    Answer,
    Cut,
    Reset,
    Silence,
    Upstream,
    Wait,
    answer,
    chunk,
    head,
    json_answer,
    refusing,
    sse_answer,
    sse_event,
)

HI: list[Any] = [{"role": "user", "content": "hi"}]
SSE = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


async def failure(sdk: AsyncOpenAI, **asked: Any) -> openai.APIStatusError:
    """What a call raises, which is the same whether it streams or not: nothing has been sent when it fails."""
    found = []
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk.chat.completions.create(**{"model": "lab/tiny", "messages": HI, **asked}, stream=stream)
        found.append(caught.value)
    whole, streamed_ = found
    assert type(whole) is type(streamed_)
    for name in ("status_code", "type", "param", "code"):
        assert getattr(whole, name) == getattr(streamed_, name)
    assert whole.response.headers["content-type"] == "application/json"
    assert isinstance(whole.body, dict)
    assert set(whole.body) == {"message", "type", "param", "code"}
    return whole


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (402, openai.APIStatusError),
        (404, openai.NotFoundError),
        (408, openai.APIStatusError),
        (409, openai.ConflictError),
        (413, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_a_refusal_of_the_vendor_keeps_status_code_and_words(
    sdk: AsyncOpenAI, upstream: Upstream, status: int, raised: type[openai.APIStatusError]
) -> None:
    told = refusal("The tune is unknown.", type="x_type", param="messages[0]", code="x_code")
    upstream.script(json_answer(told, status=status))
    error = await failure(sdk)
    assert type(error) is raised
    assert (error.status_code, error.type, error.param, error.code) == (status, "x_type", "messages[0]", "x_code")
    assert "The tune is unknown." in error.message
    assert error.response.headers["x-headgate-provider"] == "lab"
    assert error.request_id == error.response.headers["x-headgate-request-id"]


async def test_how_long_to_wait_is_passed_on(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    told = refusal("Slow down.", type="requests", code="rate_limit_exceeded")
    upstream.script(json_answer(told, status=429, headers={"retry-after": "7"}))
    error = await failure(sdk)
    assert isinstance(error, openai.RateLimitError)
    assert error.response.headers["retry-after"] == "7"


async def test_the_sdk_tries_again_and_succeeds(connect: Callable[..., AsyncOpenAI], upstream: Upstream) -> None:
    slow = json_answer(refusal("Slow down."), status=429, headers={"retry-after-ms": "1"})
    upstream.script(slow, json_answer(completion({"content": "Hello"})))
    answered = await connect(max_retries=2).chat.completions.create(
        model="lab/tiny", messages=HI, extra_headers={"x-request-id": "mine"}
    )
    assert answered.choices[0].message.content == "Hello"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_the_vendor_refuses_is_not_the_callers_and_is_not_tried_again(
    connect: Callable[..., AsyncOpenAI], upstream: Upstream, status: int
) -> None:
    upstream.script(json_answer(refusal("Incorrect API key provided: sk-lab-secret."), status=status))
    error = await failure(connect(max_retries=3))
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "provider_unauthorized")
    assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 2
    assert "sk-lab-secret" not in error.response.text


def echoes(received: Any) -> str:
    """What a careless vendor says: the key, the address, the headers."""
    key, host = received.headers["authorization"], received.headers["host"]
    return f"Bad: {key} at http://{host}/v1/chat/completions ({host}) x-team={received.headers['x-team']}"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_no_error_tells_a_secret_or_an_address(upstream: Upstream, status: int) -> None:
    refusals: list[Callable[[Any], Answer]] = [
        lambda received: json_answer(refusal(echoes(received), code=echoes(received)), status=status),
        lambda received: json_answer({"detail": [{"loc": ["body"], "msg": echoes(received)}]}, status=status),
        lambda received: answer([echoes(received).encode()], status=status),
        lambda received: sse_answer([event({"content": "a"}), refusal(echoes(received))], done=False),
        lambda received: sse_answer([b"event: error\ndata: " + echoes(received).encode() + b"\n\n"], done=False),
    ]
    lab = ProviderConfig.model_validate(
        {
            "kind": "openai",
            "base_url": upstream.base_url,
            "api_key": "sk-lab-secret",
            "headers": {"x-team": "team-secret"},
        }
    )
    async with (
        running(Config(providers={"lab": lab})) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        for told in refusals:
            upstream.script(told)
            for stream in (False, True):
                body = {"model": "lab/tiny", "messages": HI, "stream": stream}
                response = await http.post("/v1/chat/completions", json=body)
                shown = response.text + str(response.headers)
                assert '"error"' in response.text
                for secret in ("sk-lab-secret", "team-secret", "127.0.0.1", str(upstream.port)):
                    assert secret not in shown


SAID = 3
"""Steps until something is said."""


def cut_stream(*last: Any) -> Answer:
    """A stream that says something and then goes wrong."""
    said = [chunk(sse_event(event({"role": "assistant", "content": text}))) for text in ("Hel", "lo")]
    return [head(200, SSE), *said, *last]


async def read(
    stream: AsyncIterator[ChatCompletionChunk], found: list[ChatCompletionChunk], heard: asyncio.Event
) -> None:
    """Reads a stream to its end, and says when all that is said has come."""
    async for part in stream:
        found.append(part)
        if texts(found) == "Hello":
            heard.set()


LATE: dict[str, Answer] = {
    "cut": cut_stream(Cut()),
    "reset": cut_stream(Reset()),
    "ended without an end": cut_stream(b"0\r\n\r\n"),
    "an error": cut_stream(
        chunk(sse_event(refusal("The engine died.", type="server_error", code="engine"))), Silence()
    ),
    "an error event": cut_stream(chunk(b'event: error\ndata: {"message": "The engine died."}\n\n'), Silence()),
    "an error with a status": cut_stream(chunk(sse_event(refusal("Slow down.", code=429))), Silence()),
    "no json": cut_stream(chunk(b"data: {oops\n\n"), Silence()),
    "bad framing": cut_stream(b"zz\r\n"),
}


@pytest.mark.parametrize("broken", LATE.values(), ids=LATE.keys())
async def test_a_late_failure_is_raised_and_never_a_silent_end(
    sdk: AsyncOpenAI, upstream: Upstream, broken: Answer
) -> None:
    heard = asyncio.Event()
    upstream.script([*broken[:SAID], Wait(heard), *broken[SAID:]])
    stream = await sdk.chat.completions.create(model="lab/tiny", messages=HI, stream=True)
    found: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as caught:
        await read(stream, found, heard)
    assert texts(found) == "Hello"
    assert not any(choice.finish_reason for part in found for choice in part.choices)
    assert caught.value.message
    assert not isinstance(caught.value, openai.APIConnectionError)


async def test_a_late_failure_is_one_event_without_an_end(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script(LATE["an error"])
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http:
        body = {"model": "lab/tiny", "messages": HI, "stream": True}
        text = (await http.post("/v1/chat/completions", json=body)).text
    *_, last = text.removesuffix("\n\n").split("\n\n")
    expected = '{"message":"The engine died.","type":"server_error","param":null,"code":"engine","partial":true}'
    assert last == f'data: {{"error":{expected}}}'
    assert "[DONE]" not in text


@pytest.mark.parametrize(
    "broken",
    [
        json_answer({}),
        json_answer(completion({"content": "x"}) | {"choices": []}),
        json_answer([]),
        answer([b'{"id": "1", "choi'], headers={"content-type": "application/json"}),
        answer([b"<html>Hello</html>"], headers={"content-type": "text/html"}),
        [head(200, {"content-length": "100"}), b"{", Cut()],
        sse_answer([]),
        sse_answer([b": hi\n\n"], done=False),
        [head(200, SSE), Cut()],
        [Cut()],
        [b"HTTP/1.1 twohundred\r\n\r\n", Cut()],
    ],
)
async def test_an_answer_that_is_none_is_a_bad_gateway(sdk: AsyncOpenAI, upstream: Upstream, broken: Answer) -> None:
    upstream.script(broken)
    error = await failure(sdk)
    assert (error.status_code, error.code) == (502, "provider_broken")


async def test_an_answer_that_nests_too_deep_is_a_bad_gateway(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    deep: Any = []
    for _ in range(251):
        deep = [deep]
    said = {"content": "x", "deep": deep}
    upstream.script(json_answer(completion(said)), sse_answer([event(said, "stop")]))
    error = await failure(sdk)
    assert (error.status_code, error.code) == (502, "provider_broken")


async def test_a_provider_that_is_down_is_a_bad_gateway(upstream: Upstream) -> None:
    with refusing() as base_url:
        async with running(lab_config(base_url)) as gateway, openai.DefaultAsyncHttpxClient(trust_env=False) as http:
            sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="k", max_retries=0, http_client=http)
            error = await failure(sdk)
            assert (error.status_code, error.code) == (502, "provider_unreachable")
            assert "127.0.0.1" not in error.response.text


async def test_a_second_target_answers_for_the_first(upstream: Upstream) -> None:
    with refusing() as base_url:
        down = lab_config(base_url).providers["lab"]
        up = lab_config(upstream.base_url).providers["lab"]
        targets = (TargetConfig(provider="down", model="a"), TargetConfig(provider="up", model="b"))
        config = Config(providers={"down": down, "up": up}, models={"small": ModelConfig(targets=targets)})
        upstream.script(sse_answer(streamed("Hello")))
        async with running(config) as gateway, openai.DefaultAsyncHttpxClient(trust_env=False) as http:
            sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="k", max_retries=0, http_client=http)
            raw = await sdk.chat.completions.with_raw_response.create(model="small", messages=HI, stream=True)
            assert raw.headers["x-headgate-provider"] == "up"
            assert texts([part async for part in raw.parse()]) == "Hello"


async def test_the_deadline_of_the_caller_ends_the_call_with_a_timeout(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script([Silence()])
    error = await failure(sdk, extra_headers={"x-request-timeout": "0.1"})
    assert (error.status_code, error.code, error.type) == (408, "deadline_exceeded", "timeout_error")
    for received in upstream.requests:
        await received.closed.wait()


async def test_a_deadline_that_passes_in_a_stream_is_raised(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(cut_stream(Silence()))
    stream = await sdk.chat.completions.create(
        model="lab/tiny", messages=HI, stream=True, extra_headers={"x-request-timeout": "0.3"}
    )
    found: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as caught:
        await read(stream, found, asyncio.Event())
    assert texts(found) == "Hello"
    assert caught.value.code == "deadline_exceeded"


@pytest.mark.parametrize("name", ["nix", "nix/tiny", "lab/", "/", " lab/tiny"])
async def test_a_model_that_is_not_there_is_not_found(sdk: AsyncOpenAI, name: str) -> None:
    error = await failure(sdk, model=name)
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert repr(name) in error.message


async def test_a_field_that_is_wrong_is_named(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    error = await failure(sdk, messages=[*HI, {"role": "user", "content": [{"type": "text"}]}])
    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.code) == ("messages[1].content[0].text", "invalid_request")
    assert not upstream.requests


async def test_a_parameter_that_the_target_cannot_take_is_refused_where_it_is_said_so() -> None:
    async with (
        running(Config(on_unsupported="reject")) as gateway,
        openai.DefaultAsyncHttpxClient(trust_env=False) as http,
    ):
        sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="k", max_retries=0, http_client=http)
        error = await failure(sdk, model="echo/echo", reasoning_effort="low")
    assert isinstance(error, openai.BadRequestError)
    assert (error.code, error.param) == ("unsupported_parameter", "reasoning_effort")
