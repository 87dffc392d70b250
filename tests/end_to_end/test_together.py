"""A stream is the same over every interface however its pieces arrive: one by one, or all at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from grpc import aio
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.completion import fold
from gateway_core.config import Config
from tests.support.gateway import Gateway, running
from tests.support.upstream import Upstream, Wait, sse_answer

SAID = ["Once", " upon", " a", " t\u00efme", " \U0001f600", "."]
HEAD = {"id": "c-1", "created": 1, "model": "tiny", "object": "chat.completion.chunk"}
CHUNKS = [
    {**HEAD, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
    *({**HEAD, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in SAID),
    {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}},
]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as vendor:
        yield vendor


@pytest.fixture
async def gateway(upstream: Upstream) -> AsyncIterator[Gateway]:
    config = {
        "storage": False,
        "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}]}},
    }
    async with running(Config.model_validate(config)) as gateway:
        yield gateway


AT_ONCE = 1 << 20
"""Bytes: more than the stream has."""


async def sse(gateway: Gateway, upstream: Upstream, piece_bytes: int | None) -> list[str]:
    upstream.script(sse_answer(CHUNKS, piece_bytes=piece_bytes))
    asked = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http:
        answered = await http.post("/v1/chat/completions", json=asked)
    return answered.text.split("\n\n")


async def ndjson(gateway: Gateway, upstream: Upstream, piece_bytes: int | None) -> list[Any]:
    upstream.script(sse_answer(CHUNKS, piece_bytes=piece_bytes))
    asked = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http:
        answered = await http.post("/api/chat", json=asked)
    return [orjson.loads(line)["message"] for line in answered.text.splitlines()]


async def chunks(gateway: Gateway, upstream: Upstream, piece_bytes: int | None) -> list[ChatCompletionChunk]:
    upstream.script(sse_answer(CHUNKS, piece_bytes=piece_bytes))
    request = StreamChatCompletionRequest()
    request.spec.model = "small"
    request.spec.messages.add(role=ROLE_USER, text="Hi")
    async with aio.insecure_channel(gateway.grpc_address) as channel:
        return [each.chunk async for each in ChatCompletionServiceStub(channel).StreamChatCompletion(request)]


async def test_events_over_rest_are_those_of_the_vendor(gateway: Gateway, upstream: Upstream) -> None:
    one_by_one = await sse(gateway, upstream, None)
    assert [text for text in SAID if any(orjson.dumps(text).decode() in each for each in one_by_one)] == SAID
    assert await sse(gateway, upstream, AT_ONCE) == one_by_one
    assert await sse(gateway, upstream, 7) == one_by_one


async def test_lines_of_ollama_are_as_many(gateway: Gateway, upstream: Upstream) -> None:
    assert await ndjson(gateway, upstream, AT_ONCE) == await ndjson(gateway, upstream, None)


async def test_a_chunk_over_grpc_has_the_pieces_that_arrived_together(gateway: Gateway, upstream: Upstream) -> None:
    together = await chunks(gateway, upstream, AT_ONCE)
    said = [each for each in together if each.choices and each.choices[0].delta.content]
    assert len(said) < len(SAID)
    lengths = [length for each in said for length in each.piece_lengths or [len(each.choices[0].delta.content)]]
    assert lengths == [len(text) for text in SAID]
    assert fold(together) == fold(await chunks(gateway, upstream, None))


async def test_pieces_that_come_one_after_the_other_are_handed_on_one_by_one(
    gateway: Gateway, upstream: Upstream
) -> None:
    gates = [asyncio.Event() for _ in SAID]
    script: list[Any] = [CHUNKS[0]]
    for gate, chunk in zip(gates, CHUNKS[1:], strict=False):
        script += [Wait(gate), chunk]
    upstream.script(sse_answer([*script, *CHUNKS[len(SAID) + 1 :]]))
    request = StreamChatCompletionRequest()
    request.spec.model = "small"
    request.spec.messages.add(role=ROLE_USER, text="Hi")
    async with aio.insecure_channel(gateway.grpc_address) as channel:
        call: Any = ChatCompletionServiceStub(channel).StreamChatCompletion(request)
        await call.read()
        for gate, text in zip(gates, SAID, strict=True):
            gate.set()
            assert (await call.read()).chunk.choices[0].delta.content == text
        call.cancel()
