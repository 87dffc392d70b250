"""A deadline, in every phase of a call and by every way of setting it: it ends the call, the vendor's part included."""

import asyncio
from typing import Any

import pytest

from tests.conftest import lab_config
from tests.faults.callers import calling
from tests.faults.clock import Clock
from tests.faults.conftest import Log, nothing_left
from tests.faults.outcomes import Outcome
from tests.faults.phases import PHASES, Phase, vendor_in
from tests.support.gateway import Arrangement, running
from tests.support.openai_vendor import event
from tests.support.upstream import Silence, Upstream, sse_answer

SECONDS = 0.2

# What is to be shown: the vendor's part of the call has ended within so many seconds of its beginning.
CLOSED_WITHIN = 0.3

WAYS: tuple[tuple[str, Arrangement], ...] = (
    ("openai sdk", "together"),
    ("rest", "apart"),
    ("ollama", "together"),
    ("ollama", "apart"),
    ("grpc", "together"),
)


def late(name: str, phase: Phase) -> Outcome:
    """What a caller gets whose deadline passed in a phase."""
    if name == "grpc":
        return Outcome("DEADLINE_EXCEEDED", "", False)
    return Outcome("200" if phase.reads else "408", "error" if name == "ollama" else "deadline_exceeded", False)


@pytest.mark.parametrize("phase", PHASES, ids=str)
@pytest.mark.parametrize(("name", "arrangement"), WAYS)
async def test_a_deadline_ends_the_call_and_the_vendors_part_of_it(
    log: Log, complaints: list[Any], clock: Clock, name: str, arrangement: Arrangement, phase: Phase
) -> None:
    async with vendor_in(phase) as vendor, running(lab_config(vendor.base_url), arrangement) as gateway:
        before = asyncio.all_tasks()
        async with calling(name, gateway) as caller:
            await caller.call(stream=phase.stream, seconds=SECONDS)
            await vendor.asked()
            asked = clock.now()
            if phase.reads:
                await caller.read_event()
            assert clock.since(asked, await vendor.closed_at()) < CLOSED_WITHIN
            outcome = await caller.outcome()
            assert outcome._replace(code="" if name == "grpc" else outcome.code) == late(name, phase)
            assert outcome.code in ("", "error", "deadline_exceeded")
        await nothing_left(gateway, before)
    (line,) = [line for line in log() if line["event"] == "call"]
    assert line["status"] == "deadline_exceeded"
    assert [line for line in log() if line["level"] in ("warning", "error")] == []


async def test_a_caller_over_grpc_hears_from_headgate_why_its_deadline_passed() -> None:
    async with Upstream() as upstream:
        upstream.script(sse_answer([event({"content": "a"}), Silence()]))
        async with running(lab_config(upstream.base_url)) as gateway, calling("grpc", gateway) as caller:
            await caller.call(stream=True, seconds=1)
            await caller.read_event()
            assert await caller.outcome() == Outcome("DEADLINE_EXCEEDED", "deadline_exceeded", False)
