"""Tests of the request on the wire: its length is always told, and nobody's text becomes another header."""

import asyncio

import pytest

from tests.gateway_core.upstream.conftest import MakeClient
from tests.support.upstream import Upstream, head, json_answer


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("GET", None, None), ("HEAD", None, None), ("POST", None, "0"), ("POST", b"", "0"), ("POST", b"{}", "2")],
)
async def test_a_request_tells_the_length_of_its_body(
    upstream: Upstream, make_client: MakeClient, method: str, body: bytes | None, length: str | None
) -> None:
    upstream.script(json_answer({}))
    await (await make_client(upstream.base_url).open(method, "/x", body=body)).read()
    received = upstream.requests[0]
    assert received.headers.get("content-length") == length
    assert received.headers["host"] == f"127.0.0.1:{upstream.port}"
    assert "transfer-encoding" not in received.headers


async def test_headers_of_one_request_are_not_sent_with_the_next(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url)
    for headers in ({"x-once": "1"}, None):
        await (await client.open("POST", "/x", body=b"{}", headers=headers)).read()
    assert [received.headers.get("x-once") for received in upstream.requests] == ["1", None]


@pytest.mark.parametrize("path", ["/x\r\nx: y", "/x HTTP/1.1", "/é", "/x\x00"])
async def test_a_path_that_would_break_the_request_is_refused(
    upstream: Upstream, make_client: MakeClient, path: str
) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        await make_client(upstream.base_url).open("POST", path, body=b"{}")
    assert upstream.connection_count == 0


@pytest.mark.parametrize(
    "headers",
    [{"x": "a\r\nb: c"}, {"x\r\nb": "c"}, {"x y": "z"}, {"": "z"}, {"Content-Length": "1"}, {"transfer-encoding": "x"}],
)
async def test_a_header_that_would_break_the_request_is_refused(
    upstream: Upstream, make_client: MakeClient, headers: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="header"):
        await make_client(upstream.base_url).open("POST", "/x", body=b"{}", headers=headers)
    with pytest.raises(ValueError, match="header"):
        make_client(upstream.base_url, headers)
    assert upstream.connection_count == 0


async def test_the_paths_that_are_remembered_are_bounded(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url)
    for number in range(200):
        await (await client.open("GET", f"/{number}")).read()
    assert [received.path for received in upstream.requests] == [f"/v1/{number}" for number in range(200)]
    assert len(client._heads._heads) <= 64


async def test_a_body_is_sent_as_the_host_takes_it(make_client: MakeClient) -> None:
    body = bytes(range(256)) * 4096 * 16
    got = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        while got < len(body):
            piece = await reader.read(1_000_000)
            assert piece == body[got : got + len(piece)]
            got += len(piece)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        client = make_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        opened = await client.open("POST", "/x", body=body)
        assert (await opened.read(), got) == (b"{}", len(body))


async def test_no_more_of_a_body_is_sent_once_it_is_refused(make_client: MakeClient) -> None:
    size = 20_000_000
    got = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(413, {"content-length": "9"}) + b"too ")
        await opened.wait()
        while True:
            try:
                got += len(await asyncio.wait_for(reader.read(1_000_000), 0.05))
            except TimeoutError:
                break
        writer.write(b"large")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    opened = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        client = make_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        answer = await client.open("POST", "/x", body=bytes(size))
        opened.set()
        assert (answer.status, await answer.read()) == (413, b"too large")
        assert got < size
