"""Tests of where an answer ends: what is cut, doubled or smuggled is never taken for an answer."""

import asyncio

import pytest

from gateway_core import errors
from gateway_core.upstream.http import Answer as Opened
from tests.gateway_core.upstream.conftest import MakeClient
from tests.support.upstream import (
    LAST_CHUNK,
    Answer,
    Cut,
    Received,
    Silence,
    Upstream,
    chunk,
    head,
    json_answer,
    reached,
)

CHUNKED = head(200, {"transfer-encoding": "chunked"})

WHOLE: dict[str, bytes] = {
    "length": head(200, {"content-length": "6"}) + b"abcdef",
    "chunked": CHUNKED + chunk(b"abc") + chunk(b"def") + LAST_CHUNK,
    "informed": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    + head(200, {"content-length": "6"})
    + b"abcdef",
    "with trailers": CHUNKED + b"6;ext=1\r\nabcdef\r\n0\r\nx-sum: 1\r\n\r\n",
    "old": b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nabcdef",
}


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE.keys())
async def test_an_answer_is_read_wherever_it_is_cut(upstream: Upstream, make_client: MakeClient, whole: bytes) -> None:
    def cut(received: Received) -> Answer:
        at = int(received.path.rpartition("/")[2])
        return [whole[:at], whole[at:]] if at else [whole[place : place + 1] for place in range(len(whole))]

    upstream.script(cut)
    client = make_client(upstream.base_url)

    async def ask(at: int) -> bytes:
        return await (await client.open("POST", f"/{at}", body=b"{}")).read()

    assert await asyncio.gather(*map(ask, range(len(whole)))) == [b"abcdef"] * len(whole)


@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE.keys())
async def test_an_answer_that_is_cut_off_anywhere_is_broken(
    upstream: Upstream, make_client: MakeClient, whole: bytes, unary: bool
) -> None:
    client = make_client(upstream.base_url)
    for at in range(1, len(whole)):
        upstream.script([whole[:at], Cut()])
        with pytest.raises(errors.ProviderBroken):
            await body_of(await client.open("POST", "/x", body=b"{}"), unary=unary)


async def body_of(opened: Opened, *, unary: bool) -> bytes:
    return await opened.read() if unary else b"".join([piece async for piece in opened.pieces()])


SMUGGLED: dict[str, bytes] = {
    "two lengths": head(200, {"content-length": "6", "transfer-encoding": "chunked"}) + b"0\r\n\r\n",
    "coding unknown": head(200, {"transfer-encoding": "gzip"}) + b"abcdef",
    "coding doubled": head(200, {"transfer-encoding": "gzip, chunked"}) + b"0\r\n\r\n",
    "upgrade": head(101, {"connection": "upgrade", "upgrade": "h2c"}),
    "upgrade without words": head(101),
    "length with a sign": head(200, {"content-length": "+6"}) + b"abcdef",
    "continued header": b"HTTP/1.1 200 OK\r\nx: 1\r\n 2\r\ncontent-length: 0\r\n\r\n",
    "endless hints": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3000,
    "endless head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
}


@pytest.mark.parametrize("smuggled", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_a_head_that_can_be_read_two_ways_is_broken(
    upstream: Upstream, make_client: MakeClient, smuggled: bytes
) -> None:
    upstream.script([smuggled, Silence()])
    with pytest.raises(errors.ProviderBroken):
        await asyncio.wait_for(make_client(upstream.base_url).open("POST", "/x", body=b"{}"), 2)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


ENDLESS: dict[str, Answer] = {
    "extension": [CHUNKED, b"1;" + b"x" * 200_000, Silence()],
    "trailer": [CHUNKED, b"0\r\nx: " + b"y" * 200_000, Silence()],
    "trailers": [CHUNKED, b"0\r\n", b"x: y\r\n" * 20_000, Silence()],
}


@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_stands_beside_a_body_is_bounded(
    upstream: Upstream, make_client: MakeClient, endless: Answer, unary: bool
) -> None:
    upstream.script(endless)
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    with pytest.raises(errors.ProviderBroken):
        await asyncio.wait_for(body_of(opened, unary=unary), 2)


MORE = [b"more", b"HTTP/1.1 20", head(500, {"content-length": "0"}), head(200, {"content-length": "5"}) + b"false"]


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("together", [True, False])
async def test_what_follows_an_answer_is_not_the_next_answer(
    upstream: Upstream, make_client: MakeClient, more: bytes, together: bool
) -> None:
    whole = WHOLE["length"]
    upstream.script([whole + more] if together else [whole, more], json_answer({"n": 2}))
    client = make_client(upstream.base_url)
    opened = await client.open("POST", "/x", body=b"{}")
    assert (opened.status, await opened.read()) == (200, b"abcdef")
    await asyncio.wait_for(upstream.connections[0].closed.wait(), 1)
    assert await (await client.open("POST", "/x", body=b"{}")).read() == b'{"n": 2}'
    assert upstream.connection_count == 2


@pytest.mark.parametrize(
    "said",
    [
        head(200, {"connection": "close", "content-length": "2"}) + b"{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_a_connection_that_the_host_will_not_keep_is_closed(
    upstream: Upstream, make_client: MakeClient, said: bytes
) -> None:
    upstream.script([said])
    client = make_client(upstream.base_url)
    for _ in range(2):
        assert await (await client.open("POST", "/x", body=b"{}")).read() == b"{}"
    assert upstream.connection_count == 2
    await reached(lambda: all(connection.closed.is_set() for connection in upstream.connections))


async def test_trailers_are_no_headers_of_the_next_answer(upstream: Upstream, make_client: MakeClient) -> None:
    trailers = b"0\r\nx-sum: 1\r\ncontent-encoding: gzip\r\n\r\n"
    upstream.script([CHUNKED + chunk(b"abc") + trailers], json_answer({"n": 2}, headers={"X-One": "a", "x-one": "b"}))
    client = make_client(upstream.base_url)
    first = await client.open("POST", "/x", body=b"{}")
    assert (await first.read(), dict(first.headers)) == (b"abc", {"transfer-encoding": "chunked"})
    second = await client.open("POST", "/x", body=b"{}")
    assert (await second.read(), "x-sum" in second.headers) == (b'{"n": 2}', False)
    assert (second.header(b"x-one"), second.headers["X-One"], second.header(b"x-two")) == ("a", "a", "")
    assert upstream.connection_count == 1


async def test_no_more_headers_are_read_than_a_host_needs(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(*(json_answer({}, headers={f"x-{n}": "y" for n in range(count)}) for count in (450, 501)))
    client = make_client(upstream.base_url)
    assert len((await client.open("POST", "/x", body=b"{}")).headers) >= 450
    with pytest.raises(errors.ProviderBroken):
        await client.open("POST", "/x", body=b"{}")


async def test_an_answer_to_head_has_no_body(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([head(200, {"content-length": "100"})], [CHUNKED])
    client = make_client(upstream.base_url)
    for _ in range(2):
        opened = await client.open("HEAD", "/x")
        assert (opened.status, await opened.read()) == (200, b"")


async def test_a_refusal_that_comes_before_the_request_is_read(make_client: MakeClient) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(503, {"content-length": "4", "connection": "close"}) + b"busy")
        await writer.drain()
        await ended.wait()
        writer.close()
        await writer.wait_closed()

    ended = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        client = make_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(20):
            opened = await client.open("POST", "/x", body=b"{}")
            assert (opened.status, await opened.read()) == (503, b"busy")
        ended.set()
