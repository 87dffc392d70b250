"""Time as a promise of milliseconds can be held against it on a busy machine: what others took of it is not counted."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

BEAT_SECONDS = 0.005


class Clock:
    """The loop's clock, and how much of its time the process waited for a processor."""

    def __init__(self) -> None:
        """Starts with nothing lost."""
        self._loop = asyncio.get_running_loop()
        self._lost = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._beat()

    def since(self, began: "Moment", ended_at: float) -> float:
        """Seconds from a moment to a time of the loop's clock, without those that were lost."""
        return ended_at - began.at - (self._lost_now() - began.lost)

    def now(self) -> "Moment":
        """This moment."""
        return Moment(self._loop.time(), self._lost_now())

    def stop(self) -> None:
        """Ends the beats."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        if self._timer is not None:
            self._lost = self._lost_now()
        self._due = self._loop.time() + BEAT_SECONDS
        self._worked = time.thread_time()
        self._timer = self._loop.call_at(self._due, self._beat)

    def _lost_now(self) -> float:
        # A beat is late because the loop worked, or because it was not let.
        late = self._loop.time() - self._due - (time.thread_time() - self._worked)
        return self._lost + max(0.0, late - BEAT_SECONDS)


class Moment:
    """A time of the loop's clock, and what had been lost by then."""

    def __init__(self, at: float, lost: float) -> None:
        """Takes both, in seconds."""
        self.at = at
        self.lost = lost


@contextmanager
def ticking() -> Iterator[Clock]:
    """A clock, for as long as the context lasts."""
    clock = Clock()
    try:
        yield clock
    finally:
        clock.stop()
