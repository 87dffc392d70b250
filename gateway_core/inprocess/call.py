"""The caller's side of a call: its status, its deadline, its cancellation, and the driving of its servicer."""

import asyncio
import logging
import weakref
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from types import coroutine
from typing import Any, Protocol

import grpc.aio
from grpc import StatusCode

from gateway_core.inprocess.context import Context, SentMetadata
from gateway_core.inprocess.driving import DRIVEN, ENDED, NEW, PEEKED, Driving, Servicing
from gateway_core.inprocess.metadata import Received, ReceivedMetadata, received

logger = logging.getLogger(__name__)

LOCALLY_CANCELLED = "Locally cancelled by application!"
COLLECTED = "Cancelled upon garbage collection!"
OK = StatusCode.OK
"""Looked up once: a member of an enumeration takes longer than any other attribute."""


class Owner(Protocol):
    """The channel, as its calls see it."""

    calls: set["weakref.ref[Call]"]
    """The calls that have not ended."""

    def start_closing(self, call: "Call") -> None:
        """Has `close` called by a task of the channel's own."""
        ...


class Call(Servicing, grpc.aio.Call):
    """What unary and streaming calls have in common."""

    # Class attributes are the state of a call to which nothing has happened: to set them up would cost each call.
    _code: StatusCode | None = None
    _details = ""
    _trailing: Received = ()
    sent: SentMetadata | None = None
    """The caller's metadata."""
    _deadline: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _reported = False
    """Whether the task that reads was told that the call failed."""
    _callbacks: tuple[Callable[[Any], None], ...] = ()

    def __init__(self, owner: Owner, path: str, handler: Callable[..., Any] | None, request: object) -> None:
        """Takes the channel, the method's path and handler (None: it is not implemented), and the request."""
        self._owner = owner
        self._path = path
        self._handler = handler
        self._request = request
        # These are looked at several times in each call, and an attribute of its own is found sooner.
        self._state = NEW
        self._locally_cancelled = self._interrupted = False
        self._timer = None
        self._callbacks = self._turns = ()
        self._loop = loop = asyncio.get_running_loop()
        self._context: Context[Any, Any] = Context(loop)
        self._reference = weakref.ref(self)
        owner.calls.add(self._reference)
        if handler is None:
            self._end(StatusCode.UNIMPLEMENTED, "Method not found!")

    def end_after(self, timeout: float) -> None:
        """Sets the time that the call may take, in seconds from now."""
        if self._state == ENDED:
            return
        self._deadline = self._loop.time() + timeout
        if timeout <= 0:
            self._end(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        else:
            # The timer must not keep a call alive that its caller has dropped.
            self._timer = self._loop.call_at(self._deadline, _expire, self._reference)

    def __del__(self) -> None:
        # The collector may run in any thread; the loop's own thread then cancels what is left of the call.
        if self._state != ENDED and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.interrupt, StatusCode.CANCELLED, COLLECTED)

    def cancelled(self) -> bool:
        """Whether the call ended by a cancellation."""
        return self._code is StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._state == ENDED

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None where there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    def cancel(self) -> bool:
        """Ends the call, and its servicer; False where it has ended already."""
        if self._state == ENDED:
            return False
        self._locally_cancelled = True
        self.interrupt(StatusCode.CANCELLED, LOCALLY_CANCELLED)
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has the callback called with this call when it has ended."""
        if self._state == ENDED:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks = (*self._callbacks, callback)

    async def code(self) -> StatusCode:
        """The status, once the call has ended."""
        await self._ending()
        assert self._code is not None
        return self._code

    async def details(self) -> str:
        """The status's sentence, once the call has ended."""
        await self._ending()
        return self._details

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """What the servicer sent at the end, once the call has ended."""
        if self._state != ENDED:
            await self._ending()
        return ReceivedMetadata(self._trailing)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """What the servicer sent at the beginning, once it sent them or anything else."""
        await self._beginning()
        return ReceivedMetadata(self._context.initial or ())

    async def wait_for_connection(self) -> None:
        """Waits as initial_metadata does; raises the call's failure where it has failed by then."""
        await self._beginning()
        if self._state == ENDED and self._code is not OK:
            raise self._failure()

    def interrupt(self, code: StatusCode, details: str) -> None:
        """Ends the call from outside of its servicer, which is cancelled."""
        state = self._state
        if state == ENDED:
            return
        self._end(code, details)
        if state == DRIVEN:
            # Whoever waits for the future is woken with a CancelledError, as by Task.cancel(): see `_drive`.
            self._interrupted = True
            if self._waited is not None:
                self._waited.cancel()
        elif state != NEW:
            self._owner.start_closing(self)

    async def close(self) -> None:
        """Ends the servicer of a call that is over, wherever the servicer stands; its errors are logged."""
        step, self._step = self._step, None
        try:
            if step is not None:
                self._interrupted = self._waited is None or not self._waited.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await self._driven(step, resumed=True)
            await self._close_source()
        except Exception:
            logger.exception("Unexpected error while servicer method [%s] was being closed", self._path)
        finally:
            self._context.finish()

    def _abandon(self) -> None:
        self._locally_cancelled = True
        if self._state != ENDED:
            self._end(StatusCode.CANCELLED, COLLECTED)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._owner.start_closing, self)

    @abstractmethod
    async def _close_source(self) -> None:
        """Closes what yields the events, where there is such a thing."""

    @abstractmethod
    def _peek(self, parks: bool) -> Driving:
        """Drives the servicer as far as it goes without an event being taken, or until it can be parked."""

    @coroutine
    def _beginning(self) -> Driving:
        while self._state == DRIVEN and self._context.initial is None:
            yield from self._turn()
        if self._state == NEW:
            yield from self._peek(True)

    @coroutine
    def _ending(self) -> Driving:
        if self._state not in (DRIVEN, PEEKED, ENDED):
            yield from self._peek(False)
        while self._state != ENDED:
            yield from self._turn()

    def _admit(self) -> Context[Any, Any]:
        """Begins the call on the servicer's side; raises what grpc.aio raises for illegal metadata."""
        context, sent, deadline = self._context, self.sent, self._deadline
        if sent is not None:
            try:
                context.invocation = received(sent)
            except (TypeError, grpc.aio.InternalError):
                self._end(StatusCode.INTERNAL, "Invalid metadata")
                raise
        if deadline is not None:
            context.deadline = deadline
        self._state = DRIVEN
        return context

    def _settle(self, error: BaseException | None) -> None:
        """Ends the call as its servicer has ended: with an error, or (None) without.

        Raises what has to pass through the task that awaits: its own cancellation, KeyboardInterrupt and its like.
        """
        context = self._context
        if error is None and self._state == DRIVEN and not (self._locally_cancelled or context.invalid):
            # Nearly all calls: the rest would come to the same.
            self._end(context.status_code or OK, context.status_details, context.trailing)
            if context.callbacks:
                context.finish()
            return
        try:
            if isinstance(error, GeneratorExit):
                raise error  # the call was abandoned, and its servicer is being closed
            self._conclude(error)
            context.finish()
            self._pass_through(error)
        finally:
            # What is raised knows this frame, and all that the call held: only the garbage collector would free them.
            del error

    def _conclude(self, error: BaseException | None) -> None:
        if self._state == ENDED:
            return
        if self._locally_cancelled:
            self._end(StatusCode.CANCELLED, LOCALLY_CANCELLED)
        else:
            self._end(*self._outcome(error))

    def _pass_through(self, error: BaseException | None) -> None:
        self._reported = True
        try:
            if self._locally_cancelled:
                if isinstance(error, asyncio.CancelledError):
                    raise error
                raise asyncio.CancelledError from error
            if error is not None and not isinstance(error, Exception | asyncio.CancelledError):
                raise error
        finally:
            del error  # as in _settle
        self._reported = False

    def _outcome(self, error: BaseException | None) -> tuple[StatusCode, str, Received]:
        context = self._context
        if context.invalid:
            return StatusCode.INTERNAL, "Invalid metadata", ()
        code = context.status_code or OK
        if context.is_aborted or error is None:
            return code, context.status_details, context.trailing
        if not isinstance(error, Exception):
            return StatusCode.CANCELLED, "Cancelled by the servicer.", context.trailing
        # Its words are for the log only: they may tell of what no caller should know.
        logger.error("Unexpected [%s] raised by servicer method [%s]", type(error).__name__, self._path, exc_info=error)
        return StatusCode.UNKNOWN if code is OK else code, context.status_details, context.trailing

    def _end(self, code: StatusCode, details: str, trailing: Received = ()) -> None:
        self._state = ENDED
        self._code = self._context.ended = code
        self._details = details
        self._trailing = trailing
        self._owner.calls.discard(self._reference)
        if self._timer is not None:
            self._timer.cancel()
        if self._callbacks and not self._loop.is_closed():
            for callback in self._callbacks:
                self._loop.call_soon(callback, self)
            self._callbacks = ()
        if self._turns:
            self._pass_turn()

    def _failure(self) -> BaseException:
        """What a call that ended otherwise than OK raises."""
        assert self._code is not None
        if self._locally_cancelled:
            return asyncio.CancelledError()
        initial = grpc.aio.Metadata(*(self._context.initial or ()))
        return grpc.aio.AioRpcError(self._code, initial, grpc.aio.Metadata(*self._trailing), details=self._details)


def _expire(reference: "weakref.ref[Call]") -> None:
    call = reference()
    if call is not None:
        call.interrupt(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
