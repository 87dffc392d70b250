"""The real Envoy as `headgate envoy render` sets it up, before a whole gateway: what callers get is what they get without it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient, NotFoundError

from tests.conftest import lab_config
from tests.support.envoy import Front, answered, fronted, needs_envoy
from tests.support.openai_vendor import completion, event, refusal, streamed, texts
from tests.support.upstream import Silence, Upstream, json_answer, sse_answer

HI: list[Any] = [{"role": "user", "content": "hi"}]
UUID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
LONG = 600
"""Events that no window or buffer on the way can hold: 600 of 16 KiB."""

pytestmark = needs_envoy


@pytest.fixture(params=["clear", "tls"])
async def front(upstream: Upstream, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with fronted(lab_config(upstream.base_url), tmp_path, tls=request.param == "tls") as started:
        yield started


@pytest.fixture
async def sdk(front: Front) -> AsyncIterator[AsyncOpenAI]:
    async with DefaultAsyncHttpxClient(trust_env=False, verify=front.verify) as http:
        yield AsyncOpenAI(base_url=f"{front.url}/v1", api_key="sk-caller", max_retries=0, http_client=http)


@pytest.fixture
async def chat(front: Front) -> AsyncIterator[Any]:
    async with front.channel() as channel:
        yield ChatCompletionServiceStub(channel)


def unary(chat: Any, said: str = "hi", timeout: float = 30, metadata: Any = None, model: str = "lab/tiny") -> Any:
    spec: dict[str, Any] = {"model": model, "messages": [{"role": ROLE_USER, "text": said}]}
    return chat.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), timeout=timeout, metadata=metadata)


def stream(chat: Any, timeout: float = 30) -> Any:
    spec: dict[str, Any] = {"model": "lab/tiny", "messages": [{"role": ROLE_USER, "text": "hi"}]}
    return chat.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), timeout=timeout)


async def test_the_openai_sdk_is_answered_whole_and_streamed(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})), sse_answer(streamed("Hel", "lo")))
    answer = await sdk.chat.completions.create(model="lab/tiny", messages=HI)
    assert answer.choices[0].message.content == "Hello"
    found = [chunk async for chunk in await sdk.chat.completions.create(model="lab/tiny", messages=HI, stream=True)]
    assert texts(found) == "Hello"
    assert (await sdk.models.retrieve("lab/org/tiny:7b")).id == "lab/org/tiny:7b"


async def test_a_grpc_client_is_answered_whole_and_streamed(chat: Any, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})), sse_answer(streamed("Hel", "lo")))
    assert (await unary(chat)).completion.choices[0].message.content == "Hello"
    call = stream(chat)
    chunks = [response.chunk async for response in call]
    assert "".join(choice.delta.content for chunk in chunks for choice in chunk.choices) == "Hello"
    assert dict(await call.trailing_metadata())["x-headgate-provider"] == "lab"


async def test_health_and_reflection_are_the_cores(front: Front) -> None:
    async with front.channel() as channel:
        for service in ("", "headgate.v1.ChatCompletionService"):
            answer = await HealthStub(channel).Check(HealthCheckRequest(service=service))
            assert answer.status == HealthCheckResponse.SERVING
        asked = iter([ServerReflectionRequest(list_services="")])
        (told,) = [answer async for answer in ServerReflectionStub(channel).ServerReflectionInfo(asked)]
        assert "headgate.v1.ModelService" in {service.name for service in told.list_services_response.service}


async def test_what_is_said_arrives_before_the_vendor_says_more(
    sdk: AsyncOpenAI, chat: Any, upstream: Upstream
) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Silence()]))
    async with asyncio.timeout(10):
        over_http = await sdk.chat.completions.create(model="lab/tiny", messages=HI, stream=True)
        assert texts([await anext(over_http)]) == "Hel"
        over_grpc = stream(chat)
        assert (await anext(aiter(over_grpc))).chunk.choices[0].delta.content == "Hel"


async def test_a_caller_who_leaves_a_stream_closes_the_vendors_connection(
    sdk: AsyncOpenAI, chat: Any, upstream: Upstream
) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Silence()]))
    over_http = await sdk.chat.completions.create(model="lab/tiny", messages=HI, stream=True)
    await anext(over_http)
    await over_http.close()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    over_grpc = stream(chat)
    await anext(aiter(over_grpc))
    over_grpc.cancel()
    await asyncio.wait_for((await upstream.received(2)).closed.wait(), 5)


async def test_a_deadline_ends_the_call_at_the_vendor(front: Front, chat: Any, upstream: Upstream) -> None:
    upstream.script([Silence()])
    with pytest.raises(aio.AioRpcError) as caught:
        await unary(chat, timeout=0.3)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for((await upstream.received()).closed.wait(), 5)
    async with front.client() as client:
        answer = await client.post(
            f"{front.url}/v1/chat/completions",
            json={"model": "lab/tiny", "messages": HI},
            headers={"x-request-timeout": "0.3"},
        )
    assert answer.status_code == 408
    await asyncio.wait_for((await upstream.received(2)).closed.wait(), 5)


async def test_a_failure_passes_unchanged(front: Front, sdk: AsyncOpenAI, chat: Any) -> None:
    body = {"model": "nix", "messages": HI}
    async with front.client() as client:
        origins = (f"{front.url}", front.gateway.http_url)
        through, direct = [await client.post(f"{origin}/v1/chat/completions", json=body) for origin in origins]
    assert (through.status_code, through.json()) == (direct.status_code, direct.json())
    with pytest.raises(NotFoundError) as refused:
        await sdk.chat.completions.create(model="nix", messages=HI)
    assert refused.value.code == "model_not_found"
    with pytest.raises(aio.AioRpcError) as failed:
        await unary(chat, model="nix")
    assert failed.value.code() is StatusCode.NOT_FOUND
    assert rpc_status.from_call(failed.value).details


async def test_a_refused_call_is_not_sent_again_whatever_the_caller_asks(
    sdk: AsyncOpenAI, chat: Any, upstream: Upstream
) -> None:
    upstream.script(json_answer(refusal("Busy."), status=503))
    asked = {"x-envoy-retry-on": "5xx", "x-envoy-retry-grpc-on": "unavailable", "x-envoy-max-retries": "3"}
    with pytest.raises(APIStatusError) as refused:
        await sdk.chat.completions.create(model="lab/tiny", messages=HI, extra_headers=asked)
    assert refused.value.status_code == 503
    # Headgate itself asks once more (docs/routing.md); Envoy does not, whatever the caller asks of it.
    assert len(upstream.requests) == 2
    with pytest.raises(aio.AioRpcError) as failed:
        await unary(chat, metadata=tuple(asked.items()))
    assert failed.value.code() is StatusCode.UNAVAILABLE
    assert len(upstream.requests) == 4


async def test_large_bodies_pass_both_ways(sdk: AsyncOpenAI, chat: Any) -> None:
    said = "x" * (5 << 20)
    answer = await sdk.chat.completions.create(model="echo/echo", messages=[{"role": "user", "content": said}])
    assert answer.choices[0].message.content == said
    assert (await unary(chat, said, model="echo/echo")).completion.choices[0].message.content == said


async def test_headers_that_the_bridge_takes_pass(sdk: AsyncOpenAI) -> None:
    padding = {f"x-padding-{number}": "x" * 7000 for number in range(9)}
    answer = await sdk.chat.completions.create(model="echo/echo", messages=HI, extra_headers=padding)
    assert answer.choices[0].message.content == "hi"


@pytest.mark.parametrize("given", ["mine-1", UUID])
async def test_a_callers_request_id_is_kept(sdk: AsyncOpenAI, chat: Any, given: str) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="echo/echo", messages=HI, extra_headers={"x-request-id": given}
    )
    assert raw.headers["x-headgate-request-id"] == raw.headers["x-request-id"] == given
    call = unary(chat, model="echo/echo", metadata=(("x-request-id", given),))
    await call
    assert dict(await call.trailing_metadata())["x-headgate-request-id"] == given


async def test_the_access_log_tells_calls_and_no_secrets(front: Front, chat: Any, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})))
    async with front.client() as client:
        answer = await client.post(
            "/v1/chat/completions?key=sk-in-the-query",
            json={"model": "lab/tiny", "messages": HI},
            headers={"authorization": "Bearer sk-caller", "x-request-id": "rest-1"},
        )
    assert answer.status_code == 200
    with pytest.raises(aio.AioRpcError):
        await unary(chat, model="nix", metadata=(("x-request-id", "grpc-1"), ("authorization", "Bearer sk-caller")))
    rest, grpc = await front.lines(2)
    told = ("method", "path", "status", "cluster", "request_id", "provider", "grpc_status")
    assert [rest[key] for key in told] == ["POST", "/v1/chat/completions", 200, "bridge", "rest-1", "lab", None]
    assert [grpc[key] for key in (*told[:5], "grpc_status")] == [
        *("POST", "/headgate.v1.ChatCompletionService/CreateChatCompletion", 200, "core", "grpc-1", "NOT_FOUND"),
    ]
    assert rest["client"] == "127.0.0.1"
    assert rest["duration_ms"] >= 0
    assert "sk-" not in front.log.read_text()


async def test_readers_who_do_not_read_do_not_stop_the_others(chat: Any, upstream: Upstream) -> None:
    long = sse_answer([event({"content": "x" * 16_384})] * LONG)
    upstream.script(
        lambda received: long if received.json().get("stream") else json_answer(completion({"content": "Hi"}))
    )
    unread = [stream(chat) for _ in range(24)]
    for call in unread:
        await anext(aiter(call))
    counts = [-1]

    async def at_rest() -> bool:
        counts.append(sum(received.bytes_written for received in upstream.requests))
        await asyncio.sleep(0.3)
        return counts[-1] == counts[-2]

    await answered(at_rest)
    assert counts[-1] < len(unread) * LONG * 16_384
    assert (await unary(chat, timeout=10)).completion.choices[0].message.content == "Hi"
    for call in unread:
        call.cancel()


async def test_what_is_draining_gets_no_more_calls(front: Front, chat: Any) -> None:
    assert not await front.calls_off("core")
    await front.gateway.core.drain()
    await answered(lambda: front.calls_off("core"))
    with pytest.raises(aio.AioRpcError) as caught:
        await unary(chat, model="echo/echo")
    assert caught.value.code() is StatusCode.UNAVAILABLE
    (line,) = await front.lines(1)
    assert "UH" in line["flags"]


async def test_what_is_no_rpc_of_headgate_is_the_bridges(front: Front) -> None:
    async with front.client() as client:
        assert (await client.get("/")).text == "Ollama is running"
        answer = await client.post("/headgate.v1.ChatCompletionService/CreateChatCompletion", json={})
        assert answer.status_code == 404
    async with front.channel() as channel:
        method: Any = channel.unary_unary("/other.v1.Service/Method")
        with pytest.raises(aio.AioRpcError) as caught:
            await method(b"")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
