import asyncio

import pytest

from gateway_core.storage import steady
from gateway_core.storage.steady import whole


async def test_work_gives_what_it_gives_and_raises_what_it_raises() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return 6 // number

    assert await whole(work(2)) == 3
    with pytest.raises(ZeroDivisionError):
        await whole(work(0))


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancellation_is_raised_when_the_work_is_done(cancellations: int) -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.append(True)

    task = asyncio.create_task(whole(work()))
    await begun.wait()
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_a_failure_after_a_cancellation_is_its_cause() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        raise LookupError

    task = asyncio.create_task(whole(work()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as failure:
        await task
    assert isinstance(failure.value.__cause__, LookupError)


async def test_work_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "PATIENCE_SECONDS", 0.01)
    begun, cut = asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.append(True)

    task = asyncio.create_task(whole(work()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert cut == [True]


async def test_a_timeout_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await whole(asyncio.sleep(0.05))
