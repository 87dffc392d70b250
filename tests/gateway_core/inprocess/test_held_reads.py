"""Tests of reads that are begun and left waiting, on the in-process channel."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.gateway_core.inprocess.conftest import STREAM, Connect, event, eventually, texts

CANCELLED = grpc.StatusCode.CANCELLED


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
