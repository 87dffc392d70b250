"""Tests of reaching a host: several addresses, a tunnel through a proxy, TLS to the proxy itself."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway_core import errors
from gateway_core.upstream import dial
from gateway_core.upstream.origin import Origin, base
from tests.gateway_core.upstream.conftest import KEY, MakeClient, cancelled
from tests.support.certificate import server_context
from tests.support.upstream import Silence, Upstream, head, json_answer, never_accepting, reached, refusing

V4, V6 = socket.AF_INET, socket.AF_INET6


def port_of(base_url: str) -> int:
    port = urlsplit(base_url).port
    assert port is not None
    return port


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Origin]]:
    """Makes every name resolve to ports of this machine; returns the names that were asked for."""

    def set_ports(*base_urls: str) -> list[Origin]:
        asked: list[Origin] = []

        async def looked_up(origin: Origin) -> list[dial.Address]:
            asked.append(origin)
            return [(V4, ("127.0.0.1", port_of(base_url))) for base_url in base_urls]

        monkeypatch.setattr(dial, "looked_up", looked_up)
        return asked

    return set_ports


def test_families_take_turns_and_the_systems_choice_comes_first() -> None:
    six = [(V6, (f"::{number}", 1, 0, 0)) for number in range(3)]
    four = [(V4, (f"127.0.0.{number}", 1)) for number in range(2)]
    assert dial.by_turns([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert dial.by_turns([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]
    assert dial.by_turns([]) == []


async def test_an_address_that_is_silent_does_not_keep_the_next_waiting(
    upstream: Upstream, make_client: MakeClient, resolve: Callable[..., list[Origin]]
) -> None:
    upstream.script(json_answer({"a": 1}))
    with never_accepting() as silent:
        resolve(silent, upstream.base_url)
        client = make_client("http://vendor.invalid/v1", connect=5)
        opened = await asyncio.wait_for(client.open("POST", "/x", body=b"{}"), 2)
        assert await opened.read() == b'{"a": 1}'
        assert upstream.requests[0].headers["host"] == "vendor.invalid"


async def test_an_address_that_refuses_is_passed_over(
    upstream: Upstream, make_client: MakeClient, resolve: Callable[..., list[Origin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_SECONDS", 60)
    upstream.script(json_answer({}))
    with refusing() as base_url:
        resolve(base_url, base_url, upstream.base_url)
        client = make_client("http://vendor.invalid/v1")
        await asyncio.wait_for((await client.open("POST", "/x", body=b"{}")).read(), 2)
        resolve(base_url, base_url)
        with pytest.raises(errors.ProviderUnreachable, match="did not accept"):
            await make_client("http://vendor.invalid/v1").open("POST", "/x", body=b"{}")


async def test_a_crowd_asks_once_for_the_addresses(
    upstream: Upstream, make_client: MakeClient, resolve: Callable[..., list[Origin]]
) -> None:
    upstream.script(json_answer({}))
    asked = resolve(upstream.base_url)
    client = make_client("http://vendor.invalid/v1")
    await asyncio.gather(*(client.open("POST", "/x", body=b"{}") for _ in range(10)))
    assert asked == [Origin("http", "vendor.invalid", 80)]


async def test_leaving_while_several_addresses_are_tried_leaves_nothing(
    make_client: MakeClient, resolve: Callable[..., list[Origin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "ATTEMPT_SECONDS", 0.01)
    before = asyncio.all_tasks()
    with never_accepting() as silent:
        resolve(silent, silent, silent)
        task = asyncio.ensure_future(make_client("http://vendor.invalid/v1").open("POST", "/x", body=b"{}"))
        await asyncio.sleep(0.05)
        await cancelled(task)
        await reached(lambda: asyncio.all_tasks() <= before)


@pytest.mark.parametrize(
    ("url", "expected", "name"),
    [
        ("https://api.vendor.com/v1", Origin("https", "api.vendor.com", 443), "api.vendor.com"),
        ("https://api.vendor.com:443/v1", Origin("https", "api.vendor.com", 443), "api.vendor.com"),
        ("http://API.vendor.com:8080/v1", Origin("http", "api.vendor.com", 8080), "api.vendor.com:8080"),
        ("http://[::1]/v1", Origin("http", "::1", 80), "[::1]"),
        ("http://[::1]:8080/v1", Origin("http", "::1", 8080), "[::1]:8080"),
        ("http://bücher.example/v1", Origin("http", "xn--bcher-kva.example", 80), "xn--bcher-kva.example"),
    ],
)
def test_a_base_url_names_its_server(url: str, expected: Origin, name: str) -> None:
    assert base("lab", url) == (expected, "/v1", "")
    assert base("lab", f"{url}?api-version=1&b=ü") == (expected, "/v1", "?api-version=1&b=%C3%BC")
    assert expected.name == name


@asynccontextmanager
async def proxying(says: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that answers CONNECT, and then passes on what either side says; with the heads it has got."""
    heads: list[bytes] = []
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        host, _, port = heads[-1].split(b" ")[1].decode().rpartition(":")
        onward = await asyncio.open_connection(host, int(port))
        writer.write(says)
        for pair in ((reader, onward[1]), (onward[0], writer)):
            pumps.add(asyncio.ensure_future(pump(*pair)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        if pumps:
            await asyncio.wait(pumps)


@pytest.fixture
def through_proxies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """This machine is asked through proxies too, and its certificate is trusted."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(Origin, "is_loopback", False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    return monkeypatch


async def test_a_tunnel_carries_tls_that_its_proxy_cannot_read(
    make_client: MakeClient, through_proxies: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with (
        Upstream(tls=server_context(tmp_path)) as upstream,
        proxying(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n") as (address, heads),
    ):
        through_proxies.setenv("HTTPS_PROXY", f"http://me:p%40ss@{address}")
        upstream.script(json_answer({"a": "x" * 100_000}))
        client = make_client(upstream.base_url)
        for _ in range(2):
            opened = await client.open("POST", "/x", body=b"{}")
            assert len(await opened.read()) > 100_000
        assert (upstream.connection_count, len(heads)) == (1, 1)
        assert heads[0].startswith(f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1\r\n".encode())
        assert b"Proxy-Authorization: Basic " + b64encode(b"me:p@ss") in heads[0]
        assert KEY.encode() not in heads[0]
        assert "proxy-authorization" not in upstream.requests[0].headers
        await client.close()


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nI speak first",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_told_from_the_provider(
    make_client: MakeClient, through_proxies: pytest.MonkeyPatch, tmp_path: Path, says: bytes
) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream, proxying(says) as (address, _):
        through_proxies.setenv("HTTPS_PROXY", f"http://{address}")
        with pytest.raises(errors.ProviderUnreachable, match="behind a proxy that refused") as caught:
            await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
        assert "127.0.0.1" not in caught.value.message


async def test_leaving_while_a_proxy_is_silent_closes_the_connection(
    upstream: Upstream, make_client: MakeClient, through_proxies: pytest.MonkeyPatch
) -> None:
    through_proxies.delenv("SSL_CERT_FILE")
    through_proxies.setenv("HTTPS_PROXY", f"127.0.0.1:{upstream.port}")
    upstream.script([Silence()], [head(200), Silence()])
    for number in (1, 2):  # before the tunnel stands, and while TLS is agreed on in it
        task = asyncio.ensure_future(make_client("https://vendor.invalid/v1").open("POST", "/x", body=b"{}"))
        received = await upstream.received(number)
        await asyncio.sleep(0.02)
        asked_at = await cancelled(task)
        await asyncio.wait_for(received.closed.wait(), 1)
        assert (received.closed_at or 0) - asked_at < 0.1


async def test_a_proxy_may_speak_tls_itself(
    make_client: MakeClient, through_proxies: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        through_proxies.setenv("HTTP_PROXY", f"https://127.0.0.1:{upstream.port}")
        upstream.script(json_answer({"a": 1}))
        client = make_client("http://vendor.invalid/v1")
        assert await (await client.open("POST", "/x", body=b"{}")).read() == b'{"a": 1}'
        assert upstream.requests[0].path == "http://vendor.invalid/v1/x"
