"""Bytes that are no HTTP request, or only the beginning of one, where OpenAI's API is served: told, and survived."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from gateway_core.config import Config
from rest_bridge.config import BridgeConfig
from tests.support.gateway import Gateway, running

BODY = b'{"model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
WHOLE = POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
SECONDS = 0.3
"""For which a head, and a pause of a body, may last here."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    """One gateway for all that is wrong, with little patience."""
    limits = BridgeConfig(
        request_body_bytes=64 * 1024,
        header_bytes=8 * 1024,
        header_seconds=SECONDS,
        body_idle_seconds=SECONDS,
        drain_seconds=1,
    )
    async with running(Config(), bridge=limits) as started:
        yield started


async def answer_to(gateway: Gateway, sent: bytes) -> tuple[int, dict[str, object]]:
    """Status and document of the first answer to some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(10):
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            return int(head.split()[1]), json.loads(await reader.readexactly(length))
    finally:
        writer.close()


async def assert_alive(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http:
        response = await http.post("/v1/chat/completions", content=BODY)
    assert response.status_code == 200


# What is sent, and the status of its answer.
REQUESTS: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"hello there\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "an unknown method": (b"BREW /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "no path": (b"POST HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "no version": (b"POST /v1/chat/completions\r\nhost: a\r\n\r\n", 400),
    "an unknown version": (b"POST /v1/chat/completions HTTP/9.9\r\nhost: a\r\n\r\n", 400),
    "a field without a colon": (POST + b"nonsense\r\n\r\n", 400),
    "a field's name with a space": (POST + b"x y: 1\r\ncontent-length: 0\r\n\r\n", 400),
    "a field with a control character": (POST + b"x: a\x00b\r\n\r\n", 400),
    "a length that is no number": (POST + b"content-length: ten\r\n\r\n", 400),
    "a negative length": (POST + b"content-length: -1\r\n\r\n", 400),
    "a length of too many digits": (POST + b"content-length: " + b"9" * 40 + b"\r\n\r\n", 400),
    "a length over the limit": (POST + b"content-length: 999999999\r\n\r\n", 413),
    "two lengths": (POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400),
    "a length and chunks": (POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk of no size": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of a wrong size": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of a size too large to count": (CHUNKED + b"f" * 17 + b"\r\n{}", 400),
    "a chunk over the limit": (CHUNKED + b"20000\r\n" + b" " * 0x20000 + b"\r\n0\r\n\r\n", 413),
    "a head too large": (POST + b"x: " + b"y" * 9000 + b"\r\n\r\n", 431),
    "a head of too many fields": (POST + b"x: y\r\n" * 3000 + b"\r\n", 431),
    "a target too long": (b"GET /v1/models/" + b"x" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
    "half a head": (POST + b"content-len", 408),
    "half a body": (WHOLE[:-5], 408),
    "half a chunk": (CHUNKED + b"40\r\n{", 408),
    "chunks without an end": (CHUNKED + b"2\r\n{}\r\n", 408),
    "a body that is no JSON, in chunks": (CHUNKED + b"2\r\n{]\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("sent", "status"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_malformed_request_has_its_status(gateway: Gateway, sent: bytes, status: int) -> None:
    found, document = await answer_to(gateway, sent)
    assert found == status
    assert list(document) == ["error"]
    error = document["error"]
    assert isinstance(error, dict)
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    await assert_alive(gateway)


@pytest.mark.parametrize("length", [1, 10, len(POST) - 1, len(POST), len(WHOLE) - len(BODY), len(WHOLE) - 1])
async def test_a_client_that_leaves_in_the_middle_of_its_request_harms_nobody(gateway: Gateway, length: int) -> None:
    for abort in (False, True):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(WHOLE[:length])
        await writer.drain()
        if abort:
            writer.transport.abort()
        else:
            writer.close()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        await assert_alive(gateway)


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_request_in_pieces_is_answered(gateway: Gateway, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for at in range(0, len(WHOLE), size):
        writer.write(WHOLE[at : at + size])
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_requests_one_after_the_other_on_one_connection_are_all_answered(gateway: Gateway) -> None:
    wrong = POST + b"content-length: 2\r\n\r\n{]"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(WHOLE + wrong + WHOLE)
    found = []
    async with asyncio.timeout(10):
        for _ in range(3):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            found.append(int(head.split()[1]))
            await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    writer.close()
    assert found == [200, 400, 200]
