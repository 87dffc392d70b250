"""How answers leave: heads, pieces, faults, and the end of the server."""

import asyncio
import re
from typing import cast

import pytest
from structlog.testing import capture_logs

from rest_bridge.cycle import Cycle, Owner
from rest_bridge.exchange import Exchange
from rest_bridge.head import answer_head, header_lines, target
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.serving import GET, Run, echo, serving


async def pieces(exchange: Exchange) -> None:
    await exchange.start_stream(200, [(b"content-type", b"text/plain")])
    for piece in (b"one", b"", b"two"):
        await exchange.send(piece)
    await exchange.end(b"three")


def test_an_answer_has_its_date_its_length_and_its_id_and_no_more(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            server.state.default_headers = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")]
            client = await server.connect()
            client.writer.write(GET)
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert re.fullmatch(
                rb"HTTP/1\.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-type: application/json\r\n"
                rb"content-length: 1\r\nx-request-id: [0-9a-f-]{36}\r\n\r\n",
                head,
            )
            server.state.default_headers = [(b"date", b"Sun, 06 Nov 1994 08:49:38 GMT")]
            assert await client.reader.readexactly(1) == b"/"
            client.writer.write(GET)
            assert (await client.answer())[1]["date"].endswith("38 GMT")
            await client.close()

    run(test())


def test_an_answer_in_pieces_is_chunked_and_the_connection_goes_on(run: Run) -> None:
    async def test() -> None:
        async with serving(pieces) as server:
            client = await server.connect()
            for _ in range(2):
                client.writer.write(GET)
                status, headers, body = await client.answer()
                assert (status, headers["transfer-encoding"], body) == (200, "chunked", b"onetwothree")
            await client.close()

    run(test())


def test_a_client_of_http_1_0_gets_pieces_as_they_are_until_the_end_of_the_connection(run: Run) -> None:
    async def test() -> None:
        async with serving(pieces) as server:
            client = await server.connect()
            client.writer.write(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            assert b"connection: close" in head
            assert b"transfer-encoding" not in head
            assert body == b"onetwothree"
            await client.close()

    run(test())


def test_a_head_request_for_an_answer_in_pieces_gets_its_head_only(run: Run) -> None:
    async def test() -> None:
        async with serving(pieces) as server:
            client = await server.connect()
            client.writer.write(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == b""
            await client.close()

    run(test())


def test_what_follows_a_request_that_asks_to_close_is_not_served(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(GET.replace(b"host", b"connection: close\r\nhost") + GET)
            assert (await client.rest()).count(b"HTTP/1.1 200") == 1
            await client.close()

    run(test())


def test_a_fault_outside_the_endpoint_is_logged_and_answered_without_detail(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        await exchange.respond(200, b"", [(b"x-header", b"a\r\nset-cookie: b")])

    async def test() -> None:
        with capture_logs() as lines:
            async with serving(work) as server:
                client = await server.connect()
                client.writer.write(GET)
                answered = await client.rest()
                assert answered.startswith(b"HTTP/1.1 500 ")
                assert b"set-cookie" not in answered
                await client.close()
        assert [line["event"] for line in lines if line["log_level"] == "error"]

    run(test())


def test_a_fault_in_the_middle_of_an_answer_breaks_it_off(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        await exchange.start_stream(200, ())
        await exchange.send(b"first")
        raise KeyError("inner")

    async def test() -> None:
        with capture_logs() as lines:
            async with serving(work) as server:
                client = await server.connect()
                client.writer.write(GET)
                assert (await client.rest()).endswith(b"5\r\nfirst\r\n")
                await client.close()
        assert [line["event"] for line in lines] == ["internal_error"]

    run(test())


def test_a_server_that_ends_closes_idle_connections_and_lets_answers_finish(run: Run) -> None:
    let = asyncio.Event()

    async def work(exchange: Exchange) -> None:
        if exchange.scope["path"] == "/slow":
            await let.wait()
        await echo(exchange)

    async def test() -> None:
        async with serving(work) as server:
            idle, busy, new = [await server.connect() for _ in range(3)]
            idle.writer.write(GET)
            await idle.answer()
            busy.writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            await eventually(lambda: server.state.tasks)
            for connection in list(server.state.connections):
                connection.shutdown()
            assert await idle.rest() == b""
            assert await new.rest() == b""
            let.set()
            status, headers, body = await busy.answer()
            assert (status, headers["connection"], body) == (200, "close", b"/slow")
            assert await busy.rest() == b""
            assert server.state.total_requests == 2

    run(test())


def test_a_connection_that_stands_idle_is_closed(run: Run) -> None:
    async def test() -> None:
        async with serving(keep_alive_seconds=1) as server:
            client = await server.connect()
            for _ in range(2):
                client.writer.write(GET)
                assert (await client.answer())[0] == 200
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_work_that_begins_after_its_client_has_left_hears_of_it_at_once() -> None:
    cycle = Cycle(cast(Owner, None), {}, {}, True)
    cycle.lose()
    heard: list[bool] = []
    cycle.watch(lambda: heard.append(True))
    cycle.watch(None)
    assert heard == [True]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (b"/", ("/", b"/", b"")),
        (b"/a%20b?x=%20#f", ("/a b", b"/a%20b", b"x=%20")),
        (b"/a?b?c", ("/a", b"/a", b"b?c")),
        (b"http://host:80/a?b", ("/a", b"/a", b"b")),
        (b"http://host", ("", b"", b"")),
        (b"/%C3%BC", ("/ü", b"/%C3%BC", b"")),
    ],
)
def test_a_target_is_a_path_and_a_query(url: bytes, expected: tuple[str, bytes, bytes]) -> None:
    assert target(url) == expected


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_field_is_one_line(value: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        header_lines([(b"x", value)])
    with pytest.raises(ValueError, match="line break"):
        header_lines([(value, b"x")])


def test_a_status_that_has_no_name_is_sent_without_one() -> None:
    assert answer_head(599) == b"HTTP/1.1 599 \r\n\r\n"
