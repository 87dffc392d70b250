"""What a process knows of a limit without asking anybody, and without counting."""

from gateway_core.metering.lease import AGAIN_US, SharedLimit
from gateway_core.metering.window import SECOND_US
from tests.support.leases import Processes, postgres_server, processes

__all__ = ["postgres_server", "processes"]

NOW = 6_000 * SECOND_US


async def limit(processes: Processes, units: int, seconds: int = 60) -> SharedLimit:
    """The limit as another process has it."""
    limits = await processes.start(lambda: NOW)
    made = limits.limit("account:a:requests", units, seconds)
    made.turn(NOW)
    return made


async def test_looking_counts_nothing(processes: Processes) -> None:
    limited = await limit(processes, 3)
    assert [limited.is_reached(NOW) for _ in range(10)] == [False] * 10
    assert [await limited.acquire(1, NOW) for _ in range(4)] == [True, True, True, False]
    assert limited.is_reached(NOW)


async def test_the_next_window_is_not_reached(processes: Processes) -> None:
    limited = await limit(processes, 1)
    assert await limited.acquire(1, NOW)
    assert limited.is_reached(NOW + 59 * SECOND_US)
    assert not limited.is_reached(NOW + 60 * SECOND_US)


async def test_a_limit_of_none_is_always_reached(processes: Processes) -> None:
    limited = await limit(processes, 0)
    assert not await limited.acquire(1, NOW)
    assert limited.is_reached(NOW)


async def test_what_others_use_is_known_once_the_store_has_said_so_and_asked_again_a_little_later(
    processes: Processes,
) -> None:
    first, second = [await limit(processes, 2) for _ in range(2)]
    assert [await first.acquire(1, NOW) for _ in range(2)] == [True, True]
    # It has not asked yet, so that it does not know.
    assert not second.is_reached(NOW)
    assert not await second.acquire(1, NOW)
    assert second.is_reached(NOW)
    # Others may have given back by then: a call is let through, and the store asked.
    assert not second.is_reached(NOW + AGAIN_US + 1)


async def test_what_is_given_back_is_there_again(processes: Processes) -> None:
    limited = await limit(processes, 1)
    assert await limited.acquire(1, NOW)
    assert limited.is_reached(NOW)
    limited.window.correct(-1, limited.window.start_us)
    assert not limited.is_reached(NOW)
