"""Tests of what is the in-process channel's own: no copy, no task, and where it cannot be as a socket."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
import pytest

from gateway_core.inprocess import InProcessChannel
from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

UNKNOWN = grpc.StatusCode.UNKNOWN
CANCELLED = grpc.StatusCode.CANCELLED


async def test_messages_are_handed_over_as_the_objects_they_are(connect_inprocess: Connect) -> None:
    seen: list[Any] = []
    given, sent = answer(), event()

    async def create(request: Any, context: Any) -> Any:
        seen.append(request)
        assert context.peer() == "inprocess:"
        assert context.auth_context() == {}
        return given

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        seen.append(request)
        yield sent

    _, stub = await connect_inprocess(create, stream)
    assert await stub.CreateChatCompletion(CREATE) is given
    assert await anext(aiter(stub.StreamChatCompletion(STREAM))) is sent
    assert seen[0] is CREATE
    assert seen[1] is STREAM


async def test_the_servicer_runs_in_the_callers_task_and_context(connect_inprocess: Connect) -> None:
    tasks: set[Any] = set()
    variable: ContextVar[str] = ContextVar("variable")

    async def create(request: Any, context: Any) -> Any:
        tasks.add(asyncio.current_task())
        await asyncio.sleep(0)
        return answer(variable.get())

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        tasks.add(asyncio.current_task())
        await asyncio.sleep(0)
        yield event(variable.get())
        tasks.add(asyncio.current_task())

    _, stub = await connect_inprocess(create, stream)
    variable.set("the caller's")
    before = asyncio.all_tasks()
    assert (await stub.CreateChatCompletion(CREATE, timeout=9)).completion.id == "the caller's"
    assert await texts(stub.StreamChatCompletion(STREAM, timeout=9)) == ["the caller's"]
    assert tasks == {asyncio.current_task()}
    assert asyncio.all_tasks() == before


def finished(awaitable: Any) -> Any:
    """What an awaitable gives without suspending."""
    with pytest.raises(StopIteration) as stopped:
        awaitable.__await__().send(None)
    return stopped.value.value


async def test_what_is_there_is_read_without_suspending(connect_inprocess: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        return answer("there")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield event(str(number))

    _, stub = await connect_inprocess(create, stream)
    assert finished(stub.CreateChatCompletion(CREATE, timeout=9)).completion.id == "there"
    events = aiter(stub.StreamChatCompletion(STREAM, timeout=9))
    assert [finished(anext(events)).chunk.id for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(StopAsyncIteration):
        anext(events).__await__().send(None)


class Held:
    """A stream whose reader begins a read that has to wait, and does not go on with it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ended: list[str] = []

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        context.add_done_callback(lambda context: self.ended.append("done"))
        try:
            await self.go.wait()
            yield event("late")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            self.ended.append("finally")

    async def begin(self, connect: Connect, timeout: float | None = None) -> tuple[Any, Any, Any]:
        _, stub = await connect(stream=self.stream)
        call = stub.StreamChatCompletion(STREAM, timeout=timeout)
        steps = anext(aiter(call)).__await__()
        waits_for = steps.send(None)
        waits_for._asyncio_future_blocking = False  # as whoever holds such a read does
        return call, steps, waits_for


class Rest:
    """The rest of a read that was begun."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps

    def __await__(self) -> Any:
        return (yield from self.steps)


async def test_a_read_that_was_begun_can_be_finished_later(connect_inprocess: Connect) -> None:
    held = Held()
    _, steps, _ = await held.begin(connect_inprocess)
    held.go.set()
    await asyncio.sleep(0)
    assert (await Rest(steps)).chunk.id == "late"


async def test_a_deadline_strikes_a_read_that_is_held_and_not_its_holder(connect_inprocess: Connect) -> None:
    held = Held()
    call, steps, waits_for = await held.begin(connect_inprocess, timeout=0.05)
    await eventually(call.done)  # the holder is here when the deadline passes
    assert waits_for.cancelled()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await Rest(steps)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert held.ended[:2] == ["cancelled", "finally"]


async def test_dropping_a_read_that_was_begun_closes_the_servicer(connect_inprocess: Connect) -> None:
    held = Held()
    call, steps, _ = await held.begin(connect_inprocess)
    del steps
    await eventually(lambda: held.ended == ["cancelled", "finally", "done"])
    assert await call.code() is CANCELLED


async def test_cancelling_the_call_and_dropping_the_read_closes_the_servicer(connect_inprocess: Connect) -> None:
    held = Held()
    call, steps, _ = await held.begin(connect_inprocess)
    assert call.cancel()
    del steps
    await eventually(lambda: held.ended == ["cancelled", "finally", "done"])


@pytest.mark.parametrize("in_time", [True, False])
async def test_what_a_parked_servicer_waits_for_may_be_awaited_by_others(
    connect_inprocess: Connect, in_time: bool
) -> None:
    shared = asyncio.get_running_loop().create_future()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata(())
        yield event(await shared)

    async def other() -> str:
        return str(await shared)

    _, stub = await connect_inprocess(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    await call.initial_metadata()
    elsewhere = asyncio.create_task(other())
    await asyncio.sleep(0)
    if not in_time:
        shared.set_result("shared")
    read = asyncio.create_task(texts(call))
    await asyncio.sleep(0)
    if in_time:
        shared.set_result("shared")
    assert await read == ["shared"]
    assert await elsewhere == "shared"


async def test_a_call_that_is_dropped_is_closed(connect_inprocess: Connect) -> None:
    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        context.add_done_callback(lambda context: ended.append(context.cancelled()))
        try:
            yield event("1")
            yield event("2")
        finally:
            await asyncio.sleep(0)
            ended.append("finally")

    channel, stub = await connect_inprocess(stream=stream)
    assert isinstance(channel, InProcessChannel)
    gc.disable()  # no cycle may keep the call
    try:
        async for _ in stub.StreamChatCompletion(STREAM, timeout=30):
            break
        await eventually(lambda: ended == ["finally", True])
    finally:
        gc.enable()
    stub.StreamChatCompletion(STREAM, timeout=30)
    await eventually(lambda: not channel.calls)


async def test_nothing_is_left_of_a_call_that_has_ended(connect_inprocess: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        await asyncio.Event().wait()

    channel, stub = await connect_inprocess(stream=stream)
    assert isinstance(channel, InProcessChannel)
    call = stub.StreamChatCompletion(STREAM, timeout=30)
    await call.read()
    assert len(channel.calls) == 1
    call.cancel()
    assert not channel.calls
    await channel.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_the_channel_waits_until_servicers_are_closed(connect_inprocess: Connect) -> None:
    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield event("1")
        finally:
            await asyncio.sleep(0.05)
            ended.append("finally")

    channel, stub = await connect_inprocess(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    await call.read()
    await channel.close()
    assert ended == ["finally"]
    await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_nothing_of_an_exception_reaches_the_caller(
    connect_inprocess: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def create(request: Any, context: Any) -> Any:
        raise ValueError("a secret")

    _, stub = await connect_inprocess(create=create)
    with pytest.raises(grpc.aio.AioRpcError) as failed, caplog.at_level(logging.ERROR):
        await stub.CreateChatCompletion(CREATE)
    assert (failed.value.code(), failed.value.details()) == (UNKNOWN, "")
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None
    assert "a secret" in caplog.text


@pytest.mark.parametrize("waits", [False, True])
async def test_a_servicer_that_raises_a_cancellation_ends_its_call_only(
    connect_inprocess: Connect, waits: bool
) -> None:
    async def create(request: Any, context: Any) -> Any:
        if waits:
            forgotten = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(forgotten.cancel)
            await forgotten
        raise asyncio.CancelledError

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        await create(request, context)

    _, stub = await connect_inprocess(create, stream)
    for failing in (stub.CreateChatCompletion(CREATE), texts(stub.StreamChatCompletion(STREAM))):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await failing
        assert failed.value.code() is CANCELLED


async def test_a_context_knows_that_its_call_is_over(connect_inprocess: Connect) -> None:
    seen: list[Any] = []

    async def create(request: Any, context: Any) -> Any:
        seen.append((context.done(), context.cancelled()))
        try:
            await asyncio.Event().wait()
        finally:
            seen.append((context.done(), context.cancelled()))

    _, stub = await connect_inprocess(create=create)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(CREATE, timeout=0.01)
    call = stub.CreateChatCompletion(CREATE)
    asyncio.get_running_loop().call_soon(call.cancel)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert seen == [(False, False), (True, False), (False, False), (True, True)]


async def swallow() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)


@pytest.mark.parametrize("cancelled_by", ["deadline", "call", "task"])
async def test_an_answer_of_a_servicer_that_swallows_its_cancellation_is_refused(
    connect_inprocess: Connect, cancelled_by: str
) -> None:
    ended: list[str] = []

    async def create(request: Any, context: Any) -> Any:
        await swallow()
        return answer("too late")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            await swallow()
            yield event("too late")
        finally:
            await asyncio.sleep(0)
            ended.append("finally")

    _, stub = await connect_inprocess(create, stream)
    for method, request in ((stub.CreateChatCompletion, CREATE), (stub.StreamChatCompletion, STREAM)):
        call = method(request, timeout=0.05 if cancelled_by == "deadline" else None)

        async def ask(call: Any = call) -> Any:
            return await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else call.read())

        task = asyncio.create_task(ask())
        await asyncio.sleep(0)
        if cancelled_by != "deadline":
            (call if cancelled_by == "call" else task).cancel()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)) as failed:
            await task
        assert isinstance(failed.value, grpc.aio.AioRpcError) == (cancelled_by == "deadline")
    await eventually(lambda: ended == ["finally"])


async def test_a_callers_cancellation_wins_over_the_servicers_failure(connect_inprocess: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await context.abort(grpc.StatusCode.ABORTED, "on leaving")

    _, stub = await connect_inprocess(create=create)
    call = stub.CreateChatCompletion(CREATE)

    async def ask() -> None:
        await call

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as failed:
        await task
    assert failed.value is not None
    assert await call.code() is CANCELLED


async def test_a_servicer_that_fails_while_it_is_closed_is_logged(
    connect_inprocess: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield event("1")
        finally:
            raise ValueError("on closing")

    channel, stub = await connect_inprocess(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    await call.read()
    with caplog.at_level(logging.ERROR):
        call.cancel()
        await channel.close()
    assert "on closing" in caplog.text


async def test_waiting_for_the_status_runs_the_servicer_one_event_further(connect_inprocess: Connect) -> None:
    reached: list[int] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(4):
            reached.append(number)
            yield event(str(number))

    _, stub = await connect_inprocess(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    status = asyncio.create_task(call.code())
    await asyncio.sleep(0.02)
    assert reached == [0]
    assert not status.done()
    assert await texts(call) == ["0", "1", "2", "3"]
    assert await status is grpc.StatusCode.OK


async def test_a_reader_is_told_of_a_failure_that_another_task_met_first(connect_inprocess: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield event()

    _, stub = await connect_inprocess(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    metadata = asyncio.create_task(call.initial_metadata())
    read = asyncio.create_task(texts(call))
    await asyncio.sleep(0)
    metadata.cancel()
    for task in (metadata, read):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_the_channel_does_not_do_it_refuses(connect_inprocess: Connect) -> None:
    async def write(request: Any, context: Any) -> None:
        await context.write(event())

    servicer: Any = type("Writer", (), {"CreateChatCompletion": write, "StreamChatCompletion": write})()
    channel, stub = await connect_inprocess(servicer=servicer)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await texts(stub.StreamChatCompletion(STREAM))
    assert failed.value.code() is UNKNOWN
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE)
    assert failed.value.code() is UNKNOWN
    with pytest.raises(NotImplementedError):
        channel.stream_unary("/x/Y")
    with pytest.raises(NotImplementedError):
        channel.stream_stream("/x/Y")
    with pytest.raises(grpc.aio.UsageError):
        stub.CreateChatCompletion(CREATE, credentials=grpc.access_token_call_credentials("secret"))


async def test_a_method_is_found_by_a_generic_handler_too() -> None:
    async def create(request: Any, context: Any) -> Any:
        return answer("found")

    async with InProcessChannel() as channel:
        methods: dict[str, Any] = {"Ask": grpc.unary_unary_rpc_method_handler(create)}
        channel.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", methods),))
        ask: Any = channel.unary_unary("/x.Y/Ask")
        assert (await ask(CREATE)).completion.id == "found"
