"""The tasks that answer the requests of a connection: one after the other by the same, where all goes well."""

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from rest_bridge.exchange import Exchange
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.serving import GET, POST, Run, Serving, Work, echo, serving


class Recorded:
    """Work that records which task does it."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    async def __call__(self, exchange: Exchange) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        await echo(exchange)


class Kept:
    """What a request holds for as long as it is held itself."""


class Keeping:
    """Work that knows what is left of the requests it was given."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._kept: list[weakref.ref[Kept]] = []

    async def __call__(self, exchange: Exchange) -> None:
        exchange.scope["kept"] = each = Kept()
        self._kept.append(weakref.ref(each))
        del each
        await self._work(exchange)

    @property
    def left(self) -> list[bool]:
        """Of each request, whether something holds it."""
        return [each() is not None for each in self._kept]


async def idle_task(server: Serving, work: Recorded) -> asyncio.Task[Any]:
    """The task that waits for the next request, after one was answered."""
    await eventually(lambda: not server.state.tasks)
    task = work.tasks[-1]
    assert not task.done()
    return task


def test_the_requests_of_a_connection_are_answered_by_one_task_which_ends_with_it(run: Run) -> None:
    async def test() -> None:
        work = Recorded()
        async with serving(work) as server:
            client = await server.connect()
            for _ in range(3):
                client.writer.write(POST + b"3\r\n\r\none")
                assert (await client.answer())[2] == b"one"
                task = await idle_task(server, work)
            assert work.tasks == [task] * 3
            await client.close()
            await eventually(task.done)
            assert not task.cancelled()
            assert task.exception() is None

    run(test())


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_request_does_not_wait_for_what_the_one_before_does_behind_its_answer(run: Run, *, pipelined: bool) -> None:
    async def test() -> None:
        may_return = asyncio.Event()
        work = Recorded()

        async def slow(exchange: Exchange) -> None:
            is_first = not work.tasks
            await work(exchange)
            if is_first:
                await may_return.wait()

        async with serving(slow) as server:
            client = await server.connect()
            client.writer.write(GET * 2 if pipelined else GET)
            await client.answer()
            if not pipelined:
                client.writer.write(GET)
            await client.answer()
            first, second = work.tasks
            assert first is not second
            await eventually(lambda: server.state.tasks == {first})
            may_return.set()
            await eventually(first.done)
            client.writer.write(GET)
            await client.answer()
            assert work.tasks[2] is second
            client.cut()

    run(test())


def test_a_request_after_a_cancellation_that_was_swallowed_gets_a_task_of_its_own(run: Run) -> None:
    async def test() -> None:
        work = Recorded()

        async def stubborn(exchange: Exchange) -> None:
            if not work.tasks:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(5)
            await work(exchange)

        async with serving(stubborn) as server:
            client = await server.connect()
            for _ in range(2):
                client.writer.write(GET)
                await client.answer()
            first, second = work.tasks
            assert first is not second
            assert first.done()
            client.cut()

    run(test())


def test_a_task_that_waits_keeps_nothing_of_the_requests_before(run: Run) -> None:
    async def test() -> None:
        work = Keeping(echo)
        async with serving(work) as server:
            client = await server.connect()
            gc.disable()
            try:
                for _ in range(3):
                    client.writer.write(GET)
                    await client.answer()
                await eventually(lambda: not server.state.tasks)
                assert work.left == [False] * 3
            finally:
                gc.enable()
            client.cut()

    run(test())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_comes_once_the_waiting_task_is_cancelled_gets_another(run: Run, *, at_once: bool) -> None:
    async def test() -> None:
        work = Recorded()
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET)
            await client.answer()
            task = await idle_task(server, work)
            (connection,) = server.state.connections
            task.cancel()
            if not at_once:
                await eventually(task.cancelled)
            connection.data_received(GET)
            assert (await client.answer())[0] == 200
            assert work.tasks[1] is not task
            assert task.cancelled()
            client.writer.write(GET)
            assert (await client.answer())[0] == 200
            assert work.tasks[2] is work.tasks[1]
            client.cut()

    run(test())


def test_a_request_whose_task_is_cancelled_before_it_begins_ends_its_connection(run: Run) -> None:
    async def test() -> None:
        work = Recorded()
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET)
            await client.answer()
            task = await idle_task(server, work)
            (connection,) = server.state.connections
            connection.data_received(GET)
            assert server.state.tasks == {task}
            task.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")
            assert await client.rest() == b""
            assert len(work.tasks) == 1
            assert not server.state.tasks

    run(test())


def test_a_client_that_leaves_before_its_second_request_is_begun_has_it_cancelled(run: Run) -> None:
    async def test() -> None:
        left: list[bool] = []

        async def work(exchange: Exchange) -> None:
            try:
                if exchange.scope["path"] == "/long":
                    await asyncio.sleep(60)
                await echo(exchange)
            finally:
                left.append(exchange.left)

        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET)
            await client.answer()
            await eventually(lambda: not server.state.tasks)
            (connection,) = server.state.connections
            connection.data_received(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
            connection.transport.abort()
            await eventually(lambda: not server.state.tasks)
            assert left in ([False], [False, True])

    run(test())


def test_an_answer_that_cannot_be_written_ends_its_connection(run: Run) -> None:
    async def test() -> None:
        async def work(exchange: Exchange) -> None:
            (connection,) = server.state.connections
            with patch.object(connection, "transport", Broken(connection.transport)):
                await echo(exchange)

        class Broken:
            def __init__(self, transport: Any) -> None:
                self.close = transport.close

            def write(self, data: bytes) -> None:
                raise RuntimeError("the handler is closed")

        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET)
            assert await client.rest() == b""

    run(test())


def test_work_that_fails_behind_the_begin_of_its_answer_leaves_no_cycle(run: Run) -> None:
    async def failing(exchange: Exchange) -> None:
        await exchange.start_stream(200, ())
        raise RuntimeError("late")

    async def test() -> None:
        work = Keeping(failing)
        async with serving(work) as server:
            client = await server.connect()
            gc.disable()
            try:
                client.writer.write(GET)
                with capture_logs() as lines:
                    await client.rest()
                assert [line["event"] for line in lines] == ["internal_error"]
                lines.clear()
                await eventually(lambda: not server.state.connections)
                await eventually(lambda: work.left == [False], 1)
            finally:
                gc.enable()

    run(test())


def test_a_head_that_is_refused_leaves_no_cycle(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            await eventually(lambda: server.state.connections)
            kept = [weakref.ref(connection) for connection in server.state.connections]
            gc.disable()
            try:
                client.writer.write(GET * 20)
                await client.rest()
                await client.close()
                await eventually(lambda: kept[0]() is None, 1)
            finally:
                gc.enable()

    run(test())
