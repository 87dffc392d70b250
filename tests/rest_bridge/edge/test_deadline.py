import asyncio

from rest_bridge.deadline import Deadline
from tests.rest_bridge.edge.eventually import eventually


class Passing:
    """A deadline, and when it passed."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.passed: list[float] = []
        self.deadline = Deadline(self.loop, lambda: self.passed.append(self.loop.time() - self.began))


async def test_a_deadline_passes_once() -> None:
    it = Passing()
    it.deadline.set(0.02)
    await eventually(lambda: it.passed)
    await asyncio.sleep(0.04)
    assert len(it.passed) == 1
    assert it.passed[0] >= 0.018


async def test_a_deadline_that_is_moved_passes_at_the_last_time_only() -> None:
    it = Passing()
    it.deadline.set(0.01)
    it.deadline.set(0.06)
    await eventually(lambda: it.passed)
    assert it.passed[0] >= 0.058
    it = Passing()
    it.deadline.set(60)
    it.deadline.set(0.01)
    await eventually(lambda: it.passed)
    assert len(it.passed) == 1


async def test_a_deadline_that_is_cleared_does_not_pass_and_can_be_set_again() -> None:
    it = Passing()
    it.deadline.set(0.01)
    it.deadline.clear()
    await asyncio.sleep(0.03)
    assert it.passed == []
    it.deadline.set(0.01)
    await eventually(lambda: it.passed)
    it.deadline.set(0.01)
    it.deadline.close()
    await asyncio.sleep(0.03)
    assert len(it.passed) == 1
