"""How many calls of one key run at the same time: one too many is refused, or waits in a line of bounded length."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from gateway_core.errors import ConcurrencyLimited, DeadlineExceeded
from gateway_core.limit_header import counted

Place = asyncio.Future[bool]
"""A place in the line. True: the call may run; False: it has waited for as long as it may."""


class Cap(NamedTuple):
    """What a key may have at the same time."""

    running: int
    """Most calls that run, from 1."""
    waiting: int = 0
    """Most calls that wait until one of those has ended, from 0: such a call is refused."""
    seconds: int = 0
    """Longest that a call waits."""


class Line:
    """The calls of one key: those that run, and those that wait, in the order in which they came."""

    __slots__ = ("cap", "running", "waiting")

    def __init__(self, cap: Cap) -> None:
        """Takes how many may run."""
        self.cap = cap
        self.running = 0
        self.waiting: OrderedDict[Place, None] = OrderedDict()

    def advance(self) -> None:
        """Lets run whoever may: who came first, first."""
        while self.waiting and self.running < self.cap.running:
            place, _ = self.waiting.popitem(last=False)
            # One whose caller has just left is still in the line until its task learns of it.
            if not place.done():
                self.running += 1
                place.set_result(True)


class Concurrency:
    """The lines of all keys, in this process. Belongs to one event loop.

    Each call that `enter` or `wait` lets in is given to `leave` exactly once.
    """

    def __init__(self) -> None:
        """Begins without any call."""
        self._lines: dict[str, Line] = {}

    @property
    def queued(self) -> int:
        """How many calls wait; any thread may ask."""
        return sum(len(line.waiting) for line in list(self._lines.values()))

    def enter(self, key: str, cap: Cap) -> bool:
        """Lets a call in at once; False where as many as may are running, or others came before it."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(cap)
        elif line.cap is not cap:
            # A plan that has changed counts for those that wait already.
            line.cap = cap
            line.advance()
        if line.waiting or line.running >= cap.running:
            return False
        line.running += 1
        return True

    async def wait(self, key: str, cap: Cap, deadline: float | None) -> None:
        """Lets a call in, to which `enter` said no, once one that runs has ended.

        Takes the time of the event loop's clock at which the caller stops waiting. Raises ConcurrencyLimited where the
        line is full or the wait too long, DeadlineExceeded. Whoever is cancelled leaves the line at once.
        """
        line = self._lines[key]
        if len(line.waiting) >= cap.waiting:
            raise refused(cap, waited=False)
        loop = asyncio.get_running_loop()
        longest = loop.time() + cap.seconds
        is_late = deadline is not None and deadline <= longest
        place: Place = loop.create_future()
        timer = loop.call_at(deadline if is_late and deadline is not None else longest, give_up, line, place)
        line.waiting[place] = None
        try:
            admitted = await place
        except BaseException:
            # It may have been let in just before it was cancelled, and not know it.
            if place.done() and not place.cancelled() and place.result():
                self.leave(key)
            raise
        finally:
            timer.cancel()
            line.waiting.pop(place, None)
        if not admitted:
            raise late() if is_late else refused(cap, waited=True)

    def leave(self, key: str) -> None:
        """Ends a call that was let in; who waits first takes its place."""
        line = self._lines[key]
        line.running -= 1
        if line.waiting:
            line.advance()
        if not line.running and not line.waiting:
            del self._lines[key]


def give_up(line: Line, place: Place) -> None:
    """Ends a wait."""
    line.waiting.pop(place, None)
    if not place.done():
        place.set_result(False)


def refused(cap: Cap, *, waited: bool) -> ConcurrencyLimited:
    """The refusal, which says what was full."""
    be = "is" if cap.running == 1 else "are"
    message = f"{counted(cap.running, 'call')} of the key {be} running, which is as many as may"
    if waited:
        message += f", and none has ended in {counted(cap.seconds, 'second')}"
    elif cap.waiting:
        message += f", and {cap.waiting} {'is' if cap.waiting == 1 else 'are'} waiting"
    return ConcurrencyLimited(f"{message}: wait until one has ended.", retry_after_seconds=1, limit=str(cap.running))


def late() -> DeadlineExceeded:
    """The caller's own deadline was sooner."""
    return DeadlineExceeded("The deadline passed while the call waited for others of its key to end.")
