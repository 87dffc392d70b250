"""Ollama's own SDK through a whole gateway: whole, streamed, and generated."""

from collections.abc import AsyncIterator

import pytest
from ollama import AsyncClient

from tests.support.gateway import Gateway
from tests.support.openai_vendor import completion, streamed
from tests.support.upstream import Upstream, json_answer, sse_answer

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(params=["", "/api/v1/ollama"])
async def ollama(request: pytest.FixtureRequest, gateway: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(host=gateway.http_url + request.param, trust_env=False) as client:
        yield client


async def test_a_chat_is_answered_and_streamed(ollama: AsyncClient, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})), sse_answer(streamed("Hel", "lo")))
    whole = await ollama.chat("lab/tiny", HI, options={"temperature": 0.5, "num_predict": 7})
    assert (whole.message.content, whole.done_reason, whole.prompt_eval_count, whole.eval_count) == (
        "Hello",
        "stop",
        9,
        4,
    )
    parts = [part async for part in await ollama.chat("lab/tiny", HI, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == "Hello"
    assert (parts[-1].done, parts[-1].prompt_eval_count, parts[-1].eval_count) == (True, 9, 4)
    asked = upstream.requests[0].json()
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("tiny", 0.5, 7)


async def test_a_prompt_is_answered(ollama: AsyncClient, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})), sse_answer(streamed("Hel", "lo")))
    assert (await ollama.generate("lab/tiny", "hi", system="Be brief.")).response == "Hello"
    parts = [part async for part in await ollama.generate("lab/tiny", "hi", stream=True)]
    assert "".join(part.response or "" for part in parts) == "Hello"
    assert [message["role"] for message in upstream.requests[0].json()["messages"]] == ["system", "user"]
