"""What one client may send, and how long it may take."""

import asyncio

import orjson
import pytest

from rest_bridge.config import BridgeConfig
from rest_bridge.exchange import Exchange
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.serving import GET, LIMITS, POST, Run, echo, serving

# ---- limits on heads ----


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na\0b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\0c\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
    ],
)
def test_what_is_no_http_is_answered_with_400_and_closed(run: Run, request_bytes: bytes) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(request_bytes)
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (400, "close")
            assert orjson.loads(body)["error"]["message"]
            assert await client.rest() == b""
            await client.close()
            assert (await server.ask(GET))[0] == 200

    run(test())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\na: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"x" * 9000 + b": b\r\n\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 300_000, 431),
        (b"GET /" + b"x" * 300_000, 414),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 8000 + b"\r\n\r\n", 200),
    ],
)
@pytest.mark.parametrize("piece", [1000, 1_000_000])
def test_a_head_is_bounded_however_it_comes(run: Run, head: bytes, status: int, piece: int) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            for start in range(0, len(head), piece):
                client.writer.write(head[start : start + piece])
                if start < 20_000:
                    await asyncio.sleep(0.001)
            assert (await client.answer())[0] == status
            await client.close()

    run(test())


def test_trailers_and_chunk_extensions_are_bounded(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
            assert (await server.ask(head + b"0\r\na: ", b"x" * 5000, b"x" * 5000))[0] == 400
            assert (await server.ask(head, b"1;", b"x" * 5000, b"x" * 5000))[0] == 400
            assert (await server.ask(b"\r\n", b"\r\n" * 5000))[0] == 431

    run(test())


def test_a_large_body_with_a_pipelined_head_behind_it_is_no_large_head(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            body = b"x" * 100_000
            client.writer.write(POST + b"100000\r\n\r\n" + body + GET[:10])
            assert (await client.answer())[1]["x-length"] == "100000"
            client.writer.write(GET[10:])
            assert (await client.answer())[0] == 200
            await client.close()

    run(test())


# ---- limits on time and number ----


def test_a_slow_head_is_answered_with_408(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(b"GET / HT")
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_a_head_that_trickles_after_an_answer_is_ended_too(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(GET)
            assert (await client.answer())[0] == 200

            async def trickle() -> None:
                for byte in GET[:-2] * 100:
                    client.writer.write(bytes([byte]))
                    await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            assert (await client.answer())[0] == 408
            trickling.cancel()
            await client.close()

    run(test())


def test_a_connection_that_says_nothing_is_closed_without_a_word(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_a_head_begun_behind_a_long_answer_does_not_break_it_off(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        if exchange.scope["path"] == "/long":
            await asyncio.sleep(0.8)
        await echo(exchange)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(b"GET /long HTTP/1.1\r\n\r\n" + GET[:3])
            await asyncio.sleep(0.01)
            client.writer.write(GET[3:6])
            assert (await client.answer())[2] == b"/long"
            client.writer.write(GET[6:])
            assert (await client.answer())[2] == b"/"
            await client.close()

    run(test())


def test_a_slow_body_is_answered_with_408(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(POST + b"10\r\n\r\nhalf")
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert b"in time" in body
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_one_address_has_a_bounded_number_of_connections(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            clients = [await server.connect() for _ in range(LIMITS.connections_per_client)]
            for client in clients:
                client.writer.write(GET)
                assert (await client.answer())[0] == 200
            other = await server.connect()
            status, headers, _ = await other.answer()
            assert (status, headers["connection"]) == (429, "close")
            await other.close()
            await clients.pop().close()
            await eventually(lambda: server.protocol.clients["127.0.0.1"] < LIMITS.connections_per_client)
            assert (await server.ask(GET))[0] == 200
            for client in clients:
                await client.close()

    run(test())


# ---- answers before the body is there ----


@pytest.mark.parametrize("close", [False, True])
def test_a_body_over_the_limit_is_answered_while_the_client_still_sends(run: Run, close: bool) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            connection = b"connection: close\r\n" if close else b""
            client.writer.write(b"POST / HTTP/1.1\r\n" + connection + b"content-length: 300000\r\n\r\n")
            for _ in range(10):
                client.writer.write(b"x" * 15_000)
                await client.writer.drain()
                await asyncio.sleep(0.002)
            assert (await client.answer())[0] == 413
            client.writer.write(b"x" * 150_000)
            if not close:
                client.writer.write(GET)
                assert (await client.answer())[2] == b"/"
            await client.close()

    run(test())


def test_a_chunked_body_over_the_limit_is_answered_with_413(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(12):
                client.writer.write(b"5000\r\n" + b"x" * 0x5000 + b"\r\n")
            assert (await client.answer())[0] == 413
            await client.close()

    run(test())


@pytest.mark.parametrize("close", [False, True])
def test_an_unread_body_is_awaited_for_a_while_only(run: Run, close: bool) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            connection = b"connection: close\r\n" if close else b""
            client.writer.write(b"POST / HTTP/1.1\r\n" + connection + b"content-length: 300000\r\n\r\n")
            assert (await client.answer())[0] == 413

            async def trickle() -> None:
                while True:
                    client.writer.write(b"x")
                    await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            await eventually(lambda: not server.state.connections, 3)
            trickling.cancel()
            await client.close()

    run(test())


def test_an_endless_unread_body_ends_the_connection(run: Run) -> None:
    async def test() -> None:
        slow = BridgeConfig(request_body_bytes=100_000, header_seconds=60)
        async with serving(limits=slow) as server:
            client = await server.connect()
            client.writer.write(POST + b"1000000000000\r\n\r\n")
            assert (await client.answer())[0] == 413

            async def sends_for_ever() -> None:
                while True:
                    client.writer.write(b"x" * 50_000)
                    await client.writer.drain()
                    await asyncio.sleep(0.001)

            with pytest.raises(ConnectionError):
                await sends_for_ever()
            await client.close()

    run(test())
