"""How often a public key may be used at several processes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway_core.config_plan import PublicKeysConfig
from gateway_core.errors import RateLimited
from gateway_core.identity.public import PublicLimits, Use
from gateway_core.identity.public_share import KeyShares
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.window import SECOND_US
from gateway_core.storage.errors import StorageUnavailable
from tests.support.leases import Processes, postgres_server, processes

__all__ = ["postgres_server", "processes"]

NOON = 1_700_000_000 // 86400 * 86400 + 43200


class Process:
    """One of several that know the same key."""

    def __init__(self, limits: SharedLimits, now: Callable[[], float], config: PublicKeysConfig) -> None:
        self.limits = limits
        self.now = now
        self.shares = KeyShares(config.per_key, limits.limit, limits.now_us)
        self.public = PublicLimits(config, self.shares)

    async def admit(self, address: str = "192.0.2.1", tokens: int = 0) -> Use:
        use = self.public.admit("k", address, self.now(), tokens=tokens)
        await self.public.share(use, self.shares)
        return use

    async def admits(self, calls: int, tokens: int = 0) -> int:
        """How many of so many calls, each from an address of its own."""
        found = [await is_admitted(self.admit(f"192.0.2.{number}", tokens)) for number in range(calls)]
        return sum(found)


async def is_admitted(call: Awaitable[Use]) -> bool:
    try:
        await call
    except RateLimited:
        return False
    return True


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def start(processes: Processes) -> Start:
    async def started(now: Callable[[], float] = lambda: NOON, **windows: list[dict[str, int]]) -> Process:
        config = PublicKeysConfig.model_validate({"per_address": [], "per_key": [], **windows})
        return Process(await processes.start(lambda: int(now() * SECOND_US)), now, config)

    return started


async def test_a_key_has_its_windows_once_for_all_processes(start: Start) -> None:
    windows = [{"seconds": 5, "requests": 10}, {"seconds": 60, "requests": 60}]
    now = NOON
    both = [await start(lambda: now, per_key=windows) for _ in range(2)]
    admitted = await asyncio.gather(*(process.admits(15) for process in both))
    assert sum(admitted) <= 10
    assert sum(admitted) >= 10 - 2
    total = sum(admitted)
    for _ in range(10):
        now += 5
        total += sum([await process.admits(10) for process in both])
    assert 60 - 2 * 3 <= total <= 60


async def test_input_tokens_of_a_key_are_counted_and_trued_up_for_all_processes(start: Start) -> None:
    one, other = [await start(per_key=[{"seconds": 3600, "input_tokens": 1000}]) for _ in range(2)]
    use = await one.admit(tokens=900)
    assert not await is_admitted(other.admit(tokens=200))
    one.public.correct(use, 100)
    assert use.taken[0].share.shared.window.start_us == use.taken[0].start_us
    await one.admit(tokens=750)
    with pytest.raises(RateLimited) as refused:
        await other.admit(tokens=150)
    assert refused.value.metadata["limit"] == "1000 input tokens per 3600 s and key"
    assert refused.value.retry_after_seconds == 3600
    assert int(refused.value.metadata["x-ratelimit-remaining-tokens"]) <= 100


async def test_what_is_refused_is_counted_nowhere(start: Start) -> None:
    windows = [{"seconds": 3600, "requests": 40}, {"seconds": 60, "input_tokens": 100}]
    one, other = [
        await start(per_address=[{"seconds": 3600, "requests": 5}], per_key=windows) for _ in range(2)
    ]  # fmt: skip
    await one.admit(tokens=99)
    for _ in range(30):
        assert not await is_admitted(other.admit(tokens=50))
    # Neither requests of the key nor of the address are missing.
    assert await other.admits(5) == 5
    assert [await is_admitted(other.admit("198.51.100.1")) for _ in range(6)] == [True] * 5 + [False]


async def test_a_held_lease_is_used_without_the_store(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await start(per_key=[{"seconds": 3600, "requests": 2000, "input_tokens": 1_000_000}])
    await one.admit(tokens=10)
    with monkeypatch.context() as patched:
        patched.setattr(one.limits.leases, "take", None)
        assert await one.admits(50, tokens=10) == 50


async def test_where_the_store_is_away_each_process_counts_for_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start(per_key=[{"seconds": 3600, "requests": 20}])

    async def away(_request: object) -> None:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(one.limits.leases, "take", away)
        assert await one.admits(30) == 20


async def test_a_call_that_is_given_up_while_it_waits_for_a_lease_is_counted_nowhere(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start(per_key=[{"seconds": 3600, "requests": 1}])
    asked, take = asyncio.Event(), one.limits.leases.take

    async def slow(request: object) -> object:
        asked.set()
        await asyncio.sleep(0.05)
        return await take(request)  # type: ignore[arg-type]

    monkeypatch.setattr(one.limits.leases, "take", slow)
    call = asyncio.create_task(one.admit())
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await one.admits(3) == 1
