"""Whatever a body is, it is answered or refused: never with a fault of ours, and never not at all."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import lab_config
from tests.support.gateway import running
from tests.support.json_mutation import mutate
from tests.support.openai_documents import documented_requests, json_values, requests
from tests.support.openai_vendor import completion, streamed
from tests.support.upstream import Answer, Received, Upstream, json_answer, sse_answer

MODELS = ("echo/echo", "lab/tiny", "lab/größe", "nix", "")
SECONDS = 20
"""After which a request that is not answered hangs."""


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """A request with all kinds of fields, to a model that may be there."""
    document: dict[str, Any] = draw(requests | documented_requests)
    document["model"] = draw(st.sampled_from(MODELS))
    document["stream"] = draw(st.booleans())
    return document


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request in which something is wrong."""
    document = draw(asked())
    random = draw(st.randoms(use_true_random=False))
    for _ in range(draw(st.integers(1, 4))):
        mutate(document, random)
    return json.dumps(document, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request whose bytes were cut, or overwritten."""
    body = json.dumps(draw(asked())).encode()
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=8)) + body[at + draw(st.integers(0, 8)) :]


BODIES: st.SearchStrategy[bytes] = st.one_of(
    asked().map(lambda document: json.dumps(document).encode()),
    mutated(),
    mutated(),
    damaged(),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
)


def strict(text: bytes) -> Any:
    """What JSON text says; NaN and other words of Python's own are none."""

    def refuse(word: str) -> None:
        raise AssertionError(f"the vendor got {word}")

    return json.loads(text, parse_constant=refuse)


def vendor(received: Received) -> Answer:
    """Answers what is right JSON; anything else would be a fault of ours."""
    asked = strict(received.body)
    assert asked["messages"]
    if asked["model"] not in ("tiny", "größe"):  # a name that was cut is one still
        return json_answer({"error": {"message": "There is no such model.", "code": "model_not_found"}}, status=404)
    return sse_answer(streamed("Hel", "lo")) if asked.get("stream") else json_answer(completion({"content": "Hello"}))


async def check(http: httpx.AsyncClient, body: bytes) -> None:
    async with asyncio.timeout(SECONDS):
        response = await http.post("/v1/chat/completions", content=body)
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["message"]
        assert error["type"] == "invalid_request_error"
    elif response.headers["content-type"].startswith("text/event-stream"):
        assert response.text.endswith("data: [DONE]\n\n")
        assert '"error"' not in response.text
    else:
        assert response.json()["choices"]


def test_no_body_is_answered_with_a_fault_of_ours() -> None:
    async def started() -> httpx.AsyncClient:
        upstream = await stack.enter_async_context(Upstream())
        upstream.script(vendor)
        gateway = await stack.enter_async_context(running(lab_config(upstream.base_url)))
        client = httpx.AsyncClient(base_url=gateway.http_url, trust_env=False, timeout=None)
        return await stack.enter_async_context(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        http = runner.run(started())

        @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
        @given(body=BODIES)
        def any_body(body: bytes) -> None:
            runner.run(check(http, body))

        try:
            any_body()
        finally:
            runner.run(stack.aclose())
