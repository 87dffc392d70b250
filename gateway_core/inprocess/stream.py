"""A call with a stream of events for its answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import coroutine
from typing import Any, Literal, TypeVar

import grpc.aio

from gateway_core.inprocess.call import OK, Call
from gateway_core.inprocess.driving import DRIVEN, ENDED, NEW, NOTHING, OPEN, PARKED, PEEKED, Driving, Step

Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryStreamCall(Call, grpc.aio.UnaryStreamCall[Request, Response]):
    """A call whose servicer runs in the task that reads, as far as the next event."""

    _style: Literal["iteration", "reading"] | None = None
    _source: AsyncGenerator[Response, None]
    _next: Callable[[], Any]
    _peeked: Any = NOTHING

    def __aiter__(self) -> AsyncIterator[Response]:
        """The events; raises UsageError where `read` was called before."""
        self._keep_to("iteration")
        return self

    async def __anext__(self) -> Response:
        """The next event. Does not suspend where the servicer yields without suspending."""
        if self._state != OPEN:
            event: Any = await self._taken()
        else:
            # This is _pull, with nothing between the servicer and the reader where nobody has to wait.
            self._state = DRIVEN
            step = self._next()
            event = NOTHING
            try:
                self._waited = step.send(None)
            except StopIteration as stop:
                if self._state == DRIVEN and not self._context.is_aborted:
                    self._state = OPEN
                    return stop.value  # type: ignore[no-any-return]
                self._refuse()
            except BaseException as error:
                self._settle_source(error)
            else:
                event = await self._advanced(step, resumed=True)
        if event is NOTHING:
            raise self._verdict()
        return event  # type: ignore[no-any-return]

    async def read(self) -> Any:
        """The next event, or grpc.aio.EOF; raises UsageError where the call is being iterated."""
        event = NOTHING
        if self._state != ENDED:
            self._keep_to("reading")
            event = await self._taken()
        if event is not NOTHING:
            return event
        if self._code is not OK:
            raise self._failure()
        return grpc.aio.EOF

    def _keep_to(self, style: Literal["iteration", "reading"]) -> None:
        if self._style not in (None, style):
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        self._style = style

    def _verdict(self) -> BaseException:
        """What iteration ends with; a failure is raised once, as by an asynchronous generator."""
        if self._code is OK or self._reported:
            return StopAsyncIteration()
        self._reported = True
        return self._failure()

    def _take(self) -> Driving:
        """The next event, wherever the call stands; NOTHING where it has ended."""
        if self._state == DRIVEN:
            yield from self._wait_for_turn()
        if self._state == PEEKED:
            event, self._peeked = self._peeked, NOTHING
            self._state = OPEN
            return event
        if self._state == ENDED:
            return NOTHING
        return (yield from self._pull(parks=False))

    _taken = coroutine(_take)

    def _peek(self, parks: bool) -> Driving:
        try:
            event = yield from self._pull(parks)
        finally:
            # Whoever peeks is not the one who reads, and who is still to be told.
            self._reported = False
        if event is not NOTHING:
            self._peeked = event
            self._state = PEEKED

    def _pull(self, parks: bool) -> Driving:
        """Drives the servicer to its next event; NOTHING where the call has ended, or was parked."""
        if self._state == PARKED:
            step, self._step = self._step, None
            assert step is not None
            self._state = DRIVEN
            return (yield from self._advance(step, resumed=True, parks=parks))
        if self._state == NEW and not self._open():
            return NOTHING
        self._state = DRIVEN
        return (yield from self._advance(self._next(), resumed=False, parks=parks))

    def _open(self) -> bool:
        context = self._admit()
        assert self._handler is not None
        try:
            source = self._handler(self._request, context)
            self._request = None  # the servicer's now: a stream may be open for hours
            if not isinstance(source, AsyncGenerator):
                if asyncio.iscoroutine(source):
                    source.close()
                raise TypeError(f"{self._path} is not an asynchronous generator")
        except BaseException as error:
            self._settle(error)
            return False
        self._source = source
        self._next = source.__anext__
        return True

    def _advance(self, step: Step, *, resumed: bool, parks: bool = False) -> Driving:
        try:
            event = yield from self._drive(step, resumed=resumed, parks=parks)
        except BaseException as error:
            self._settle_source(error)
            return NOTHING
        if self._state == DRIVEN and not self._context.is_aborted and not self._locally_cancelled:
            self._state = OPEN
        elif self._state != PARKED:
            event = NOTHING
            self._refuse()
        if self._turns:
            self._pass_turn()
        return event

    _advanced = coroutine(_advance)

    def _settle_source(self, error: BaseException) -> None:
        try:
            self._settle(None if isinstance(error, StopAsyncIteration) else error)
        finally:
            del error  # as in _settle

    def _refuse(self) -> None:
        """Ends a servicer that yields an event although its call is over."""
        self._conclude(None)
        self._owner.start_closing(self)
        self._pass_through(None)

    async def _close_source(self) -> None:
        await self._source.aclose()
