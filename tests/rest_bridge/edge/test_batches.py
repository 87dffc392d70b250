import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import grpc
import pytest
import uvloop
from grpc import aio

from rest_bridge.batches import BYTES_AT_MOST, EVENTS_AT_MOST, batches
from tests.rest_bridge.edge.eventually import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def ended(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(test, 10))

    return ended


class Feed:
    """A source that a test feeds: an iterator with a coroutine `__anext__`, not a generator."""

    def __init__(self) -> None:
        self.ready: list[Any] = []
        self.news: asyncio.Future[None] | None = None
        self.is_closed = False
        self.was_cancelled = False

    def put(self, *events: Any) -> None:
        self.ready.extend(events)
        if self.news is not None and not self.news.done():
            self.news.set_result(None)

    def __aiter__(self) -> "Feed":
        return self

    async def __anext__(self) -> Any:
        while not self.ready:
            self.news = asyncio.get_running_loop().create_future()
            try:
                await self.news
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        event = self.ready.pop(0)
        if isinstance(event, BaseException):
            raise event
        return event

    async def aclose(self) -> None:
        self.is_closed = True


END = StopAsyncIteration()


def test_events_that_are_there_come_together(run: Run) -> None:
    async def test() -> None:
        feed = Feed()
        feed.put(1, 2, 3)
        async with aclosing(batches(feed)) as lists:
            assert await anext(lists) == [1, 2, 3]
            asyncio.get_running_loop().call_soon(feed.put, 4, 5, END)
            assert await anext(lists) == [4, 5]
            with pytest.raises(StopAsyncIteration):
                await anext(lists)
        assert feed.is_closed
        assert not feed.was_cancelled

    run(test())


def test_what_arrives_while_the_consumer_works_is_there_afterwards(run: Run) -> None:
    async def test() -> None:
        feed = Feed()
        feed.put(1)
        async with aclosing(batches(feed)) as lists:
            assert await anext(lists) == [1]
            feed.put(2)
            await asyncio.sleep(0)
            feed.put(3)
            assert await anext(lists) == [2, 3]
            feed.put(4, END)
            assert [batch async for batch in lists] == [[4]]

    run(test())


def test_a_source_that_always_waits_gives_every_event_alone_and_loses_none(run: Run) -> None:
    async def source() -> AsyncGenerator[int, None]:
        for number in range(200):
            await asyncio.sleep(0)
            yield number

    async def test() -> None:
        got = [batch async for batch in batches(source())]
        assert got == [[number] for number in range(200)]

    run(test())


def test_waits_of_every_kind_are_continued(run: Run) -> None:
    async def source() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(0.001)
        yield 2
        yield 3
        await asyncio.create_task(asyncio.sleep(0))
        await asyncio.sleep(0)
        queue: asyncio.Queue[int] = asyncio.Queue()
        asyncio.get_running_loop().call_soon(queue.put_nowait, 4)
        yield await queue.get()
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.001, event.set)
        await asyncio.gather(event.wait(), asyncio.sleep(0))
        yield 5

    async def test() -> None:
        got = []
        async for batch in batches(source()):
            got.append(batch)
            await asyncio.sleep(0.002)
        assert got == [[1], [2, 3], [4], [5]]

    run(test())


def test_a_batch_is_bounded_by_count_and_by_bytes(run: Run) -> None:
    async def source(count: int) -> AsyncGenerator[bytes, None]:
        for _ in range(count):
            yield b"x" * 1000

    async def test() -> None:
        counts = [len(batch) async for batch in batches(source(150))]
        assert counts == [EVENTS_AT_MOST, EVENTS_AT_MOST, 150 - 2 * EVENTS_AT_MOST]
        sizes = [sum(map(len, batch)) async for batch in batches(source(150), lambda event: 10 * len(event))]
        assert max(sizes) < BYTES_AT_MOST / 10 + 2000  # the first and the last
        assert sum(sizes) == 150_000

    run(test())


def test_an_empty_source_gives_nothing(run: Run) -> None:
    async def test() -> None:
        feed = Feed()
        feed.put(END)
        assert [batch async for batch in batches(feed)] == []
        assert feed.is_closed

    run(test())


@pytest.mark.parametrize("waits", [False, True])
def test_events_before_a_failure_come_before_it(run: Run, waits: bool) -> None:
    async def test() -> None:
        feed = Feed()
        feed.put(1, 2)
        if not waits:
            feed.put(ValueError("broken"))
        async with aclosing(batches(feed)) as lists:
            assert await anext(lists) == [1, 2]
            if waits:
                asyncio.get_running_loop().call_soon(feed.put, 3, ValueError("broken"))
                assert await anext(lists) == [3]
            with pytest.raises(ValueError, match="broken"):
                await anext(lists)
        assert feed.is_closed

    run(test())


def test_a_failure_before_the_first_event_is_raised_at_once(run: Run) -> None:
    async def test() -> None:
        feed = Feed()
        asyncio.get_running_loop().call_soon(feed.put, ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            await anext(batches(feed))
        assert feed.is_closed

    run(test())


@pytest.mark.parametrize("first", [False, True])
def test_cancelling_the_consumer_cancels_the_read_that_waits(run: Run, first: bool) -> None:
    async def test() -> None:
        feed = Feed()
        if not first:
            feed.put(1)
        reached = asyncio.Event()

        async def consume() -> None:
            async with aclosing(batches(feed)) as lists:
                if not first:
                    await anext(lists)
                reached.set()
                await anext(lists)

        task = asyncio.create_task(consume())
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert feed.was_cancelled
        assert feed.is_closed

    run(test())


def test_cancelling_the_consumer_at_its_own_work_cancels_the_read_too(run: Run) -> None:
    async def test() -> None:
        feed = Feed()
        feed.put(1)
        reached = asyncio.Event()

        async def consume() -> None:
            async with aclosing(batches(feed)) as lists:
                async for _ in lists:
                    reached.set()
                    await asyncio.sleep(60)

        task = asyncio.create_task(consume())
        await reached.wait()
        assert not feed.was_cancelled
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert feed.was_cancelled
        assert feed.is_closed

    run(test())


def test_leaving_early_runs_the_cleanup_of_a_waiting_generator_even_where_it_waits_itself(run: Run) -> None:
    steps: list[str] = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.001)
            steps.append("closed")

    async def test() -> None:
        async with aclosing(batches(source())) as lists:
            assert await anext(lists) == [1]
        assert steps == ["cancelled", "closed"]

    run(test())


def test_a_cancellation_during_the_cleanup_is_not_swallowed(run: Run) -> None:
    cleaning = asyncio.Event()

    async def source() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await asyncio.sleep(60)

    async def test() -> None:
        async def consume() -> None:
            async with aclosing(batches(source())) as lists:
                await anext(lists)

        task = asyncio.create_task(consume())
        await cleaning.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test())


def test_a_source_that_survives_a_cancellation_goes_on(run: Run) -> None:
    async def source() -> AsyncGenerator[int, None]:
        yield 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        yield 2

    async def test() -> None:
        got: list[list[int]] = []

        async def consume() -> None:
            async for batch in batches(source()):
                got.append(batch)

        task = asyncio.create_task(consume())
        await eventually(lambda: got)
        await asyncio.sleep(0)
        task.cancel()
        await task
        assert got == [[1], [2]]

    run(test())


def test_a_future_that_others_await_too_is_not_disturbed(run: Run) -> None:
    async def test() -> None:
        shared: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def source() -> AsyncGenerator[int, None]:
            yield 1
            yield await shared

        async with aclosing(batches(source())) as lists:
            assert await anext(lists) == [1]
            asyncio.get_running_loop().call_soon(shared.set_result, 2)
            assert await asyncio.wait_for(shared, 1) == 2
            assert await anext(lists) == [2]

        other: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def another() -> AsyncGenerator[int, None]:
            yield 1
            yield await other

        async with aclosing(batches(another())) as lists:
            assert await anext(lists) == [1]

            async def waits() -> int:
                return await other

            task = asyncio.create_task(waits())
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(other.set_result, 2)
            assert await anext(lists) == [2]
            assert await task == 2

    run(test())


def test_the_source_runs_in_the_task_of_the_consumer(run: Run) -> None:
    tasks = []

    async def source() -> AsyncGenerator[int, None]:
        tasks.append(asyncio.current_task())
        yield 1
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        yield 2

    async def test() -> None:
        assert [batch async for batch in batches(source())] == [[1], [2]]
        assert set(tasks) == {asyncio.current_task()}

    run(test())


async def test_a_grpc_call_on_a_socket_gives_all_its_events_and_is_cancelled_when_left() -> None:
    ended = asyncio.Event()

    async def count(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        try:
            for number in range(100):
                yield b"%d" % number
            if request == b"stay":
                await asyncio.sleep(60)
        finally:
            ended.set()

    server = aio.server()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(count)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Numbers", {"Count": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/tests.Numbers/Count")
            got = [event async for batch in batches(stub(b"")) for event in batch]
            assert got == [b"%d" % number for number in range(100)]
            ended.clear()
            call = stub(b"stay")
            async with aclosing(batches(call)) as lists:
                await anext(lists)
            assert call.cancelled()
            await asyncio.wait_for(ended.wait(), 5)
            call = stub(b"stay", timeout=0.2)
            with pytest.raises(aio.AioRpcError) as caught:
                assert [event async for batch in batches(call) for event in batch]
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        await server.stop(0)
