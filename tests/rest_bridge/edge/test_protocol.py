"""Plain service over HTTP/1.1."""

import asyncio

import pytest

from rest_bridge.exchange import Exchange
from tests.rest_bridge.edge.serving import GET, POST, Run, echo, serving


def test_requests_follow_each_other_on_one_connection(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            for text in (b"one", b"two"):
                client.writer.write(POST + b"3\r\n\r\n" + text)
                assert (await client.answer())[2] == text
            client.writer.write(b"HEAD /path HTTP/1.1\r\n\r\n" + GET)
            assert b"content-length: 5" in await client.reader.readuntil(b"\r\n\r\n")
            assert (await client.answer())[2] == b"/"
            await client.close()

    run(test())


def test_a_request_may_come_byte_by_byte(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            for byte in POST + b"3\r\n\r\none":
                client.writer.write(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.answer())[2] == b"one"
            await client.close()

    run(test())


def test_a_chunked_body_is_put_together_and_its_trailers_are_no_headers(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        body = await exchange.body()
        names = b",".join(name for name, _ in exchange.scope["headers"])
        await exchange.respond(200, body + b"|" + names)

    async def test() -> None:
        async with serving(work) as server:
            head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            body = b"3\r\none\r\n4;ext=1\r\nmore\r\n0\r\nauthorization: Bearer x\r\n\r\n"
            answered = await server.ask(head, body)
            assert answered[2] == b"onemore|host,transfer-encoding"
            assert (await server.ask(head + body))[2] == answered[2]

    run(test())


def test_a_client_that_expects_100_gets_it_before_it_sends(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\nexpect: 100-continue\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.writer.write(b"one")
            assert (await client.answer())[2] == b"one"
            await client.close()

    run(test())


def test_a_client_that_expects_100_for_too_much_gets_413_instead(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(POST + b"300000\r\nexpect: 100-continue\r\n\r\n")
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (413, "close")
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_pipelined_requests_are_answered_in_their_order(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        path = str(exchange.scope["path"])
        await asyncio.sleep(0.05 if path == "/0" else 0)
        await echo(exchange)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            requests = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(6)]
            client.writer.write(b"".join(requests[:3]))
            await asyncio.sleep(0.01)
            client.writer.write(b"".join(requests[3:]))
            assert [(await client.answer())[2] for _ in requests] == [b"/%d" % number for number in range(6)]
            await client.close()

    run(test())


def test_too_many_pipelined_requests_close_the_connection(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET * 1000)
            assert await client.rest() == b""
            await client.close()

    run(test())


@pytest.mark.parametrize("upgrade", [b"Upgrade: h2c", b"upgrade: websocket", b"UPGRADE: anything", b"uPgRaDe: x"])
def test_an_offered_upgrade_is_passed_over_and_the_body_kept(run: Run, upgrade: bytes) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            offer = b"\r\nConnection: Upgrade, HTTP2-Settings\r\n" + upgrade + b"\r\nHTTP2-Settings: AAEAAEAA\r\n\r\n"
            for _ in range(2):
                client.writer.write(POST + b"3" + offer)
                await asyncio.sleep(0.01)
                client.writer.write(b"one")
                assert (await client.answer())[2] == b"one"
            await client.close()

    run(test())


def test_an_upgrade_offered_in_pieces_never_makes_a_request_of_its_body(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            body = b"GET /smuggled HTTP/1.1\r\n\r\n"
            client.writer.write(POST + b"%d\r\nConnection: upgrade\r\nUp" % len(body))
            await asyncio.sleep(0.02)
            client.writer.write(b"grade: h2c\r\n\r\n")
            await asyncio.sleep(0.02)
            client.writer.write(body)
            assert b"smuggled" not in await client.rest()
            await client.close()

    run(test())
