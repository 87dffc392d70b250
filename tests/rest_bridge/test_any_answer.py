"""Whatever a vendor answers, callers of every dialect get an answer or an error: never a fault of ours."""

import asyncio
import copy
from contextlib import AsyncExitStack
from typing import Any

import httpx
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import lab_config
from tests.support.gateway import running
from tests.support.json_mutation import mutate
from tests.support.openai_documents import answers
from tests.support.openai_vendor import called, completion, event, refusal
from tests.support.upstream import Answer, Upstream, json_answer, sse_answer

PATHS = ("/v1/chat/completions", "/api/chat", "/api/generate")
SECONDS = 20
DEEP = '{"a": ' + "[" * 300 + "]" * 300 + "}"


@st.composite
def told(draw: st.DrawFn) -> Answer:
    """An answer: whole, streamed or refused, in which something may be wrong."""
    random = draw(st.randoms(use_true_random=False))
    kind = draw(st.sampled_from(["whole", "streamed", "refused"]))
    document: dict[str, Any] = refusal("No.", type="t", code="c") if kind == "refused" else draw(answers)
    events = [chunk_of(document), chunk_of(document)] if kind == "streamed" else [document]
    for each in events:
        for _ in range(draw(st.integers(0, 3))):
            mutate(each, random)
    if kind == "streamed":
        return sse_answer(events, done=draw(st.booleans()))
    return json_answer(events[0], status=draw(st.sampled_from([400, 404, 429, 503])) if kind == "refused" else 200)


def chunk_of(document: dict[str, Any]) -> dict[str, Any]:
    """A chunk that says all of a whole answer."""
    chunk = copy.deepcopy(document)
    for choice in chunk["choices"]:
        choice["delta"] = choice.pop("message")
    return chunk


async def check(http: httpx.AsyncClient, path: str, stream: bool) -> None:
    body = {"model": "lab/tiny", "stream": stream, "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}
    async with asyncio.timeout(SECONDS):
        response = await http.post(path, json=body)
    assert response.status_code != 500, response.text
    assert "Headgate failed" not in response.text


def test_no_answer_of_a_vendor_becomes_a_fault_of_ours() -> None:
    async def started() -> tuple[Upstream, httpx.AsyncClient]:
        upstream = await stack.enter_async_context(Upstream())
        gateway = await stack.enter_async_context(running(lab_config(upstream.base_url)))
        client = httpx.AsyncClient(base_url=gateway.http_url, trust_env=False, timeout=None)
        return upstream, await stack.enter_async_context(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        upstream, http = runner.run(started())

        @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
        @given(answer=told(), path=st.sampled_from(PATHS), stream=st.booleans())
        def any_answer(answer: Answer, path: str, stream: bool) -> None:
            upstream.script(answer)
            runner.run(check(http, path, stream))

        try:
            any_answer()
            for path in PATHS:
                upstream.script(
                    json_answer(completion({"content": None, "tool_calls": [called("f", DEEP)]}, "tool_calls"))
                )
                runner.run(check(http, path, False))
                upstream.script(sse_answer([event({"tool_calls": [called("f", DEEP)]}, "tool_calls")]))
                runner.run(check(http, path, True))
        finally:
            runner.run(stack.aclose())
