"""Tests of what is the in-process channel's own: no copy, no task, and where it cannot be as a socket."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
import pytest

from gateway_core.inprocess import InProcessChannel
from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

UNKNOWN = grpc.StatusCode.UNKNOWN


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


class Held:
    """What a servicer holds while it runs."""


@pytest.mark.parametrize("is_left", [True, False])
@pytest.mark.parametrize("whole", [True, False])
async def test_what_a_call_held_is_free_once_it_has_failed(
    connect_inprocess: Connect, is_left: bool, whole: bool
) -> None:
    held: list[weakref.ref[Held]] = []

    async def end(context: Any) -> None:
        if is_left:
            await asyncio.Event().wait()
        await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")

    async def create(request: Any, context: Any) -> Any:
        own = Held()
        held.append(weakref.ref(own))
        await end(context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        own = Held()
        held.append(weakref.ref(own))
        yield event("1")
        await end(context)

    _, stub = await connect_inprocess(create, stream)

    async def caller() -> None:
        with suppress(grpc.aio.AioRpcError):
            await (stub.CreateChatCompletion(CREATE) if whole else texts(stub.StreamChatCompletion(STREAM)))

    gc.disable()  # no cycle may keep it
    try:
        task = asyncio.create_task(caller())
        await eventually(lambda: bool(held))
        if is_left:
            task.cancel()
        await asyncio.wait({task})
        del task
        await eventually(lambda: held[0]() is None)
    finally:
        gc.enable()


async def test_the_timer_of_a_deadline_ends_with_its_call(
    connect_inprocess: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noted(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(call_at(*arguments, **options))
        return timers[-1]

    async def create(request: Any, context: Any) -> Any:
        return answer()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")

    _, stub = await connect_inprocess(create, stream)
    monkeypatch.setattr(loop, "call_at", noted)
    await stub.CreateChatCompletion(CREATE, timeout=30)
    await texts(stub.StreamChatCompletion(STREAM, timeout=30))
    stub.StreamChatCompletion(STREAM, timeout=30).cancel()
    assert [timer.cancelled() for timer in timers] == [True, True, True]


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

    methods = ("CreateChatCompletion", "StreamChatCompletion", "ResumeChatCompletion")
    servicer: Any = type("Writer", (), dict.fromkeys(methods, write))()
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
