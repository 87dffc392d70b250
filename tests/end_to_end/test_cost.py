"""What a call cost is in its usage, by the same digits in every form of an answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.kept import Kept, kept
from tests.support.upstream import Upstream, json_answer, sse_answer

USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
COST = b'"cost":0.000000000004'
MODELS = {
    "small": {
        "targets": [{"provider": "lab", "model": "tiny"}],
        "price": {"input_per_million": "0.000001", "output_per_million": "0.000001"},
    },
    "unpriced": {"targets": [{"provider": "lab", "model": "tiny"}]},
}


def document(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "t",
        "choices": [choice],
        "usage": USAGE,
        **more,
    }


CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "t",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path, upstream, models=MODELS) as opened:
        yield opened


async def answered(world: Kept, model: str = "small", **more: Any) -> tuple[bytes, str | None]:
    """The body, and the header that tells the cost."""
    response = await world.sdk.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "Hi"}], **more
    )
    return await response.http_response.aread(), response.headers.get("x-headgate-cost")


@pytest.mark.parametrize("more", [{}, {"vendor_field": 1}], ids=["handed on as JSON", "typed"])
async def test_a_whole_answer_has_its_cost(world: Kept, upstream: Upstream, more: dict[str, Any]) -> None:
    upstream.script(json_answer(document(**more)))

    body, header = await answered(world)

    assert COST in body
    assert header == "0.000000000004"
    assert orjson.loads(body)["usage"] == {**USAGE, "cost": 4e-12}


@pytest.mark.parametrize("include_usage", [True, False])
async def test_the_end_of_a_stream_has_the_cost(world: Kept, upstream: Upstream, include_usage: bool) -> None:
    upstream.script(sse_answer([CHUNK, {**CHUNK, "choices": [], "usage": USAGE}]))

    body, _ = await answered(world, stream=True, stream_options={"include_usage": include_usage})

    *_, last, done = body.strip().split(b"\n\n")
    assert done == b"data: [DONE]"
    assert COST in last
    assert body.count(b"cost") == 1


async def test_openais_sdk_reads_the_cost(world: Kept, upstream: Upstream) -> None:
    upstream.script(json_answer(document()))

    answer = await world.sdk.chat.completions.create(model="small", messages=[{"role": "user", "content": "Hi"}])

    assert answer.usage is not None
    assert answer.usage.model_extra == {"cost": 4e-12}


@pytest.mark.parametrize("more", [{}, {"vendor_field": 1}], ids=["handed on as JSON", "typed"])
async def test_without_a_price_there_is_no_cost(world: Kept, upstream: Upstream, more: dict[str, Any]) -> None:
    upstream.script(json_answer(document(**more)))

    body, header = await answered(world, "unpriced")

    assert (b"cost" in body, header) == (False, None)
