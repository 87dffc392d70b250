from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway_core.limit_header import duration_text, one_limit_headers
from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.limit_header import LimitsLeft
from gateway_core.metering.window import SECOND_US
from gateway_core.storage.database import Database
from gateway_core.storage.location import location

NOW = 6_000 * SECOND_US


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(location(None, tmp_path)) as opened:
        yield opened


def left(*limits: tuple[str, SharedLimit]) -> LimitsLeft:
    return LimitsLeft(limits, lambda: NOW)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (120_000, "120ms"),
        (999_000, "999ms"),
        (999_001, "1s"),
        (SECOND_US, "1s"),
        (SECOND_US + 1, "2s"),
        (59_999_999, "1m0s"),
        (360 * SECOND_US, "6m0s"),
        (3600 * SECOND_US, "1h0m0s"),
        (86_400 * SECOND_US - 1, "24h0m0s"),
    ],
)
def test_a_time_is_told_as_openai_tells_it(microseconds: int, text: str) -> None:
    assert duration_text(microseconds) == text


async def test_of_several_windows_the_tightest_is_told(database: Database) -> None:
    limits = SharedLimits(database, lambda: NOW)
    minute, day = limits.limit("a:requests", 10, 60), limits.limit("a:requests", 1000, 86_400)
    for _ in range(4):
        for limit in (minute, day):
            limit.turn(NOW)
            assert await limit.acquire(1, NOW)
    told = dict(left(("requests", day), ("requests", minute)).headers(NOW + 1))
    assert told == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "6",
        "x-ratelimit-reset-requests": "1m0s",
    }
    # The minute is over, and nobody has asked since.
    told = dict(left(("requests", minute)).headers(NOW + 61 * SECOND_US))
    assert told["x-ratelimit-remaining-requests"] == "10"
    assert told["x-ratelimit-reset-requests"] == "59s"


async def test_what_other_processes_hold_is_not_left(database: Database, tmp_path: Path) -> None:
    async with Database(location(None, tmp_path)) as other:
        ours, theirs = (SharedLimits(each, lambda: NOW).limit("a:tokens", 100, 60) for each in (database, other))
        for limit in (theirs, ours):
            limit.turn(NOW)
        assert await theirs.acquire(30, NOW)
        assert theirs.remaining(NOW) == 70
        assert await ours.acquire(1, NOW)
        assert 64 <= ours.remaining(NOW) <= 69  # less at most a lease that they hold and have not used
        ours.window.correct(40, NOW)
        assert 24 <= ours.remaining(NOW) <= 29
        ours.window.correct(400, NOW)
        assert ours.remaining(NOW) == 0


async def test_what_is_kept_of_a_limit_is_told_for_as_long_as_it_is_true(database: Database) -> None:
    limits = SharedLimits(database, lambda: NOW)
    limit = limits.limit("a:tokens", 10, 3)
    limit.turn(NOW)
    ticks = [tick + more for tick in range(0, 9 * SECOND_US, SECOND_US // 4) for more in (-1000, -1, 0, 1, 999, 1000)]
    # Forwards, and with a clock that is set back.
    for tick in (*ticks, *reversed(ticks)):
        now = NOW + tick
        window = limit.window
        told = one_limit_headers("tokens", 10, limit.remaining(now), window.reset_us(now))
        assert left(("tokens", limit)).headers(now) == told
        if tick == 4 * SECOND_US:
            limit.turn(now)


async def test_what_was_told_in_one_window_is_not_told_in_the_next_though_the_clock_goes_back(
    database: Database,
) -> None:
    limit = SharedLimits(database, lambda: NOW).limit("a:requests", 10, 60)
    limit.turn(NOW)
    before = NOW + 58 * SECOND_US
    assert dict(left(("requests", limit)).headers(before))["x-ratelimit-reset-requests"] == "2s"
    limit.turn(NOW + 60 * SECOND_US)
    assert dict(left(("requests", limit)).headers(before))["x-ratelimit-reset-requests"] == "1m2s"


async def test_each_measure_is_told_once_in_the_order_in_which_they_first_come(database: Database) -> None:
    limits = SharedLimits(database, lambda: NOW)
    names = [("requests", 10, 60), ("tokens", 500, 60), ("requests", 5, 3600), ("tokens", 500, 3600)]
    made = [(measure, limits.limit(f"a:{measure}", units, seconds)) for measure, units, seconds in names]
    for _, limit in made:
        assert await limit.acquire(2, NOW)
    told = left(*made)
    assert told.keys == tuple(key for key, _ in told.headers(NOW))
    assert told.values() == ["5", "3", "20m0s", "500", "498", "1m0s"], "of several with the same the first"
    assert left().keys == ()
    assert left().values() == []
