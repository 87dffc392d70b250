"""Tokens and cost behind a stream, in the trailers of HTTP/1.1, for callers that read them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.kept import ROOT, Kept, kept
from tests.support.openai_vendor import event
from tests.support.upstream import Reset, Upstream, sse_answer

PRICE = {"input_per_million": "1", "output_per_million": "2"}
MODELS = {"small": {"targets": [{"provider": "lab", "model": "tiny"}], "price": PRICE}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
CHUNKS = [event({"content": "Hello"}), event({}, "stop"), {**event({}), "choices": [], "usage": USAGE}]
BEHIND = b"x-headgate-input-tokens: 9\r\nx-headgate-output-tokens: 4\r\nx-headgate-cost: 0.000017\r\n"


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path, upstream, models=MODELS) as opened:
        yield opened


async def asked(world: Kept, path: str, te: str, **more: Any) -> tuple[bytes, bytes]:
    """The head and the rest of an answer, as they come over the connection."""
    body = orjson.dumps({"model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": True, **more})
    lines = [
        *(f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {ROOT}", "connection: close"),
        *(f"content-length: {len(body)}", *([f"te: {te}"] if te else [])),
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head, rest


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_a_caller_that_takes_trailers_is_told_behind_a_stream(world: Kept, upstream: Upstream, path: str) -> None:
    upstream.script(sse_answer(CHUNKS))
    head, rest = await asked(world, path, "trailers")
    assert b"\r\ntrailer: x-headgate-attempts, x-headgate-cost, " in head
    assert rest.endswith(b"\r\n0\r\n" + BEHIND + b"\r\n")


@pytest.mark.parametrize("te", ["", "deflate"])
async def test_a_caller_that_takes_none_gets_none(world: Kept, upstream: Upstream, te: str) -> None:
    upstream.script(sse_answer(CHUNKS))
    head, rest = await asked(world, "/v1/chat/completions", te)
    assert b"trailer" not in head
    assert rest.endswith(b"\r\n0\r\n\r\n")


async def test_a_stream_that_goes_on_without_its_caller_has_them_too(world: Kept, upstream: Upstream) -> None:
    upstream.script(sse_answer(CHUNKS))
    raw = await world.sdk.chat.completions.with_raw_response.create(
        model="small",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_headers={"x-headgate-detach": "9s"},
    )
    identity = raw.headers["x-headgate-stream-id"]
    await raw.http_response.aread()
    head, rest = await asked(world, f"/v1/chat/completions/{identity}/stream", "trailers")
    assert b"200 OK" in head
    assert rest.endswith(b"\r\n0\r\n" + BEHIND + b"\r\n")


async def test_a_stream_that_breaks_off_tells_of_its_attempts_behind(world: Kept, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Reset()]))
    _, rest = await asked(world, "/v1/chat/completions", "trailers")
    assert b'"error"' in rest
    assert b"\r\n0\r\nx-headgate-attempts: lab/tiny=" in rest
