"""Tests of calls that are answered, over a socket and in one process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_pb2 import ChatCompletionSpec

from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts


async def hello(request: Any, context: Any) -> Any:
    return answer("hello " + request.spec.model)


async def three(request: Any, context: Any) -> AsyncIterator[Any]:
    yield event("1")
    await asyncio.sleep(0)
    yield event("2")
    yield event("3" + request.spec.model)


async def test_a_unary_call_is_answered(connect: Connect) -> None:
    _, stub = await connect(create=hello)
    call = stub.CreateChatCompletion(CreateChatCompletionRequest(spec=ChatCompletionSpec(model="you")))
    assert isinstance(call, grpc.aio.UnaryUnaryCall)
    assert (await call).completion.id == "hello you"
    assert call.done()
    assert not call.cancelled()
    assert await call.code() is grpc.StatusCode.OK
    assert await call.details() == ""


async def test_an_answer_may_be_awaited_again(connect: Connect) -> None:
    asked: list[Any] = []

    async def create(request: Any, context: Any) -> Any:
        asked.append(request)
        return answer("once")

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)
    assert [(await call).completion.id, (await call).completion.id] == ["once", "once"]
    assert len(asked) == 1


async def test_several_tasks_may_await_one_unary_call(connect: Connect) -> None:
    go = asyncio.Event()

    async def create(request: Any, context: Any) -> Any:
        await go.wait()
        return answer("shared")

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)

    async def ask() -> str:
        return str((await call).completion.id)

    tasks = [asyncio.create_task(ask()), asyncio.create_task(ask()), asyncio.create_task(call.code())]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*tasks) == ["shared", "shared", grpc.StatusCode.OK]


async def test_a_stream_is_iterated(connect: Connect) -> None:
    _, stub = await connect(stream=three)
    call = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=ChatCompletionSpec(model="!")))
    assert isinstance(call, grpc.aio.UnaryStreamCall)
    assert await texts(call) == ["1", "2", "3!"]
    assert call.done()
    assert await call.code() is grpc.StatusCode.OK
    assert await texts(call) == []


async def test_a_stream_is_read(connect: Connect) -> None:
    _, stub = await connect(stream=three)
    call = stub.StreamChatCompletion(STREAM)
    assert [(await call.read()).chunk.id for _ in range(3)] == ["1", "2", "3"]
    assert await call.read() is grpc.aio.EOF
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_an_empty_stream_ends_well(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        if context.done():
            yield event()

    _, stub = await connect(stream=stream)
    assert await texts(stub.StreamChatCompletion(STREAM)) == []


async def test_reading_and_iterating_do_not_mix(connect: Connect) -> None:
    _, stub = await connect(stream=three)
    read = stub.StreamChatCompletion(STREAM)
    await read.read()
    with pytest.raises(grpc.aio.UsageError):
        aiter(read)
    iterated = stub.StreamChatCompletion(STREAM)
    await anext(aiter(iterated))
    if not iterated.done():  # over a socket the end may have come already, and then reading tells it
        with pytest.raises(grpc.aio.UsageError):
            await iterated.read()
    read.cancel()
    iterated.cancel()


async def test_two_calls_run_side_by_side(connect: Connect) -> None:
    both = asyncio.Barrier(2)

    async def create(request: Any, context: Any) -> Any:
        await both.wait()
        return answer()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("begun")
        await both.wait()
        yield event("done")

    _, stub = await connect(create, stream)
    unary, streamed = await asyncio.wait_for(
        asyncio.gather(stub.CreateChatCompletion(CREATE), texts(stub.StreamChatCompletion(STREAM))), 5
    )
    assert unary == answer()
    assert streamed == ["begun", "done"]


async def test_the_status_of_a_unary_call_may_be_awaited_first(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("cost", "3"),))
        await asyncio.sleep(0)
        return answer("then")

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)
    await call.wait_for_connection()
    assert await call.code() is grpc.StatusCode.OK
    assert tuple(await call.trailing_metadata()) == (("cost", "3"),)
    assert (await call).completion.id == "then"


async def test_the_status_of_a_stream_may_be_awaited_by_another_task(connect: Connect) -> None:
    _, stub = await connect(stream=three)
    call = stub.StreamChatCompletion(STREAM)
    status = asyncio.create_task(call.code())
    await asyncio.sleep(0)
    assert await texts(call) == ["1", "2", "3"]
    assert await status is grpc.StatusCode.OK


async def test_both_sides_know_the_time_that_remains(connect: Connect) -> None:
    seen: list[float | None] = []

    async def create(request: Any, context: Any) -> Any:
        seen.append(context.time_remaining())
        return answer()

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE, timeout=30)
    assert 29 < call.time_remaining() <= 30
    await call
    assert seen[0] is not None
    assert 29 < seen[0] < 31  # over a socket the deadline is rounded up
    unbounded = stub.CreateChatCompletion(CREATE)
    assert unbounded.time_remaining() is None
    await unbounded
    assert seen[1] is None


async def test_both_sides_are_told_when_a_call_is_done(connect: Connect) -> None:
    told: list[Any] = []
    contexts: list[Any] = []

    async def create(request: Any, context: Any) -> Any:
        contexts.append(context)
        context.add_done_callback(lambda context: told.append((context, context.done(), context.cancelled())))
        return answer()

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)
    call.add_done_callback(told.append)
    await call
    call.add_done_callback(lambda call: told.append((call, call.code)))
    await eventually(lambda: len(told) == 3)
    assert call in told
    assert (call, call.code) in told
    assert (contexts[0], True, False) in told


async def test_a_servicer_sees_a_plain_call(connect: Connect) -> None:
    seen: dict[str, Any] = {}

    async def create(request: Any, context: Any) -> Any:
        seen.update(code=context.code(), details=context.details(), trailing=context.trailing_metadata())
        seen.update(identities=context.peer_identities(), key=context.peer_identity_key(), peer=context.peer())
        context.set_compression(grpc.Compression.NoCompression)
        context.disable_next_message_compression()
        return answer()

    _, stub = await connect(create=create)
    await stub.CreateChatCompletion(CREATE)
    assert seen.pop("peer")
    assert seen == {"code": None, "details": "", "trailing": (), "identities": None, "key": None}


async def test_a_channel_is_ready_until_it_is_closed(connect: Connect) -> None:
    channel, stub = await connect(create=hello)
    await asyncio.wait_for(channel.channel_ready(), 5)
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    await channel.close()
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    with pytest.raises(grpc.aio.UsageError):
        await stub.CreateChatCompletion(CREATE)
