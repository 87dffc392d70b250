"""A vendor that fails at any point of its answer: no caller takes what came until then for the whole."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core.config import Config, ProviderConfig, TimeoutsConfig
from tests.faults.callers import calling
from tests.faults.conftest import Log, nothing_left
from tests.faults.outcomes import Outcome
from tests.faults.phases import JSON_HEAD, SAID, SSE_HEAD
from tests.support.gateway import ARRANGEMENTS, Arrangement, running
from tests.support.openai_vendor import completion, event, usage_event
from tests.support.upstream import (
    Answer,
    Cut,
    Delay,
    Received,
    Reset,
    Silence,
    Step,
    Upstream,
    answer,
    chunk,
    head,
    json_answer,
    sse_answer,
    sse_event,
)

PATIENCE = TimeoutsConfig(first_byte_seconds=0.3, idle_seconds=0.3)

# What came before a reset is lost where it has not been read yet.
READ = Delay(0.1)
FINISH = event({}, "stop")
BEGUN: list[Step] = [SSE_HEAD, *[chunk(sse_event(said)) for said in SAID], READ]
ENDED: list[Step] = [*BEGUN, chunk(sse_event(FINISH)), chunk(sse_event(usage_event())), READ]
HALF: list[Step] = [JSON_HEAD, b'{"id": "chatcmpl-1", "choices": [{"index": 0, ', READ]
HALF_HEAD = b"HTTP/1.1 200 OK\r\ncontent-ty"
NO_JSON = b'data: {"choices": [{"index": 0, "delta": {"content": "He\n\n'
NO_HTTP = b"\x00\x01 This is no HTTP.\r\n\r\n"
NO_CHUNK = b"This is no chunk.\r\n"
PAGE = b"<html><body>Bad gateway</body></html>"

BROKEN = "provider_broken"
TIMEOUT = "provider_timeout"

Faults = Mapping[str, tuple[Answer, str]]

BEFORE_THE_HEADERS: Faults = {
    "cut": ([Cut()], BROKEN),
    "reset": ([Reset()], BROKEN),
    "silent": ([Silence()], TIMEOUT),
    "garbage": ([NO_HTTP, Silence()], BROKEN),
    "cut in the headers": ([HALF_HEAD, Cut()], BROKEN),
    "reset in the headers": ([HALF_HEAD, READ, Reset()], BROKEN),
    "silent in the headers": ([HALF_HEAD, Silence()], TIMEOUT),
}
BEFORE_THE_FIRST_EVENT: Faults = {
    "cut": ([SSE_HEAD, Cut()], BROKEN),
    "reset": ([SSE_HEAD, READ, Reset()], BROKEN),
    "silent": ([SSE_HEAD, Silence()], TIMEOUT),
    "garbage": ([SSE_HEAD, NO_CHUNK, Silence()], BROKEN),
    "a page": (answer([PAGE], headers={"content-type": "text/html"}), BROKEN),
    "a page as events": (sse_answer([PAGE], done=False), BROKEN),
    "no JSON": (sse_answer([NO_JSON]), BROKEN),
    "nothing": (sse_answer([], done=False), BROKEN),
    "nothing but [DONE]": (sse_answer([]), BROKEN),
    "an empty body": (answer(headers={"content-type": "text/event-stream"}), BROKEN),
    "no encoding": (
        [head(200, {"content-encoding": "gzip", "content-type": "text/event-stream"}), PAGE, Cut()],
        BROKEN,
    ),
}
IN_THE_STREAM: Faults = {
    "cut": ([*BEGUN, Cut()], BROKEN),
    "reset": ([*BEGUN, Reset()], BROKEN),
    "silent": ([*BEGUN, Silence()], TIMEOUT),
    "garbage": ([*BEGUN, NO_CHUNK, Silence()], BROKEN),
    "no JSON": ([*BEGUN, chunk(NO_JSON), Silence()], BROKEN),
    "ended without a finish reason": (sse_answer(SAID, done=False), BROKEN),
    "cut in an event": ([*BEGUN, chunk(sse_event(FINISH)[:40]), Cut()], BROKEN),
    "ended in an event": (sse_answer([*SAID, sse_event(FINISH)[:40]], done=False), BROKEN),
    "cut without framing": (sse_answer([*SAID, READ], done=False, framing="close"), BROKEN),
    "reset without framing": ([head(200, {"content-type": "text/event-stream"}), *map(sse_event, SAID), READ, Reset()], BROKEN),
    "shorter than it said": (answer([*map(sse_event, SAID), READ, Cut()], headers={"content-type": "text/event-stream", "content-length": "9999"}), BROKEN),
    "a choice that is not finished": (sse_answer([*SAID, event({"content": "Hi"}, index=1), FINISH], done=False), BROKEN),
    "an error": (sse_answer([*SAID, {"error": {"message": "Out of memory."}}]), BROKEN),
}  # fmt: skip
AFTER_THE_END: Faults = {
    "cut": ([*ENDED, Cut()], ""),
    "reset": ([*ENDED, Reset()], ""),
    "silent": ([*ENDED, Silence()], ""),
    "garbage": ([*ENDED, NO_CHUNK, Silence()], ""),
    "ended without [DONE]": (sse_answer([*SAID, FINISH], done=False), ""),
    "silent after [DONE]": ([*ENDED, chunk(b"data: [DONE]\n\n"), Silence()], ""),
}
IN_THE_BODY: Faults = {
    "cut": ([*HALF, Cut()], BROKEN),
    "reset": ([*HALF, Reset()], BROKEN),
    "silent": ([*HALF, Silence()], TIMEOUT),
    "no JSON": (answer([b'{"id": "chatcmpl-1", '], headers={"content-type": "application/json"}), BROKEN),
    "a page": (answer([PAGE], headers={"content-type": "text/html"}), BROKEN),
    "an empty body": (answer(headers={"content-type": "application/json"}), BROKEN),
    "no choices": (json_answer({**completion({}), "choices": []}), BROKEN),
    "cut in a chunk": ([SSE_HEAD.replace(b"text/event-stream", b"application/json"), b"40\r\n{", READ, Cut()], BROKEN),
    "garbage": ([SSE_HEAD.replace(b"text/event-stream", b"application/json"), NO_CHUNK, Silence()], BROKEN),
    "events that break off": ([*BEGUN, Cut()], BROKEN),
    "events that end too soon": (sse_answer(SAID, done=False), BROKEN),
}

WAYS = [*((name, arrangement) for name in ("rest", "ollama") for arrangement in ARRANGEMENTS), ("grpc", "together")]
GRPC_STATUS = {BROKEN: "UNAVAILABLE", TIMEOUT: "DEADLINE_EXCEEDED", "": "OK"}
HTTP_STATUS = {BROKEN: "502", TIMEOUT: "504", "": "200"}


def seen(name: str, code: str, has_begun: bool) -> Outcome:
    """What a caller sees of a fault; has_begun: the answer had begun by then, with status 200."""
    if name == "grpc":
        return Outcome(GRPC_STATUS[code], code, not code)
    status = "200" if has_begun else HTTP_STATUS[code]
    return Outcome(status, "error" if code and name == "ollama" else code, not code)


def script(faults: Faults) -> Any:
    """Answers each request as the model's name says."""

    def route(received: Received) -> Answer:
        return faults[received.json()["model"]][0]

    return route


@pytest.mark.parametrize(
    ("faults", "stream", "has_begun"),
    [
        pytest.param(BEFORE_THE_HEADERS, True, False, id="streamed, before the headers"),
        pytest.param(BEFORE_THE_HEADERS, False, False, id="unary, before the headers"),
        pytest.param(BEFORE_THE_FIRST_EVENT, True, False, id="streamed, before the first event"),
        pytest.param(IN_THE_STREAM, True, True, id="streamed, after some events"),
        pytest.param(AFTER_THE_END, True, True, id="streamed, after the finish reason"),
        pytest.param(AFTER_THE_END, False, True, id="streamed although unary was asked, after the finish reason"),
        pytest.param(IN_THE_BODY, False, False, id="unary, in the body"),
    ],
)
@pytest.mark.parametrize(("name", "arrangement"), WAYS)
async def test_a_truncated_answer_is_never_a_success(
    log: Log, complaints: list[Any], upstream: Upstream, name: str, arrangement: Arrangement,
    faults: Faults, stream: bool, has_begun: bool,
) -> None:  # fmt: skip
    upstream.script(script(faults))
    lab = ProviderConfig(kind="openai", base_url=upstream.base_url, lists_models=False, timeouts=PATIENCE)
    async with running(Config(providers={"lab": lab}), arrangement) as gateway:
        before = asyncio.all_tasks()

        async def outcome(fault: str) -> Outcome:
            async with calling(name, gateway) as caller:
                await caller.call(stream=stream, model=f"lab/{fault}")
                return await caller.outcome()

        outcomes = await asyncio.gather(*(outcome(fault) for fault in faults))
        assert dict(zip(faults, outcomes, strict=True)) == {
            fault: seen(name, code, has_begun) for fault, (_, code) in faults.items()
        }
        await nothing_left(gateway, before)
    statuses = {
        line["requested_model"].removeprefix("lab/"): line["status"] for line in log() if line["event"] == "call"
    }
    assert statuses == {fault: code or "ok" for fault, (_, code) in faults.items()}
    assert [line for line in log() if line["level"] == "error"] == []
