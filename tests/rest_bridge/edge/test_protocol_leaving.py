"""Clients that leave or read slowly, and servers that end."""

import asyncio
import gc
import socket
import weakref

import pytest
from structlog.testing import capture_logs

from rest_bridge.exchange import Exchange
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.serving import GET, LIMITS, POST, Phases, Run, echo, serving


@pytest.mark.parametrize("phase", ["body", "unary", "stream", "blocked"])
@pytest.mark.parametrize("way", ["cut", "close"])
def test_a_client_that_leaves_cancels_the_work_in_every_phase(run: Run, phase: str, way: str) -> None:
    async def test() -> None:
        work = Phases(phase)
        with capture_logs() as lines:
            async with serving(work) as server:
                client = await server.connect()
                client.writer.write(POST + (b"9" if phase == "body" else b"3") + b"\r\n\r\none")
                await asyncio.wait_for(work.reached.wait(), 5)
                left_at = asyncio.get_running_loop().time()
                if way == "cut":
                    client.cut()
                else:
                    await client.close()
                await eventually(lambda: work.cancelled_at)
                assert work.cancelled_at - left_at < 1
        assert [line["status"] for line in lines] == ([499] if phase == "body" else [])

    run(test())


def test_a_client_that_leaves_with_requests_in_its_pipeline_cancels_the_running_one(run: Run) -> None:
    async def test() -> None:
        work = Phases("unary")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write((POST + b"3\r\n\r\none") * 3)
            await asyncio.wait_for(work.reached.wait(), 5)
            client.cut()
            await eventually(lambda: work.cancelled_at)

    run(test())


def test_garbage_behind_a_running_request_ends_it(run: Run) -> None:
    async def test() -> None:
        work = Phases("stream")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\n\r\none")
            await asyncio.wait_for(work.reached.wait(), 5)
            client.writer.write(b"garbage \0\r\n\r\n")
            await eventually(lambda: work.cancelled_at)
            assert b"400" not in await client.rest()
            await client.close()

    run(test())


def test_garbage_in_a_body_is_answered_with_400_and_ends_the_work(run: Run) -> None:
    async def test() -> None:
        work = Phases("body")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            await asyncio.wait_for(work.reached.wait(), 5)
            client.writer.write(b"garbage\r\n")
            assert (await client.answer())[0] == 400
            await eventually(lambda: work.cancelled_at)
            await client.close()

    run(test())


def test_a_finished_answer_is_not_taken_for_a_client_that_left(run: Run) -> None:
    ended: list[bool] = []

    async def work(exchange: Exchange) -> None:
        await echo(exchange)
        await asyncio.sleep(0.05)
        ended.append(exchange.left)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET + GET)
            await client.answer()
            await client.answer()
            client.cut()
            await eventually(lambda: len(ended) == 2)
        assert ended == [False, False]

    run(test())


# ---- slow readers, the end of the server ----


def test_a_slow_reader_stops_the_writing(run: Run) -> None:
    sent: list[int] = []

    async def work(exchange: Exchange) -> None:
        await exchange.start_stream(200, ())
        for _ in range(10_000):
            await exchange.send(b"x" * 4096)
            sent.append(4096)
        await exchange.end()

    async def test() -> None:
        async with serving(work) as server:
            listener = socket.create_connection(("127.0.0.1", server.port))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.sendall(GET)
            before = -1
            while before != len(sent) or not sent:
                before = len(sent)
                await asyncio.sleep(0.1)
            (connection,) = server.state.connections
            transport = connection.transport
            assert transport.get_write_buffer_size() <= LIMITS.write_buffer_bytes + 4096 + 16
            assert sum(sent) < 40_960_000
            listener.close()

    run(test())


def test_an_answer_that_outlasts_the_grace_is_broken_off_without_a_traceback(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        work = Phases("stream")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\n\r\none")
            await asyncio.wait_for(work.reached.wait(), 5)
            for task in server.state.tasks:
                task.cancel()
            assert (await client.rest()).endswith(b"first\r\n")
            await client.close()
        assert not caplog.records

    run(test())


@pytest.mark.parametrize("path", [b"/", b"/long"])
def test_a_connection_that_is_over_is_held_by_nothing(run: Run, path: bytes) -> None:
    async def work(exchange: Exchange) -> None:
        if exchange.scope["path"] == "/long":
            await asyncio.sleep(60)
        await echo(exchange)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET)
            await client.answer()
            client.writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path + POST)
            if path == b"/":
                await client.answer()
            else:
                await eventually(lambda: server.state.tasks)
            (connection,) = [weakref.ref(each) for each in server.state.connections]
            gc.disable()
            try:
                client.cut()
                await eventually(lambda: connection() is None)
            finally:
                gc.enable()

    run(test())
