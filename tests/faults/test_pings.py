"""Comments in the silences of a stream: they keep it open, and are no answer."""

import asyncio

import pytest

from rest_bridge.config import BridgeConfig
from tests.conftest import lab_config
from tests.faults.callers import Rest
from tests.faults.outcomes import parsed
from tests.faults.phases import SAID, standing_still
from tests.support.gateway import ARRANGEMENTS, Arrangement, running
from tests.support.openai_vendor import event
from tests.support.upstream import Delay, Upstream, Wait, sse_answer

PING_SECONDS = 0.05
PING = b": ping\n\n"
QUICK = BridgeConfig(drain_seconds=1, ping_seconds=PING_SECONDS)
FINISH = event({}, "stop")


async def body(upstream: Upstream, arrangement: Arrangement) -> bytes:
    """The body of a streamed answer, to its end."""
    async with running(lab_config(upstream.base_url), arrangement, QUICK) as gateway:
        caller = Rest(gateway)
        await caller.call(stream=True)
        answer = parsed(await caller.raw.read_until(b"no answer says this"))
        await caller.close()
    assert answer.status == "200"
    return answer.body


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
async def test_a_vendor_that_is_silent_within_a_stream_is_bridged_with_comments(
    upstream: Upstream, arrangement: Arrangement
) -> None:
    upstream.script(sse_answer([*SAID, Delay(6 * PING_SECONDS), FINISH]))
    events = (await body(upstream, arrangement)).split(b"\n\n")
    pings = [index for index, found in enumerate(events) if found == b": ping"]
    said = [index for index, found in enumerate(events) if found.startswith(b"data: ")]
    assert len(pings) >= 2
    assert pings == list(range(pings[0], pings[0] + len(pings)))
    assert len(SAID) <= pings[0] < said[-2]
    assert events[said[-1]] == b"data: [DONE]"


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
async def test_a_vendor_that_is_slow_to_begin_is_not_answered_for(upstream: Upstream, arrangement: Arrangement) -> None:
    upstream.script([Delay(4 * PING_SECONDS), *sse_answer([*SAID, FINISH])])
    assert PING not in await body(upstream, arrangement)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
async def test_headers_without_an_event_are_not_an_answer_either(upstream: Upstream, arrangement: Arrangement) -> None:
    upstream.script(sse_answer([Delay(4 * PING_SECONDS), *SAID, FINISH]))
    assert PING not in await body(upstream, arrangement)


async def test_a_caller_that_reads_slowly_gets_no_comments_on_top(upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script(sse_answer([*[event({"content": "x" * 900})] * 2000, FINISH, Wait(go)]))
    patient = BridgeConfig(drain_seconds=1, ping_seconds=0.2)
    async with running(lab_config(upstream.base_url), bridge=patient) as gateway:
        caller = Rest(gateway)
        await caller.call(stream=True)
        await standing_still(await upstream.received())
        await asyncio.sleep(0.5)
        go.set()
        answer = parsed(await caller.raw.read_until(b"no answer says this"))
        await caller.close()
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert PING not in answer.body
