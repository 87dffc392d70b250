"""The driving of a servicer by the tasks that await its call."""

import asyncio
from abc import abstractmethod
from asyncio import current_task
from collections.abc import Generator
from types import coroutine
from typing import Any, Final, Protocol

from gateway_core.inprocess.context import Context

# Where a call stands. Only in DRIVEN does the servicer run, or wait, in some task that awaits the call.
NEW: Final = 0
OPEN: Final = 1
"""The servicer stands at a yield."""
DRIVEN: Final = 2
PARKED: Final = 3
"""The servicer waits for something, and nobody for the servicer."""
PEEKED: Final = 4
"""The servicer stands at a yield whose event nobody has taken yet."""
ENDED: Final = 5

NOTHING: Final = object()
"""In the place of an event: there is none."""

Driving = Generator[Any, None, Any]


class Step(Protocol):
    """What awaiting steps through: a coroutine, or the next event of an asynchronous generator."""

    def send(self, value: None, /) -> Any:
        """Runs on; returns the future that it waits for."""
        ...

    def throw(self, error: BaseException, /) -> Any:
        """Runs on with an error; returns the future that it waits for."""
        ...


class Servicing:
    """What a call and its servicer do with one another."""

    # Class attributes are the state of a call to which nothing has happened.
    _state = NEW
    _locally_cancelled = False
    """Whether it was the caller who ended the call."""
    _interrupted = False
    """Whether the servicer has still to be told, by a CancelledError, that the call is over."""
    _step: Step | None = None
    """What the servicer was doing when it was parked."""
    _waited: Any = None
    """The future that the servicer waits for."""
    _turns: tuple[asyncio.Future[None], ...] = ()
    """What other tasks wait for while one drives the servicer."""
    _loop: asyncio.AbstractEventLoop
    _context: Context[Any, Any]

    @abstractmethod
    def cancel(self) -> bool:
        """Ends the call, and its servicer."""

    @abstractmethod
    def _abandon(self) -> None:
        """Ends the call and has its servicer closed, whatever thread this is."""

    def _turn(self) -> Driving:
        """Waits until the task that drives the servicer has got somewhere, or the call has ended."""
        turn = self._loop.create_future()
        self._turns = (*self._turns, turn)
        yield from turn

    def _wait_for_turn(self) -> Driving:
        """Waits while another task drives the servicer; where the waiting is cancelled, so is the call."""
        try:
            while self._state == DRIVEN:
                yield from self._turn()
        except BaseException:
            self.cancel()
            raise

    def _pass_turn(self) -> None:
        turns, self._turns = self._turns, ()
        for turn in turns:
            if not turn.done():
                turn.set_result(None)

    def _drive(self, step: Step, *, resumed: bool = False, parks: bool = False) -> Driving:
        """Runs a step to its end, as awaiting it would, in a way that `interrupt` can break into.

        Cancelling the task that awaits, and taking that back, would strike whatever the task waits for: a reader may
        run a read up to its first wait and see to something else before it goes on. The future that the servicer
        waits for is the right one in any case.

        Returns the step's result; with `parks`, NOTHING as soon as it waits and initial metadata are sent.
        """
        cancel_count = _cancel_count(self._loop)
        struck = False
        try:
            waited = _waitable(self._waited) if resumed else step.send(None)
            while True:
                if self._interrupted:
                    self._interrupted = False
                    waited = step.throw(asyncio.CancelledError())
                    continue
                self._waited = waited
                if self._context.initial is not None and self._announce(step, parks):
                    return NOTHING
                try:
                    yield waited
                except GeneratorExit:
                    # The reader dropped a read that it had begun. What it waited for must not be awaited here.
                    self._step = step
                    self._abandon()
                    struck = False
                    raise
                except BaseException as error:
                    struck = self._receive(error) or struck
                    if not self._interrupted:
                        waited = step.throw(error)
                else:
                    self._waited = None
                    if not self._interrupted:
                        waited = step.send(None)
        except StopIteration as stop:
            return stop.value
        finally:
            # What the servicer cancelled itself, a timeout of its own for one, it has taken back by now.
            self._locally_cancelled |= struck and _cancel_count(self._loop) > cancel_count

    def _announce(self, step: Step, parks: bool) -> bool:
        """Tells those who wait for initial metadata that they are there; with `parks`, parks the step."""
        if parks:
            self._step = step
            self._state = PARKED
            if asyncio.isfuture(self._waited):
                self._waited._asyncio_future_blocking = False  # see `_waitable`
        self._pass_turn()
        return parks

    def _receive(self, error: BaseException) -> bool:
        """Takes note of what the servicer's wait ended with; returns whether it was a cancellation."""
        self._waited = None
        if not isinstance(error, asyncio.CancelledError):
            return False
        self._interrupted = False
        return True

    _driven = coroutine(_drive)


def _cancel_count(loop: asyncio.AbstractEventLoop) -> int:
    task = current_task(loop)
    return task.cancelling() if task is not None else 0


def _waitable(waited: Any) -> Any:
    """What a task can be told to wait for, of what a step was waiting for when it was left.

    The mark says that an `await` has yielded the future to its task; while nobody awaits it, it must not be set, for
    others may await the same future.
    """
    if not asyncio.isfuture(waited):
        return waited
    if waited.done():
        return None
    waited._asyncio_future_blocking = True
    return waited
