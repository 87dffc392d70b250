"""Whatever a body is, Ollama's API answers or refuses it: never with a fault of ours, and never not at all."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_core.config import Config
from tests.support.gateway import running
from tests.support.json_mutation import mutate
from tests.support.openai_documents import json_values

SECONDS = 20
"""After which a request that is not answered hangs."""

CALL = {"function": {"name": "look", "arguments": {"where": "Lisbon"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_name": "look", "content": "sunny"},
    ],
    "tools": [TOOL],
}
GENERATE: dict[str, Any] = {"prompt": "Hi", "system": "Be brief.", "suffix": "", "images": []}
SHARED: dict[str, Any] = {
    "format": {"type": "object"},
    "think": "low",
    "keep_alive": "5m",
    "options": {"temperature": 0.5, "top_k": 4, "seed": 1, "stop": ["x"], "num_predict": 5, "num_ctx": 2048},
}


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An endpoint, and a request to a model that may be there."""
    endpoint, fields = draw(st.sampled_from([("chat", CHAT), ("generate", GENERATE)]))
    kept = draw(st.sets(st.sampled_from(sorted(SHARED))))
    document = {**fields, **{name: SHARED[name] for name in kept}, "stream": draw(st.booleans())}
    document["model"] = draw(st.sampled_from(("echo/echo", "echo/größe", "nix", "")))
    return endpoint, json.loads(json.dumps(document))


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """An endpoint and a body: right, wrong in some places, cut, or anything at all."""
    endpoint, document = draw(asked())
    way = draw(st.sampled_from(("right", "wrong", "wrong", "cut", "json", "bytes")))
    if way == "json":
        return endpoint, json.dumps(draw(json_values)).encode()
    if way == "bytes":
        return endpoint, draw(st.binary(max_size=200))
    random = draw(st.randoms(use_true_random=False))
    for _ in range(draw(st.integers(1, 4)) if way == "wrong" else 0):
        mutate(document, random)
    body = json.dumps(document, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    return endpoint, body[: draw(st.integers(0, len(body)))] if way == "cut" else body


async def check(http: httpx.AsyncClient, endpoint: str, body: bytes) -> None:
    async with asyncio.timeout(SECONDS):
        response = await http.post(f"/api/{endpoint}", content=body)
    assert response.status_code in (200, 400, 404), response.text
    lines = [json.loads(line) for line in response.text.splitlines()]
    if response.status_code == 200:
        assert lines[-1]["done"] is True
        assert not any("error" in line for line in lines)
    else:
        (line,) = lines
        assert isinstance(line["error"], str)
        assert line["error"]


def test_no_body_is_answered_with_a_fault_of_ours() -> None:
    async def started() -> httpx.AsyncClient:
        gateway = await stack.enter_async_context(running(Config()))
        client = httpx.AsyncClient(base_url=gateway.http_url, trust_env=False, timeout=None)
        return await stack.enter_async_context(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        http = runner.run(started())

        @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
        @given(asked_for=bodies())
        def any_body(asked_for: tuple[str, bytes]) -> None:
            runner.run(check(http, *asked_for))

        try:
            any_body()
        finally:
            runner.run(stack.aclose())
