"""Tests of servicers that misbehave, where the in-process channel is not as a socket."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

UNKNOWN = grpc.StatusCode.UNKNOWN
CANCELLED = grpc.StatusCode.CANCELLED


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


@pytest.mark.parametrize("fails", [False, True])
async def test_a_servicer_may_give_anything_that_can_be_awaited(connect_inprocess: Connect, fails: bool) -> None:
    def create(request: Any, context: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        if fails:
            loop.call_soon(future.set_exception, ValueError("no"))
        else:
            loop.call_soon(future.set_result, answer())
        return future

    _, stub = await connect_inprocess(create=create)
    call = stub.CreateChatCompletion(CREATE)
    assert await call.code() is (UNKNOWN if fails else grpc.StatusCode.OK)
    assert await call.initial_metadata() == grpc.aio.Metadata()
    if fails:
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    else:
        assert await call == answer()


async def test_a_failure_that_was_asked_for_by_its_status_is_raised_to_whoever_awaits(
    connect_inprocess: Connect,
) -> None:
    async def create(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none", (("k", "v"),))

    _, stub = await connect_inprocess(create=create)
    call = stub.CreateChatCompletion(CREATE)
    assert (await call.code(), await call.details()) == (grpc.StatusCode.NOT_FOUND, "none")
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        assert tuple(failed.value.trailing_metadata() or ()) == (("k", "v"),)
