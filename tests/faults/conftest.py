"""What a fault must not leave behind: a log to read from, tasks, and what the loop complains of."""

import asyncio
import gc
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway_core.config import LogConfig
from gateway_core.telemetry.log import configure_log
from tests.faults.clock import Clock, ticking
from tests.support.gateway import Gateway
from tests.support.unconfigured import unconfigure_log
from tests.support.upstream import reached

Log = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log() -> Iterator[Log]:
    """The lines logged so far. It comes before the gateway: loggers are bound when the gateway is made."""
    stream = io.BytesIO()
    configure_log(LogConfig(format="json"), stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    unconfigure_log()


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop complained of, which must be nothing: exceptions that nobody retrieved, tasks destroyed …"""
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    gc.collect()
    await asyncio.sleep(0)
    assert found == []


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    """A clock that does not count what the machine gave to others."""
    with ticking() as started:
        yield started


async def nothing_left(gateway: Gateway, before: set[asyncio.Task[Any]]) -> None:
    """Waits until a gateway holds no call, and there is no task that was not there before."""
    await reached(lambda: gateway.core.telemetry.calls_in_flight == 0)
    try:
        await reached(lambda: not new_tasks(before))
    except AssertionError:
        raise AssertionError(f"left: {new_tasks(before)}") from None


def new_tasks(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """The tasks that were not there before, but for those in which a server waits for the next call."""
    return [task for task in asyncio.all_tasks() - before if not waits_for_a_call(task)]


def waits_for_a_call(task: asyncio.Task[Any]) -> bool:
    """Whether a task is gRPC's server's, or that of a connection of the bridge which holds no request."""
    if "AioServer._request_" in repr(task):
        return True
    coroutine: Any = task.get_coro()
    if getattr(coroutine, "__qualname__", "") != "LimitedHttpProtocol._serve":
        return False
    frame = coroutine.cr_frame
    return frame is not None and "idle" in frame.f_locals and frame.f_locals["cycle"] is None
