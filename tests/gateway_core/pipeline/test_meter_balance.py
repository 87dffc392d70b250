"""What calls cost that did not end well counts for the next ones at once."""

import asyncio
from typing import Any

import pytest

from gateway_core.call import Call, Events
from gateway_core.errors import InsufficientBalance, ProviderBroken
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.price import prices
from gateway_core.pipeline import compose, meter
from tests.gateway_core.metering.rows import requests, text
from tests.gateway_core.pipeline.test_admit import CONFIG, DOLLAR, Admission, admission, asked

__all__ = ["admission"]


@pytest.mark.parametrize("breaks", [False, True])
async def test_what_a_stream_cost_that_was_left_or_broke_off_counts_at_once(admission: Admission, breaks: bool) -> None:
    await admission.account(usd=14)
    ledger = Ledger(admission.database)
    await ledger.start()

    async def answer() -> Events:
        yield text("x" * 32)  # eight tokens, and dollars
        if breaks:
            raise ProviderBroken("It broke off.", provider="a")
        await asyncio.Event().wait()

    async def ask(_: Call[Any]) -> Events:
        return answer()

    pipeline = compose([("admit", admission.stage), ("meter", meter.Stage(ledger, prices(CONFIG)))], ask)
    call = asked(model="dear", stream=True)
    events = await pipeline(call)
    await anext(events)
    if breaks:
        with pytest.raises(ProviderBroken):
            await anext(events)
    await events.aclose()
    try:
        with pytest.raises(InsufficientBalance):
            await pipeline(asked(model="dear", stream=True))
    finally:
        await ledger.close()
    (row,) = await requests(admission.database)
    assert row["charged_pico_usd"] == call.cost_pico_usd
    assert row["charged_pico_usd"] > 7 * DOLLAR
