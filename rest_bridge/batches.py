"""Hands out together the events that arrived together, so that they leave in one write."""

import asyncio
import types
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import grpc

Event = TypeVar("Event")

EVENTS_AT_MOST = 64
BYTES_AT_MOST = 8 * 1024


def no_size(event: object) -> int:
    """Counts no bytes."""
    return 0


async def batches(
    source: AsyncIterable[Event], size: Callable[[Event], int] = no_size
) -> AsyncGenerator[list[Event], None]:
    """Lists of events, each of those that were there without waiting; never an empty list.

    A list ends at 64 events, or once the `size` (bytes) of those behind the first reaches 8 KiB: nearly all that come
    apart are alone, and need not be measured. Events from before a failure are handed out
    before it is raised. Closing the generator (`contextlib.aclosing`) closes the source, and cancels it where it is an
    RPC.

    There is no task: a read that has to wait stays suspended while the consumer works on the batch, and goes on in the
    consumer's task. So a source must not wait inside an `asyncio.timeout` of its own: it could fire in the consumer.
    """
    reader = _Reader(source, size)
    try:
        while not reader.ended:
            failure: Exception | None = None
            try:
                await reader.fill()
            except Exception as error:
                failure = error
            if reader.batch:
                yield reader.taken()
            if failure is not None:
                try:
                    raise failure
                finally:
                    failure = None  # this frame is in its traceback: they would keep each other, and all of the call
    finally:
        await reader.close()


class _Reader(Generic[Event]):
    """Reads a source, by steps of its `anext`; `held` is a step that waits, and what for."""

    def __init__(self, source: AsyncIterable[Event], size: Callable[[Event], int]) -> None:
        self.source = source
        self.size = size
        self.iterator = aiter(source)
        self.held: tuple[Generator[Any, Any, Event], Any] | None = None
        self.batch: list[Event] = []
        self.ended = False

    def taken(self) -> list[Event]:
        """The batch, which is the consumer's from now on: nothing here keeps its events while it is written."""
        batch, self.batch = self.batch, []
        return batch

    async def fill(self) -> None:
        """Adds to the batch what is there; waits only for the first."""
        batch, left = self.batch, BYTES_AT_MOST
        try:
            while left > 0 and len(batch) < EVENTS_AT_MOST:
                if self.held is None:
                    steps = _steps(anext(self.iterator))
                    try:
                        self.held = steps, next(steps)
                    except StopIteration as done:
                        event: Event = done.value
                if self.held is not None:
                    if batch:
                        _hold(self.held[1])
                        return
                    held, self.held = self.held, None
                    event = await _rest(*held)
                if batch:
                    left -= self.size(event)
                batch.append(event)
        except StopAsyncIteration:
            self.ended = True

    async def close(self) -> None:
        """Ends the read that waits, the RPC and the iterator."""
        if self.held is not None:
            held, self.held = self.held, None
            await _abandon(held[0])
        cancel = getattr(self.source, "cancel", None)
        if cancel is not None:  # closing the iterator of a grpc.aio call leaves the RPC open
            cancel()
        aclose = getattr(self.iterator, "aclose", None)
        if aclose is not None:
            await aclose()


def _steps(awaitable: Awaitable[Event]) -> Generator[Any, Any, Event]:
    """What `await` would step through: a generator-based coroutine is that itself."""
    return awaitable if isinstance(awaitable, types.GeneratorType) else awaitable.__await__()


def _hold(waits_for: Any) -> None:
    """Takes back the mark that tells a task to wait: until the read goes on, others may wait for the same future."""
    if asyncio.isfuture(waits_for):
        waits_for._asyncio_future_blocking = False


@types.coroutine
def _rest(steps: Generator[Any, Any, Event], waits_for: Any) -> Generator[Any, Any, Event]:
    """The outcome of an awaitable that was begun by hand and waits; exceptions reach it where it stands."""
    while True:
        try:
            if not asyncio.isfuture(waits_for):
                yield waits_for
            elif not waits_for.done():
                waits_for._asyncio_future_blocking = True
                yield waits_for
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            try:
                waits_for = steps.throw(error)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
        else:
            return (yield from steps)


async def _abandon(steps: Generator[Any, Any, Any]) -> None:
    """Cancels an awaitable that waits, and lets it clean up. A cancellation of the caller's own passes through."""
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        waits_for = steps.throw(asyncio.CancelledError())
        await _rest(steps, waits_for)
    except (StopIteration, StopAsyncIteration, grpc.RpcError):
        pass
    except asyncio.CancelledError:
        if task and task.cancelling() > cancellations:
            raise
