"""Tests of calls whose deadline passes, over a socket and in one process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED


class Endless:
    """A servicer that waits for ever, and notes how it ended."""

    def __init__(self, events_first: int = 0) -> None:
        self.events_first = events_first
        self.ended: list[str] = []

    async def create(self, request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended.append("finally")

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            for number in range(self.events_first):
                yield event(str(number))
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended.append("finally")


def uncancelled() -> bool:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling() == 0


async def test_a_deadline_ends_a_unary_call(connect: Connect) -> None:
    servicer = Endless()
    _, stub = await connect(create=servicer.create)
    call = stub.CreateChatCompletion(CREATE, timeout=0.05)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    assert (failed.value.code(), failed.value.details()) == (EXCEEDED, "Deadline Exceeded")
    assert tuple(failed.value.trailing_metadata()) == ()
    assert uncancelled()
    assert await call.code() is EXCEEDED
    assert call.time_remaining() == 0
    assert not call.cancelled()
    await eventually(lambda: servicer.ended == ["finally"])


@pytest.mark.parametrize("events_first", [0, 2])
async def test_a_deadline_ends_a_stream_that_is_waited_for(connect: Connect, events_first: int) -> None:
    servicer = Endless(events_first)
    _, stub = await connect(stream=servicer.stream)
    events = aiter(stub.StreamChatCompletion(STREAM, timeout=0.2))
    for _ in range(events_first):
        await anext(events)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await anext(events)
    assert failed.value.code() is EXCEEDED
    assert uncancelled()
    await asyncio.sleep(0)  # a cancellation that was left behind would strike here
    await eventually(lambda: servicer.ended == ["finally"])
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_deadline_ends_a_stream_that_nobody_reads(connect: Connect) -> None:
    servicer = Endless(events_first=1)
    _, stub = await connect(stream=servicer.stream)
    call = stub.StreamChatCompletion(STREAM, timeout=0.1)
    assert (await call.read()).chunk.id == "0"
    await eventually(lambda: servicer.ended == ["finally"])
    await eventually(call.done)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
        assert failed.value.code() is EXCEEDED
        assert "Deadline Exceeded" in str(failed.value.details())


async def test_a_deadline_wakes_whoever_waits_for_the_status(connect: Connect) -> None:
    servicer = Endless(events_first=1)
    _, stub = await connect(stream=servicer.stream)
    call = stub.StreamChatCompletion(STREAM, timeout=0.1)
    await call.read()
    assert await asyncio.wait_for(call.code(), 5) is EXCEEDED


async def test_a_deadline_in_the_past_is_exceeded(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        return answer()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event()

    _, stub = await connect(create, stream)
    calls = (stub.CreateChatCompletion(CREATE, timeout=-1), texts(stub.StreamChatCompletion(STREAM, timeout=-1)))
    for failing in calls:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await failing
        assert failed.value.code() is EXCEEDED


async def test_a_deadline_that_is_kept_leaves_nothing_behind(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield event("1")

    _, stub = await connect(stream=stream)
    assert await texts(stub.StreamChatCompletion(STREAM, timeout=0.2)) == ["1"]
    await asyncio.sleep(0.3)  # the deadline passes here, and must strike nobody
    assert uncancelled()


async def test_a_timeout_of_the_callers_own_is_not_a_deadline(connect: Connect) -> None:
    servicer = Endless()
    _, stub = await connect(create=servicer.create, stream=servicer.stream)
    for method, request in ((stub.CreateChatCompletion, CREATE), (stub.StreamChatCompletion, STREAM)):
        call = method(request, timeout=30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else call.read())
        assert uncancelled()
        assert call.cancelled()
    await eventually(lambda: servicer.ended == ["finally", "finally"])


async def test_a_servicers_own_timeout_is_its_own_matter(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return answer("gave up")

    _, stub = await connect(create=create)
    assert (await stub.CreateChatCompletion(CREATE, timeout=30)).completion.id == "gave up"
    assert uncancelled()


async def test_a_deadline_passes_a_servicers_own_timeout(connect: Connect) -> None:
    ended: list[str] = []

    async def create(request: Any, context: Any) -> Any:
        try:
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    _, stub = await connect(create=create)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE, timeout=0.05)
    assert failed.value.code() is EXCEEDED
    await eventually(lambda: ended == ["cancelled"])
    assert uncancelled()
