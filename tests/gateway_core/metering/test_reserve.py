"""Reserves: what a call takes of them, what is given back, and what two processes may use together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from gateway_core.config_plan import PlanReserveConfig
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.reserve import (
    MICRO,
    Held,
    Rate,
    Reserve,
    ReserveWindow,
    held,
    reserve_of_config,
    reserve_scope,
    units_text,
)
from gateway_core.metering.window import SECOND_US
from gateway_core.storage.database import Database
from gateway_core.storage.location import Location

NOW = 6_048_000 * SECOND_US
"""The beginning of a week since 1970, and of six hours."""
CENT = 10**10
RATES = {"small": Rate(100, 1, "100"), "large": Rate(1, 3, "0.333")}
RESERVE = Reserve((ReserveWindow(21_600, 40), ReserveWindow(604_800, 100)), RATES)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.us = NOW

    def __call__(self) -> int:
        return self.us


async def take(limits: SharedLimits, cents: int, model: str = "small") -> Held | None:
    return await held(limits, "a", RESERVE, model, cents * CENT)


def end(taken: Held | None, cents: int) -> None:
    assert taken is not None
    taken.cover.micro_units = taken.cover.of_cost(cents * CENT)
    taken.end()


async def left(limits: SharedLimits) -> list[int]:
    found = [await limits.left(reserve_scope("a"), units * MICRO, seconds) for seconds, units in RESERVE.windows]
    return [units // MICRO for units, _ in found]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def limits(database: Database, clock: Clock) -> AsyncIterator[SharedLimits]:
    made = SharedLimits(database, clock)
    yield made
    await made.close()


@asynccontextmanager
async def another(place: Location, clock: Clock) -> AsyncIterator[SharedLimits]:
    """The limits as another process has them."""
    async with Database(place) as database:
        made = SharedLimits(database, clock)
        yield made
        await made.close()


def test_a_unit_is_a_cent_and_what_costs_something_takes_something() -> None:
    cent, third = RATES["small"], RATES["large"]
    assert (cent.micro_units(CENT), cent.micro_units(1), cent.micro_units(0)) == (MICRO, 1, 0)
    assert third.micro_units(10**12) == 333_334


def test_units_are_told_as_decimal_numbers_without_exponent() -> None:
    assert [units_text(micro) for micro in (0, 1, 1_500_000, 250 * MICRO)] == ["0", "0.000001", "1.5", "250"]


def test_a_rate_of_the_configuration_is_exact() -> None:
    row = PlanReserveConfig.model_validate(
        {"windows": [{"window_seconds": 60, "units": 1}], "models": [{"model": "m", "units_per_usd": "0.1"}]}
    )
    reserve = reserve_of_config(row)
    assert reserve is not None
    assert Decimal(reserve.rates["m"].numerator) / reserve.rates["m"].denominator == Decimal("0.1")


async def test_a_call_takes_of_every_window_or_of_none(limits: SharedLimits, clock: Clock) -> None:
    end(await take(limits, 30), 30)
    assert await take(limits, 11) is None
    assert await left(limits) == [10, 70]
    clock.us += 21_600 * SECOND_US
    end(await take(limits, 40), 40)
    clock.us += 21_600 * SECOND_US
    # Six hours have begun anew; of the week 30 are left.
    assert await take(limits, 31) is None
    assert await left(limits) == [40, 30]
    end(await take(limits, 30), 30)
    assert await left(limits) == [10, 0]


async def test_a_model_that_is_not_covered_and_a_call_that_costs_nothing_take_nothing(limits: SharedLimits) -> None:
    assert await take(limits, 1, "other") is None
    assert await take(limits, 0) is None
    assert await left(limits) == [40, 100]


async def test_a_call_that_used_nothing_gives_all_back(limits: SharedLimits) -> None:
    end(await take(limits, 40), 0)
    assert await left(limits) == [40, 100]
    end(await take(limits, 40), 1)
    assert await left(limits) == [39, 99]


async def test_units_that_were_taken_in_a_window_that_is_over_are_not_given_back_to_the_next(
    limits: SharedLimits, clock: Clock
) -> None:
    early = await take(limits, 40)
    clock.us += 21_600 * SECOND_US
    late = await take(limits, 40)
    end(early, 0)
    assert await left(limits) == [0, 60]
    end(late, 40)
    assert await left(limits) == [0, 60]


async def test_a_call_that_used_more_than_was_expected_leaves_less_for_everybody(
    limits: SharedLimits, clock: Clock, place: Location
) -> None:
    end(await take(limits, 1), 25)
    assert await left(limits) == [15, 75]
    async with another(place, clock) as others:

        async def seen() -> list[int]:
            return await left(others)

        await until(seen, [15, 75])
        assert await take(others, 16) is None


async def test_what_a_large_estimate_did_not_use_is_there_for_other_processes(
    limits: SharedLimits, clock: Clock, place: Location
) -> None:
    end(await take(limits, 40), 1)
    async with another(place, clock) as others:

        async def taken() -> bool:
            return await take(others, 30) is not None

        await until(taken, True, clock)


async def until(what: Any, wanted: Any, clock: Clock | None = None) -> None:
    """Asks until the answer is as wanted; the clock goes on meanwhile."""
    async with asyncio.timeout(5):
        while await what() != wanted:
            await asyncio.sleep(0.01)
            if clock is not None:
                clock.us += SECOND_US


async def test_two_processes_together_never_use_more_than_there_is(
    limits: SharedLimits, clock: Clock, place: Location
) -> None:
    async def used(of: SharedLimits) -> int:
        taken = await take(of, 1)
        if taken is None:
            return 0
        end(taken, 1)
        return 1

    async with another(place, clock) as others:
        rounds = [await asyncio.gather(used(limits), used(others)) for _ in range(40)]
    counts = [sum(of_one) for of_one in zip(*rounds, strict=True)]
    assert 40 - 2 * 2 <= sum(counts) <= 40
    assert min(counts) > 0


async def test_what_was_used_stays_used_after_a_restart_and_what_was_not_is_there_again(
    limits: SharedLimits, clock: Clock, place: Location
) -> None:
    end(await take(limits, 7), 7)
    end(await take(limits, 1), 3)
    await limits.close()
    async with another(place, clock) as restarted:
        assert await left(restarted) == [30, 90]
        end(await take(restarted, 30), 30)
        assert await take(restarted, 1) is None
