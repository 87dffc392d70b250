import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.errors import ConcurrencyLimited, DeadlineExceeded
from gateway_core.metering.concurrency import Cap, Concurrency

KEY = "key"


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def let_in(concurrency: Concurrency, cap: Cap, deadline: float | None = None) -> None:
    if not concurrency.enter(KEY, cap):
        await concurrency.wait(KEY, cap, deadline)


def is_empty(concurrency: Concurrency) -> bool:
    return not concurrency._lines and not concurrency.queued


async def test_one_too_many_is_refused_where_none_may_wait() -> None:
    concurrency, cap = Concurrency(), Cap(2)
    assert [concurrency.enter(KEY, cap) for _ in range(3)] == [True, True, False]
    with pytest.raises(ConcurrencyLimited) as refused:
        await concurrency.wait(KEY, cap, None)
    assert (refused.value.retry_after_seconds, refused.value.metadata) == (1, {"limit": "2"})
    assert concurrency.enter("another key", cap)
    concurrency.leave(KEY)
    assert concurrency.enter(KEY, cap)


async def test_who_came_first_is_let_in_first() -> None:
    concurrency, cap = Concurrency(), Cap(1, 10, 60)
    assert concurrency.enter(KEY, cap)
    came: list[int] = []

    async def come(number: int) -> None:
        await let_in(concurrency, cap)
        came.append(number)

    waiting = [asyncio.create_task(come(number)) for number in range(5)]
    await turns()
    assert (concurrency.queued, came) == (5, [])
    for number in range(5):
        concurrency.leave(KEY)
        # Whoever comes now may not pass those that wait.
        assert not concurrency.enter(KEY, cap)
        await turns()
        assert came == list(range(number + 1))
    await asyncio.gather(*waiting)
    concurrency.leave(KEY)
    assert is_empty(concurrency)


async def test_a_full_line_refuses() -> None:
    concurrency, cap = Concurrency(), Cap(1, 2, 60)
    concurrency.enter(KEY, cap)
    waiting = [asyncio.create_task(let_in(concurrency, cap)) for _ in range(2)]
    await turns()
    with pytest.raises(ConcurrencyLimited, match="2 are waiting"):
        await let_in(concurrency, cap)
    waiting[0].cancel()
    await turns()
    # Its place is free.
    third = asyncio.create_task(let_in(concurrency, cap))
    await turns()
    assert concurrency.queued == 2
    for _ in range(3):
        concurrency.leave(KEY)
        await turns()
    assert waiting[1].done()
    assert third.done()
    assert is_empty(concurrency)


async def test_a_wait_ends_after_as_long_as_it_may_last() -> None:
    concurrency, cap = Concurrency(), Cap(1, 1, 0)
    concurrency.enter(KEY, cap)
    with pytest.raises(ConcurrencyLimited, match="none has ended"):
        await let_in(concurrency, cap)
    assert concurrency.queued == 0
    concurrency.leave(KEY)
    assert is_empty(concurrency)


async def test_a_wait_ends_at_the_callers_deadline() -> None:
    concurrency, cap = Concurrency(), Cap(1, 1, 60)
    concurrency.enter(KEY, cap)
    with pytest.raises(DeadlineExceeded):
        await let_in(concurrency, cap, asyncio.get_running_loop().time() + 0.01)
    assert concurrency.queued == 0
    concurrency.leave(KEY)
    assert is_empty(concurrency)


async def test_a_caller_that_leaves_when_it_is_let_in_gives_its_permit_back() -> None:
    concurrency, cap = Concurrency(), Cap(1, 5, 60)
    concurrency.enter(KEY, cap)
    first, second = (asyncio.create_task(let_in(concurrency, cap)) for _ in range(2))
    await turns()
    concurrency.leave(KEY)  # lets the first one in, which does not know yet
    first.cancel()
    await turns()
    assert first.cancelled()
    assert second.done()
    concurrency.leave(KEY)
    assert is_empty(concurrency)


async def test_a_caller_that_leaves_while_it_waits_is_not_let_in() -> None:
    concurrency, cap = Concurrency(), Cap(1, 5, 60)
    concurrency.enter(KEY, cap)
    first, second = (asyncio.create_task(let_in(concurrency, cap)) for _ in range(2))
    await turns()
    first.cancel()
    concurrency.leave(KEY)  # its task has not run yet
    await turns()
    assert first.cancelled()
    assert second.done()
    concurrency.leave(KEY)
    assert is_empty(concurrency)


async def test_a_plan_that_lets_more_run_counts_for_those_that_wait() -> None:
    concurrency, small, large = Concurrency(), Cap(1, 5, 60), Cap(3, 5, 60)
    concurrency.enter(KEY, small)
    waiting = asyncio.create_task(let_in(concurrency, small))
    await turns()
    assert concurrency.enter(KEY, large)
    await turns()
    assert waiting.done()
    # And one that lets fewer run lets nobody in before enough have ended.
    late = asyncio.create_task(let_in(concurrency, small))
    await turns()
    for _ in range(2):
        concurrency.leave(KEY)
        await turns()
        assert not late.done()
    concurrency.leave(KEY)
    await turns()
    assert late.done()
    concurrency.leave(KEY)
    assert is_empty(concurrency)


async def crowd(cap: Cap, seed: int, callers: Sequence[tuple[str, int, int]]) -> None:
    """Callers come, stay, wait until a deadline or leave, each when its own numbers say; nothing is lost of it."""
    concurrency, rng = Concurrency(), random.Random(seed)
    loop = asyncio.get_running_loop()
    running = 0
    let: list[int] = []
    tried: list[int] = []

    async def call(number: int, kind: str, comes: int, stays: int) -> None:
        nonlocal running
        await turns(comes)
        if not concurrency.enter(KEY, cap):
            tried.append(number)
            await concurrency.wait(KEY, cap, loop.time() - 1 if kind == "late" else None)
            let.append(number)
        running += 1
        try:
            assert running <= cap.running, "more are running than may"
            assert concurrency.queued <= cap.waiting, "more are waiting than may"
            await turns(stays)
            if kind == "fails":
                raise ValueError
        finally:
            running -= 1
            concurrency.leave(KEY)

    tasks = [asyncio.create_task(call(number, *each)) for number, each in enumerate(callers)]
    leaving = [task for task, (kind, _, _) in zip(tasks, callers, strict=True) if kind == "leaves"]
    while leaving:
        await turns(rng.randrange(3))
        leaving.pop(rng.randrange(len(leaving))).cancel()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    allowed = (ConcurrencyLimited, DeadlineExceeded, asyncio.CancelledError, ValueError)
    assert [each for each in ended if each is not None and not isinstance(each, allowed)] == []
    places = {number: place for place, number in enumerate(tried)}
    assert all(places[one] < places[next] for one, next in pairwise(let)), "somebody was passed"
    assert is_empty(concurrency), "a permit was lost"


CALLER = st.tuples(st.sampled_from(["stays", "leaves", "late", "fails"]), st.integers(0, 6), st.integers(0, 5))


@given(
    cap=st.builds(Cap, st.integers(1, 3), st.integers(0, 6), st.sampled_from([0, 60])),
    seed=st.integers(0, 2**32),
    callers=st.lists(CALLER, min_size=1, max_size=25),
)
@settings(max_examples=300, deadline=None)
def test_whoever_leaves_whenever_the_cap_holds_and_no_permit_is_lost(
    cap: Cap, seed: int, callers: list[tuple[str, int, int]]
) -> None:
    asyncio.run(crowd(cap, seed, callers))
