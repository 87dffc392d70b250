"""Tests of calls that a servicer ends with a failure, over a socket and in one process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceServicer

from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

NOT_FOUND = grpc.StatusCode.NOT_FOUND


async def refuse(context: Any) -> None:
    await context.abort(NOT_FOUND, "There is no such model.", (("t", "1"), ("t-bin", b"\x00\xff")))


async def test_an_aborted_unary_call_raises_its_status(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("i", "2"),))
        await refuse(context)

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    assert (failed.value.code(), failed.value.details()) == (NOT_FOUND, "There is no such model.")
    assert tuple(failed.value.initial_metadata()) == (("i", "2"),)
    assert tuple(failed.value.trailing_metadata()) == (("t", "1"), ("t-bin", b"\x00\xff"))
    assert await call.code() is NOT_FOUND
    assert await call.details() == "There is no such model."
    assert not call.cancelled()
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_a_stream_aborted_before_its_first_event_raises_its_status(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(context)
        yield event()

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await texts(call)
    assert failed.value.code() is NOT_FOUND
    assert tuple(failed.value.trailing_metadata()) == (("t", "1"), ("t-bin", b"\x00\xff"))
    assert tuple(await call.initial_metadata()) == ()
    assert tuple(await call.trailing_metadata()) == (("t", "1"), ("t-bin", b"\x00\xff"))


async def test_the_status_of_a_stream_without_events_may_be_awaited_first(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        await refuse(context)
        yield event()

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    assert tuple(await call.initial_metadata()) == ()
    assert await call.code() is NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()


async def test_a_stream_aborted_after_some_events_delivers_them_first(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        yield event("2")
        await refuse(context)

    _, stub = await connect(stream=stream)
    events = aiter(stub.StreamChatCompletion(STREAM))
    assert [(await anext(events)).chunk.id, (await anext(events)).chunk.id] == ["1", "2"]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await anext(events)
    assert failed.value.details() == "There is no such model."
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_reading_a_failed_stream_again_fails_again(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        await refuse(context)

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    assert (await call.read()).chunk.id == "1"
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
        assert failed.value.code() is NOT_FOUND


async def test_a_rich_status_is_readable(connect: Connect) -> None:
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason="MODEL_NOT_FOUND", domain="headgate.v1", metadata={"model": "m"}))
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="Ask for another.", details=[detail])

    async def create(request: Any, context: Any) -> Any:
        await context.abort_with_status(rpc_status.to_status(status))

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event()
        await context.abort_with_status(rpc_status.to_status(status))

    _, stub = await connect(create, stream)
    for failing in (stub.CreateChatCompletion(CREATE), texts(stub.StreamChatCompletion(STREAM))):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await failing
        assert rpc_status.from_call(failed.value) == status


@pytest.mark.parametrize("waits", [False, True])
async def test_an_exception_leaves_as_unknown(connect: Connect, waits: bool) -> None:
    async def create(request: Any, context: Any) -> Any:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("boom")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        if waits:
            await asyncio.sleep(0)
        raise ValueError("boom")

    _, stub = await connect(create, stream)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE)
    assert failed.value.code() is grpc.StatusCode.UNKNOWN
    events = aiter(stub.StreamChatCompletion(STREAM))
    assert (await anext(events)).chunk.id == "1"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await anext(events)
    assert failed.value.code() is grpc.StatusCode.UNKNOWN


async def test_a_failed_call_inside_a_servicer_is_an_exception_like_any_other(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        raise grpc.aio.AioRpcError(NOT_FOUND, details="of another service")

    _, stub = await connect(create=create)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE)
    assert failed.value.code() is grpc.StatusCode.UNKNOWN


async def test_a_code_that_was_set_is_the_status(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        context.set_code(NOT_FOUND)
        context.set_details("set")
        assert (context.code(), context.details()) == (NOT_FOUND, "set")
        return answer()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        context.set_code(NOT_FOUND)
        yield event()
        context.set_details("set")

    _, stub = await connect(create, stream)
    for failing in (stub.CreateChatCompletion(CREATE), texts(stub.StreamChatCompletion(STREAM))):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await failing
        assert (failed.value.code(), failed.value.details()) == (NOT_FOUND, "set")


async def test_a_code_that_was_set_outlives_an_exception(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        context.set_code(NOT_FOUND)
        raise ValueError("boom")

    _, stub = await connect(create=create)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE)
    assert failed.value.code() is NOT_FOUND


async def test_a_swallowed_abort_ends_the_call_all_the_same(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        context.set_details("set before")
        context.set_trailing_metadata((("t", "before"),))
        with pytest.raises(grpc.aio.AbortError):
            await context.abort(NOT_FOUND)
        with pytest.raises(grpc.aio.UsageError):
            await context.abort(NOT_FOUND)
        return answer()

    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        try:
            with pytest.raises(grpc.aio.AbortError):
                await context.abort(NOT_FOUND, "aborted")
            yield event("never seen")
        finally:
            ended.append("stream")

    _, stub = await connect(create, stream)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE)
    assert (failed.value.code(), failed.value.details()) == (NOT_FOUND, "set before")
    assert tuple(failed.value.trailing_metadata()) == (("t", "before"),)
    read = stub.StreamChatCompletion(STREAM).read
    events = aiter(stub.StreamChatCompletion(STREAM))
    for take in (read, events.__anext__):
        assert (await take()).chunk.id == "1"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await take()
        assert (failed.value.code(), failed.value.details()) == (NOT_FOUND, "aborted")
    await eventually(lambda: ended == ["stream", "stream"])


async def test_what_a_servicer_does_not_implement_is_unimplemented(connect: Connect) -> None:
    _, stub = await connect(servicer=ChatCompletionServiceServicer())  # type: ignore[abstract]
    for failing in (stub.CreateChatCompletion(CREATE), texts(stub.StreamChatCompletion(STREAM))):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await failing
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_that_nobody_registered_is_unimplemented(connect: Connect) -> None:
    channel, _ = await connect()
    unary: Any = channel.unary_unary("/headgate.v1.Nowhere/Ask", bytes, bytes)
    stream: Any = channel.unary_stream("/headgate.v1.Nowhere/Stream", bytes, bytes)
    for failing in (unary(b""), texts(stream(b""))):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await failing
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
