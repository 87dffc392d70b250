"""Tests of calls that the caller cancels, over a socket and in one process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

CANCELLED = grpc.StatusCode.CANCELLED


class Endless:
    """A servicer that waits for ever, says when it does, and notes how it ended."""

    def __init__(self, events_first: int = 0) -> None:
        self.events_first = events_first
        self.waits = False
        self.ended: list[str] = []

    async def wait(self) -> None:
        try:
            self.waits = True
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    async def create(self, request: Any, context: Any) -> Any:
        context.add_done_callback(lambda context: self.ended.append("done"))
        await self.wait()

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        context.add_done_callback(lambda context: self.ended.append("done"))
        for number in range(self.events_first):
            yield event(str(number))
        await self.wait()


async def reading(call: Any, count: int = 1) -> None:
    for _ in range(count):
        await call.read()


async def cancelled_by_the_call(call: Any, task: asyncio.Task[Any]) -> None:
    assert call.cancel()
    assert call.done()
    assert not call.cancel()


async def cancelled_by_the_task(call: Any, task: asyncio.Task[Any]) -> None:
    assert task.cancel()


CANCELS = pytest.mark.parametrize("cancel", [cancelled_by_the_call, cancelled_by_the_task])


async def is_cancelled(call: Any, task: asyncio.Task[Any]) -> bool:
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.cancelled()
    assert call.done()
    assert await call.details() == "Locally cancelled by application!"
    assert tuple(await call.initial_metadata()) == tuple(await call.trailing_metadata()) == ()
    return await call.code() is CANCELLED


@CANCELS
async def test_cancelling_a_unary_call_cancels_its_servicer(connect: Connect, cancel: Any) -> None:
    servicer = Endless()
    _, stub = await connect(create=servicer.create)
    call = stub.CreateChatCompletion(CREATE, timeout=30)

    async def ask() -> None:
        await call

    task = asyncio.create_task(ask())
    await eventually(lambda: servicer.waits)
    await cancel(call, task)
    assert await is_cancelled(call, task)
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: servicer.ended == ["cancelled", "done"])


@CANCELS
@pytest.mark.parametrize("events_first", [0, 2])
async def test_cancelling_a_stream_that_is_waited_for_cancels_its_servicer(
    connect: Connect, cancel: Any, events_first: int
) -> None:
    servicer = Endless(events_first)
    _, stub = await connect(stream=servicer.stream)
    call = stub.StreamChatCompletion(STREAM, timeout=30)
    task = asyncio.create_task(reading(call, events_first + 1))
    await eventually(lambda: servicer.waits)
    await asyncio.sleep(0.05)  # over a socket: until the reader has what was sent
    await cancel(call, task)
    assert await is_cancelled(call, task)
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    await eventually(lambda: servicer.ended == ["cancelled", "done"])


async def test_cancelling_any_of_the_tasks_that_await_a_call_cancels_it(connect: Connect) -> None:
    servicer = Endless()
    _, stub = await connect(create=servicer.create)
    call = stub.CreateChatCompletion(CREATE)

    async def ask() -> None:
        await call

    first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
    await eventually(lambda: servicer.waits)
    second.cancel()
    for task in (second, first):
        assert await is_cancelled(call, task)
    await eventually(lambda: servicer.ended == ["cancelled", "done"])


async def test_cancelling_a_stream_between_reads_closes_its_servicer(connect: Connect) -> None:
    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield event("1")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("finally")

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    events = aiter(call)
    assert (await anext(events)).chunk.id == "1"
    assert call.cancel()
    await eventually(lambda: ended == ["finally"])
    with pytest.raises(asyncio.CancelledError):
        await anext(events)
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert await call.code() is CANCELLED


async def test_leaving_the_loop_and_cancelling_closes_the_servicer(connect: Connect) -> None:
    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield event("again")
                await asyncio.sleep(0.01)
        finally:
            ended.append("finally")

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    async for _ in call:
        break
    assert call.cancel()
    await eventually(lambda: ended == ["finally"])


@pytest.mark.parametrize("method", ["CreateChatCompletion", "StreamChatCompletion"])
async def test_a_call_that_is_cancelled_at_once_never_answers(connect: Connect, method: str) -> None:
    servicer = Endless()
    _, stub = await connect(servicer.create, servicer.stream)
    call = getattr(stub, method)(CREATE if method.startswith("Create") else STREAM)
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else call.read())
    assert await call.code() is CANCELLED


async def test_cancelling_a_call_that_has_ended_changes_nothing(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        return answer("kept")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event()

    _, stub = await connect(create, stream)
    call = stub.CreateChatCompletion(CREATE)
    await call
    assert not call.cancel()
    assert (await call).completion.id == "kept"
    streamed = stub.StreamChatCompletion(STREAM)
    await texts(streamed)
    assert not streamed.cancel()
    assert await streamed.code() is grpc.StatusCode.OK


async def test_a_cancelled_call_tells_its_callbacks(connect: Connect) -> None:
    servicer = Endless()
    _, stub = await connect(create=servicer.create)
    call = stub.CreateChatCompletion(CREATE)
    told: list[Any] = []
    call.add_done_callback(lambda call: told.append(call.cancelled()))
    call.cancel()
    await eventually(lambda: told == [True])


async def test_closing_the_channel_cancels_its_calls(connect: Connect) -> None:
    servicer = Endless()
    channel, stub = await connect(stream=servicer.stream)
    call = stub.StreamChatCompletion(STREAM)
    task = asyncio.create_task(reading(call))
    await eventually(lambda: servicer.waits)
    await channel.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: servicer.ended == ["cancelled", "done"])


async def test_closing_the_channel_with_grace_lets_calls_finish(connect: Connect) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def create(request: Any, context: Any) -> Any:
        begun.set()
        await go.wait()
        return answer("finished")

    channel, stub = await connect(create=create)

    async def ask() -> str:
        return str((await stub.CreateChatCompletion(CREATE)).completion.id)

    task = asyncio.create_task(ask())
    await begun.wait()
    closing = asyncio.create_task(channel.close(grace=5))
    await asyncio.sleep(0)
    go.set()
    assert await task == "finished"
    await closing
