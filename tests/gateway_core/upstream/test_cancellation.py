"""Tests of the caller's leaving: in every phase the provider's connection closes at once."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from tests.gateway_core.upstream.conftest import MakeClient, cancelled
from tests.support.certificate import server_context
from tests.support.upstream import (
    Answer,
    Received,
    Silence,
    Upstream,
    answer,
    head,
    json_answer,
    never_accepting,
    reached,
    sse_answer,
)

AT_ONCE = 0.1


async def closed_after(received: Received, asked_at: float) -> float:
    await asyncio.wait_for(received.closed.wait(), 1)
    assert received.closed_at is not None
    return received.closed_at - asked_at


async def test_leaving_while_a_listener_never_accepts_ends_at_once(make_client: MakeClient) -> None:
    loop = asyncio.get_running_loop()
    with never_accepting() as base_url:
        client = make_client(base_url)
        task = asyncio.ensure_future(client.open("POST", "/x", body=b"{}"))
        await asyncio.sleep(0.05)
        assert not task.done()
        asked_at = await cancelled(task)
        assert loop.time() - asked_at < AT_ONCE
        gc.collect()  # a socket left open is a warning, and a warning fails the test


async def test_leaving_while_tls_is_agreed_on_closes_the_connection(
    upstream: Upstream, make_client: MakeClient
) -> None:
    task = asyncio.ensure_future(
        make_client(upstream.base_url.replace("http:", "https:")).open("POST", "/x", body=b"{}")
    )
    await reached(lambda: upstream.connection_count == 1)
    asked_at = await cancelled(task)
    closed = upstream.connections[0].closed
    await asyncio.wait_for(closed.wait(), 1)
    assert (upstream.connections[0].closed_at or 0) - asked_at < AT_ONCE


@pytest.mark.parametrize("begun", [[Silence()], [b"HTTP/1.1 200 OK\r\nx:", Silence()]])
async def test_leaving_before_the_headers_closes_the_connection(
    upstream: Upstream, make_client: MakeClient, begun: Answer
) -> None:
    upstream.script(begun)
    task = asyncio.ensure_future(make_client(upstream.base_url).open("POST", "/x", body=b"{}"))
    received = await upstream.received()
    await asyncio.sleep(0.02)
    assert await closed_after(received, await cancelled(task)) < AT_ONCE


async def test_leaving_a_reused_connection_before_the_headers_closes_it(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(json_answer({}), [Silence()], json_answer({}))
    client = make_client(upstream.base_url)
    await (await client.open("POST", "/x", body=b"{}")).read()
    task = asyncio.ensure_future(client.open("POST", "/x", body=b"{}"))
    received = await upstream.received(2)
    assert await closed_after(received, await cancelled(task)) < AT_ONCE
    assert await (await client.open("POST", "/x", body=b"{}")).read() == b"{}"


BODIES: list[Answer] = [
    sse_answer([{"a": 1}, Silence()]),
    sse_answer([{"a": 1}, Silence()], framing="close"),
    sse_answer([{"a": 1}, Silence()], gzip=True),
    [head(200, {"content-length": "100"}), b"12345", Silence()],
]


@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("body", BODIES)
async def test_leaving_within_the_body_closes_the_connection(
    upstream: Upstream, make_client: MakeClient, body: Answer, unary: bool
) -> None:
    upstream.script(body)
    client = make_client(upstream.base_url)
    begun = asyncio.Event()

    async def ask() -> None:
        opened = await client.open("POST", "/x", body=b"{}")
        if unary:
            begun.set()
            await opened.read()
        async for _ in opened.pieces():
            begun.set()

    task = asyncio.ensure_future(ask())
    await begun.wait()
    await asyncio.sleep(0.02)
    assert await closed_after(upstream.requests[0], await cancelled(task)) < AT_ONCE


@asynccontextmanager
async def late_reader(first: bytes, go: asyncio.Event) -> AsyncIterator[tuple[str, asyncio.Future[int]]]:
    """A host that writes some bytes, reads once it may, and then tells how many bytes came; its base URL."""
    counted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count = 0
        writer.write(first)
        await go.wait()
        with suppress(ConnectionResetError):
            while piece := await reader.read(1_000_000):
                count += len(piece)
        writer.transport.abort()
        counted.set_result(count)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", counted


async def test_leaving_while_the_request_is_sent_sends_no_more_of_it(make_client: MakeClient) -> None:
    go, size = asyncio.Event(), 64_000_000
    async with late_reader(b"", go) as (base_url, counted):
        task = asyncio.ensure_future(make_client(base_url).open("POST", "/x", body=bytes(size)))
        await asyncio.sleep(0.1)
        await cancelled(task)
        go.set()
        assert await asyncio.wait_for(counted, 5) < size


async def test_an_answer_closed_while_the_request_is_sent_sends_no_more_of_it(make_client: MakeClient) -> None:
    go, size = asyncio.Event(), 64_000_000
    async with late_reader(head(200, {"content-length": "9"}), go) as (base_url, counted):
        opened = await make_client(base_url).open("POST", "/x", body=bytes(size))
        opened.abort()
        go.set()
        assert await asyncio.wait_for(counted, 5) < size


async def test_leaving_closes_a_connection_that_speaks_tls(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    async with Upstream(tls=context) as upstream:
        upstream.script([Silence()], sse_answer([{"a": 1}, Silence()]))
        client = make_client(upstream.base_url)
        task = asyncio.ensure_future(client.open("POST", "/x", body=b"{}"))
        assert await closed_after(await upstream.received(), await cancelled(task)) < AT_ONCE
        opened = await client.open("POST", "/x", body=b"{}")
        reading = asyncio.ensure_future(opened.read())
        await asyncio.sleep(0.02)
        assert await closed_after(upstream.requests[1], await cancelled(reading)) < AT_ONCE


class SilentPeer(asyncio.Protocol):
    """Speaks TLS, but does not answer when TLS takes leave."""

    def __init__(self, context: ssl.SSLContext, answer: bytes) -> None:
        self.asked, self.closed = asyncio.Event(), asyncio.Event()
        self._answer = answer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            self._tls.do_handshake()
            if self._tls.read() and not self.asked.is_set():
                self._tls.write(self._answer or b"HTTP/1.1 200 OK\r\n")
                self.asked.set()
        self._transport.write(self._outgoing.read())

    def connection_lost(self, _: Exception | None) -> None:
        self.closed.set()


@pytest.mark.parametrize("opened", [False, True])
async def test_leaving_does_not_wait_for_tls_to_take_leave(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: bool
) -> None:
    context = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    peer = SilentPeer(context, head(200, {"content-length": "9"}) if opened else b"")
    server = await asyncio.get_running_loop().create_server(lambda: peer, "127.0.0.1", 0)
    async with server:
        client = make_client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        task = asyncio.ensure_future(client.open("POST", "/x", body=b"{}"))
        await peer.asked.wait()
        if opened:
            (await task).abort()
        else:
            await cancelled(task)
        await asyncio.wait_for(peer.closed.wait(), AT_ONCE)


async def test_leaving_while_others_read_harms_nobody(upstream: Upstream, make_client: MakeClient) -> None:
    go = asyncio.Event()
    upstream.script(lambda received: [Silence()] if received.path == "/v1/silent" else answer([b"ok"]))
    client = make_client(upstream.base_url)

    async def ask(path: str) -> bytes:
        return await (await client.open("POST", path, body=b"{}")).read()

    silent = [asyncio.ensure_future(ask("/silent")) for _ in range(20)]
    await upstream.received(20)
    for task in silent:
        task.cancel()
    assert await asyncio.gather(*(ask("/x") for _ in range(20))) == [b"ok"] * 20
    await asyncio.wait(silent)
    go.set()
    await reached(lambda: all(received.closed.is_set() for received in upstream.requests[:20]))
