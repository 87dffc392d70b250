"""Mixed load on a model whose first target fails by chance: nothing hangs, no answer is wrong, every call is in the ledger.

HEADGATE_LOAD_SECONDS says how long; ten minutes show that memory is flat.
"""

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from gateway_core.storage.ledger_proof import proof
from tests.faults.conftest import nothing_left
from tests.faults.test_routing import HI, PATIENCE, RANDOM_FAULTS, SAID, well
from tests.gateway_core.metering.rows import requests
from tests.support.kept import kept
from tests.support.openai_vendor import event, texts
from tests.support.upstream import Answer, Cut, Delay, Received, Silence, Upstream, sse_answer

SECONDS = float(os.environ.get("HEADGATE_LOAD_SECONDS", "8"))
AT_ONCE = 16
CALL_SECONDS_AT_MOST = 10.0
BEGUN = [event({"role": "assistant"}), event({"content": SAID[:9]}), Delay(0.01)]
LATE_FAULTS: list[Answer] = [
    sse_answer([*BEGUN, Cut()], done=False),
    sse_answer([*BEGUN, Silence()]),
    sse_answer([*BEGUN, b"data: {oops\n\n"]),
]
USAGE_PICO_USD = 9 * 10**6 + 4 * 2 * 10**6
"""What a whole answer costs."""


async def one(sdk: AsyncOpenAI, chance: random.Random) -> str:
    """One call, and what became of it."""
    stream, leaves = chance.random() < 0.6, chance.random() < 0.1
    try:
        async with asyncio.timeout(CALL_SECONDS_AT_MOST):
            answer: Any = await sdk.chat.completions.create(model="small", messages=HI, stream=stream)
            if not stream:
                return "whole" if answer.choices[0].message.content == SAID else "wrong"
            chunks: list[Any] = []
            async for chunk in answer:
                chunks.append(chunk)
                if leaves and len(chunks) == 2:
                    await answer.close()
                    return "left"
            return "whole" if texts(chunks) == SAID else "wrong"
    except openai.APIError:
        return "failed"
    except TimeoutError:
        return "hung"


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def faulty(chance: random.Random, faults: Sequence[Answer]) -> Any:
    def route(request: Received) -> Answer:
        if chance.random() >= 0.3:
            return well(request)
        late = request.json().get("stream") and chance.random() < 0.1
        return chance.choice(LATE_FAULTS if late else faults)

    return route


@pytest.mark.slow
async def test_a_provider_that_fails_by_chance_under_load(tmp_path: Path, upstream: Upstream) -> None:
    chance = random.Random(5)
    upstream.script(faulty(chance, RANDOM_FAULTS))
    async with Upstream() as spare:
        spare.script(well)
        providers = {
            name: {"kind": "openai", "base_url": vendor.base_url, "lists_models": False, "timeouts": PATIENCE}
            for name, vendor in (("lab", upstream), ("spare", spare))
        }
        targets = [{"provider": "lab", "model": "tiny"}, {"provider": "spare", "model": "large"}]
        row = {"targets": targets, "hedge": True, "price": {"input_per_million": 1, "output_per_million": 2}}
        routing = {"circuit": {"open_seconds": 1}}
        async with kept(tmp_path, upstream, providers=providers, models={"small": row}, routing=routing) as running:
            before = asyncio.all_tasks()
            outcomes: Counter[str] = Counter()
            sizes: list[int] = []
            loop = asyncio.get_running_loop()
            ends_at = loop.time() + SECONDS

            async def caller() -> None:
                while loop.time() < ends_at:
                    outcomes[await one(running.sdk, chance)] += 1
                    if sum(outcomes.values()) % 500 == 0:
                        sizes.append(resident_bytes())
                        for vendor in (upstream, spare):
                            vendor.requests.clear()
                            vendor.connections[:] = [each for each in vendor.connections if not each.closed.is_set()]

            await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
            await nothing_left(running.gateway, before)
            store = running.gateway.core._store
            assert store is not None
            async with store.database.reading(settled=True) as connection:
                proved = await proof(connection)
            rows = await requests(store.database)
    count = sum(outcomes.values())
    print(count, dict(outcomes), Counter(row["status"] for row in rows), [size >> 20 for size in sizes])
    assert outcomes["wrong"] == outcomes["hung"] == 0
    assert outcomes["failed"] <= 0.05 * count
    assert (proved.faults, proved.open_count, proved.request_count) == ((), 0, count)
    whole = [row for row in rows if row["status"] == "ok"]
    assert len(whole) >= outcomes["whole"]
    assert {row["charged_pico_usd"] for row in whole} == {USAGE_PICO_USD}
    assert sum(row["attempt_count"] for row in rows) <= 1.2 * count
    assert len(sizes) < 20 or sizes[-1] <= 1.2 * sizes[len(sizes) // 3]
