"""What a client that speaks HTTP/1 to the gRPC listener is told, and that those of HTTP/2 are told nothing of it."""

import asyncio

import httpx
import pytest

from gateway_core.grpc_server import frames
from gateway_core.grpc_server.frames import frame
from tests.gateway_core.grpc_server.raw import Client, Servicer, serving, text_of
from tests.support.upstream import reached

SECONDS = 10
TEXT = "This is the gRPC listener (HTTP/2); the REST API is on the other port.\n"


async def answered(port: int, *pieces: bytes) -> bytes:
    """All that a connection gets on which these pieces are sent, one after another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(SECONDS):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)  # so that each is a write of its own
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "OPTIONS"])
async def test_a_client_of_http_1_is_told_where_it_is(servicer: Servicer, method: str) -> None:
    server, port = await serving(servicer)
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as http:
        response = await http.request(method, f"http://127.0.0.1:{port}/v1/models", content=b"x" * 100_000)
    assert (response.status_code, response.text) == (400, TEXT)
    assert (response.headers["connection"], response.headers["content-type"]) == ("close", "text/plain")
    await server.stop(None)


async def test_the_answer_to_head_has_no_body(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    told = await answered(port, b"H", b"EA", b"D / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert told.endswith(b"\r\n\r\n")
    await server.stop(None)


async def test_a_request_whose_first_letter_is_also_that_of_http_2_may_come_in_pieces(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    told = await answered(port, b"P", b"OS", b"T / HTTP/1.1\r\n")
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.endswith(TEXT.encode())
    await server.stop(None)


async def test_an_upgrade_to_http_2_is_refused_as_a_request_is(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    asked = (
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n"
    )
    assert (await answered(port, asked)).startswith(b"HTTP/1.1 400 ")
    await server.stop(None)


async def test_what_is_neither_is_told_in_frames_and_the_first_of_them_is_settings(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    one = Client(reader, writer)
    one.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    found = await one.until(lambda came: came.kind == frames.GOAWAY)
    assert [came.kind for came in found] == [frames.SETTINGS, frames.WINDOW_UPDATE, frames.GOAWAY]
    assert frames.TWO_NUMBERS.unpack_from(found[-1].payload)[1] == frames.PROTOCOL_ERROR
    writer.close()
    await server.stop(None)


async def test_a_client_that_says_that_it_speaks_http_2_and_no_more_is_sent_the_settings(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    one = Client(reader, writer)
    for octet in frames.PREFACE:
        one.send(bytes((octet,)))
        await writer.drain()
        await asyncio.sleep(0)
    first = await one.frame()
    assert first is not None
    assert (first.kind, first.flags) == (frames.SETTINGS, 0)
    one.send(frame(frames.SETTINGS, 0, 0), one.ask(1, "well"))
    _, body, _ = await one.answer(1)
    assert text_of(body) == "well"
    writer.close()
    await server.stop(None)


async def test_a_server_that_ends_tells_a_client_that_has_said_nothing_in_frames(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    one = Client(reader, writer)
    await reached(lambda: bool(server._connections))
    ending = asyncio.create_task(server.stop(SECONDS))
    found = await one.until(lambda came: came.kind == frames.GOAWAY)
    assert found[0].kind == frames.SETTINGS
    one.send(b"GET / HTTP/1.1\r\n\r\n")
    rest = await one.until(lambda came: came.kind == frames.GOAWAY)
    assert frames.TWO_NUMBERS.unpack_from(rest[-1].payload)[1] == frames.PROTOCOL_ERROR
    writer.close()
    await ending
