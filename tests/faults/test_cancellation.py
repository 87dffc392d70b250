"""A caller that leaves, in every phase of a call and in every way: the vendor's connection closes at once."""

import asyncio
from typing import Any

import pytest

from tests.conftest import lab_config
from tests.faults.callers import GRPC, REST, calling
from tests.faults.clock import Clock
from tests.faults.conftest import Log, nothing_left
from tests.faults.phases import PHASES, Phase, vendor_in
from tests.support.gateway import ARRANGEMENTS, Arrangement, running

# What is to be shown: the vendor sees its connection closed within so many seconds of the caller's leaving.
AT_ONCE = 0.1

# Who calls over gRPC meets the core, and no bridge: the arrangement does not matter.
WAYS = [*((name, arrangement) for name in REST for arrangement in ARRANGEMENTS), *((name, "together") for name in GRPC)]


@pytest.mark.parametrize("phase", PHASES, ids=str)
@pytest.mark.parametrize(("name", "arrangement"), WAYS)
async def test_a_caller_that_leaves_takes_the_vendors_connection_along(
    log: Log, complaints: list[Any], clock: Clock, name: str, arrangement: Arrangement, phase: Phase
) -> None:
    async with vendor_in(phase) as vendor, running(lab_config(vendor.base_url), arrangement) as gateway:
        before = asyncio.all_tasks()
        async with calling(name, gateway) as caller:
            await caller.call(stream=phase.stream)
            await vendor.reached(phase, caller)
            assert gateway.core.telemetry.calls_in_flight == 1
            left = clock.now()
            await caller.leave()
            assert clock.since(left, await vendor.closed_at()) < AT_ONCE
        await nothing_left(gateway, before)
    (line,) = [line for line in log() if line["event"] == "call"]
    assert line["status"] == "cancelled"
    assert [line for line in log() if line["level"] in ("warning", "error")] == []
