"""Connections of a server that retires, because another process goes on at the same socket."""

import asyncio

from rest_bridge.exchange import Exchange
from rest_bridge.protocol import LimitedHttpProtocol
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.serving import GET, POST, Run, Serving, echo, serving

LONG_SECONDS = 30.0
SHORT_SECONDS = 0.05


def retire(server: Serving, idle_seconds: float = LONG_SECONDS) -> None:
    for connection in list(server.state.connections):
        assert isinstance(connection, LimitedHttpProtocol)
        connection.retire(idle_seconds)


def test_an_idle_connection_has_one_more_answer(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(GET)
            status, headers, _ = await client.answer()
            assert (status, headers.get("connection")) == (200, None)
            retire(server)
            client.writer.write(GET)
            status, headers, _ = await client.answer()
            assert (status, headers.get("connection")) == (200, "close")
            assert await client.rest() == b""

    run(test())


def test_a_connection_that_has_asked_nothing_yet_has_an_answer(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            await eventually(lambda: server.state.connections)
            retire(server)
            client.writer.write(GET)
            status, headers, _ = await client.answer()
            assert (status, headers.get("connection")) == (200, "close")

    run(test())


def test_an_answer_that_is_under_way_is_the_last(run: Run) -> None:
    async def test() -> None:
        go_on = asyncio.Event()

        async def work(exchange: Exchange) -> None:
            await go_on.wait()
            await echo(exchange)

        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\n\r\none")
            await eventually(lambda: server.state.tasks)
            retire(server, SHORT_SECONDS)
            await asyncio.sleep(2 * SHORT_SECONDS)
            go_on.set()
            status, headers, body = await client.answer()
            assert (status, headers.get("connection"), body) == (200, "close", b"one")
            assert await client.rest() == b""

    run(test())


async def half(exchange: Exchange, go_on: asyncio.Event) -> None:
    await exchange.start_stream(200, [(b"content-type", b"text/plain")])
    await exchange.send(b"one")
    await go_on.wait()
    await exchange.end(b"two")


def test_an_answer_that_has_promised_to_go_on_is_not_the_last(run: Run) -> None:
    async def test() -> None:
        go_on = asyncio.Event()
        async with serving(lambda exchange: half(exchange, go_on)) as server:
            client = await server.connect()
            client.writer.write(GET)
            await eventually(lambda: server.state.tasks)
            head = await asyncio.wait_for(client.reader.readuntil(b"one"), 5)
            assert b"connection: close" not in head
            retire(server)
            go_on.set()
            await asyncio.wait_for(client.reader.readuntil(b"0\r\n\r\n"), 5)
            client.writer.write(GET)
            status, headers, body = await client.answer()
            assert (status, headers.get("connection"), body) == (200, "close", b"onetwo")
            assert await client.rest() == b""

    run(test())


def test_a_connection_that_stays_idle_behind_such_an_answer_is_closed(run: Run) -> None:
    async def test() -> None:
        go_on = asyncio.Event()
        async with serving(lambda exchange: half(exchange, go_on)) as server:
            client = await server.connect()
            client.writer.write(GET)
            await asyncio.wait_for(client.reader.readuntil(b"one"), 5)
            retire(server, SHORT_SECONDS)
            go_on.set()
            assert (await client.rest()).endswith(b"0\r\n\r\n")

    run(test())


def test_a_request_that_has_begun_to_arrive_is_answered(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(GET[:10])
            await asyncio.sleep(SHORT_SECONDS)
            retire(server, 0.001)
            await asyncio.sleep(SHORT_SECONDS)
            client.writer.write(GET[10:])
            status, headers, _ = await client.answer()
            assert (status, headers.get("connection")) == (200, "close")

    run(test())


def test_a_connection_that_stays_idle_is_closed(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(GET)
            await client.answer()
            retire(server, SHORT_SECONDS)
            assert await client.rest() == b""

    run(test())
