"""Ollama's own SDK, through a whole gateway, to a vendor that speaks OpenAI's format."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ollama import AsyncClient, ResponseError

from tests.support.gateway import Gateway
from tests.support.upstream import Silence, Upstream, json_answer, sse_answer

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(host=gateway.http_url, trust_env=False) as client:
        yield client


def event(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}


USAGE = {**event({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}


async def test_a_chat_is_streamed(sdk: AsyncClient, upstream: Upstream) -> None:
    thought, said = {"role": "assistant", "reasoning_content": "Hm."}, {"content": "Hello"}
    upstream.script(sse_answer([event(thought), event(said), event({}, "stop"), USAGE]))
    parts = [part async for part in await sdk.chat("lab/tiny", HI, options={"num_predict": 7}, stream=True)]
    assert "".join(part.message.thinking or "" for part in parts) == "Hm."
    assert "".join(part.message.content or "" for part in parts) == "Hello"
    last = parts[-1]
    assert (last.model, last.done_reason, last.prompt_eval_count, last.eval_count) == ("lab/tiny", "stop", 3, 2)
    assert (await upstream.received()).json()["max_tokens"] == 7


async def test_a_tool_is_called(sdk: AsyncClient, upstream: Upstream) -> None:
    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    calls = [event({"tool_calls": [begun]}), event({"tool_calls": [rest]}), event({}, "tool_calls")]
    upstream.script(sse_answer([*calls, USAGE]))
    parts = [part async for part in await sdk.chat("lab/tiny", HI, stream=True)]
    found = [call for part in parts for call in part.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in found] == [("add", {"a": 1})]


async def test_what_the_vendor_does_not_take_is_named(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http:
        options = {"num_ctx": 4096, "temperature": 0.5}
        body = {"model": "echo/echo", "messages": HI, "stream": False, "options": options, "keep_alive": "5m"}
        response = await http.post("/api/chat", json=body)
    assert response.json()["message"]["content"] == "hi"
    named = {warning.partition(":")[0] for warning in response.headers.get_list("x-headgate-warning")}
    assert named == {"options.num_ctx", "keep_alive"}


async def test_the_error_of_the_vendor_keeps_status_and_words(sdk: AsyncClient, upstream: Upstream) -> None:
    upstream.script(json_answer({"error": {"message": "No such tune.", "type": "invalid_request_error"}}, status=422))
    with pytest.raises(ResponseError) as caught:
        await sdk.generate("lab/tiny", "hi")
    assert caught.value.status_code == 422
    assert "No such tune." in caught.value.error


async def test_a_model_that_does_not_exist_is_told_in_the_words_of_ollama(sdk: AsyncClient) -> None:
    with pytest.raises(ResponseError) as caught:
        await sdk.chat("nix", HI)
    assert (caught.value.status_code, caught.value.error) == (404, "model 'nix' not found")


async def test_the_echo_is_listed_and_shown(sdk: AsyncClient) -> None:
    names = [model.model for model in (await sdk.list()).models]
    assert "echo/echo" in names
    assert (await sdk.show("echo/echo")).capabilities


async def test_leaving_closes_the_connection_to_the_vendor(sdk: AsyncClient, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Silence()]))
    came = asyncio.Event()

    async def call() -> None:
        async for _ in await sdk.chat("lab/tiny", HI, stream=True):
            came.set()

    caller = asyncio.create_task(call())
    async with asyncio.timeout(10):
        await came.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await (await upstream.received()).closed.wait()
