"""Two attempts at the same time, of which one answers: the second begins where the first is late."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Generic, TypeVar

from gateway_core.call import Call, Events
from gateway_core.errors import GatewayError
from gateway_core.routing.failure import TABLE, Next, failure
from gateway_core.routing.route import Place

Attempt = TypeVar("Attempt")


class Racer(Generic[Attempt]):
    """One attempt, in a task of its own; it must be stopped."""

    __slots__ = ("_is_cancelled", "_task", "attempt", "call", "has_won", "place")

    def __init__(self, place: Place, call: Call[Any], attempt: Attempt, opening: Coroutine[Any, Any, Events]) -> None:
        """Takes where it goes, the call as this attempt sees it, whatever knows of it, and what opens it."""
        self.place = place
        self.call = call
        self.attempt = attempt
        self._task = asyncio.create_task(opening, name=f"attempt {call.attempt_count} of {call.request_id}")
        self._is_cancelled = False
        self.has_won = False

    async def is_done_within(self, seconds: float) -> bool:
        """Whether it has opened or failed; waits for it."""
        done, _ = await asyncio.wait((self._task,), timeout=seconds)
        return bool(done)

    def failed(self) -> BaseException | None:
        """What it failed with. None: it has opened, or is still on its way."""
        return self._task.exception() if self._task.done() and not self._task.cancelled() else None

    def has_opened(self) -> bool:
        """Whether it has."""
        return self._task.done() and self._task.exception() is None

    def win(self) -> Events:
        """Its answer, which is the one that the caller gets."""
        self.has_won = True
        return self._task.result()

    def cancel(self) -> None:
        """Asks it to end, unless it has won."""
        if not self.has_won and not self._is_cancelled:
            # Once only: a second time it would be disturbed while it closes its answer.
            self._is_cancelled = True
            self._task.cancel()

    async def stop(self) -> bool:
        """Ends it, unless it has won; whether it had opened, in vain."""
        if self.has_won:
            return False
        self.cancel()
        if not self._task.done():
            await asyncio.wait((self._task,))
        if self._task.cancelled() or self._task.exception() is not None:
            return False
        await self._task.result().aclose()
        return True

    async def step(self, others: Sequence["Racer[Attempt]"]) -> None:
        """Waits until this one, or one of the others, is done."""
        await asyncio.wait([each._task for each in (self, *others)], return_when=asyncio.FIRST_COMPLETED)


async def fastest(racers: Sequence[Racer[Attempt]]) -> Racer[Attempt]:
    """The first that opens; where none does, raises what the first of them failed with.

    What no other target could do better is raised at once, whoever meets it.
    """
    running = list(racers)
    while True:
        for racer in list(running):
            if racer.has_opened():
                return racer
            error = racer.failed()
            if error is not None:
                running.remove(racer)
                if not running or is_final(error):
                    raise error if is_final(error) else racers[0].failed() or error
        await running[0].step(running[1:])


def is_final(error: BaseException) -> bool:
    """Whether nothing else is tried after a failure."""
    what = failure(error) if isinstance(error, GatewayError) else None
    return what is None or TABLE[what].next is Next.NONE
