"""Tests of proxies: those of the environment are taken, and none learns a key that is not for it to see."""

import asyncio
from base64 import b64encode

import pytest

from gateway_core import errors
from tests.gateway_core.upstream.conftest import KEY, MakeClient
from tests.support.upstream import Cut, Silence, Upstream, head, json_answer, refusing

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def address(upstream: Upstream) -> str:
    return f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_proxy_of_the_environment_is_asked(
    upstream: Upstream, make_client: MakeClient, environment: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    environment.setenv(variable, f"{scheme}{address(upstream)}")
    upstream.script(json_answer({"a": 1}))
    client = make_client("http://vendor.invalid/v1")
    for _ in range(2):
        assert await (await client.open("POST", "/x", body=b"{}")).read() == b'{"a": 1}'
    assert upstream.requests[0].path == "http://vendor.invalid/v1/x"
    assert upstream.connection_count == 1


async def test_the_proxys_own_password_is_sent_to_it(
    upstream: Upstream, make_client: MakeClient, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HTTP_PROXY", f"http://me:pass@{address(upstream)}")
    upstream.script(json_answer({}))
    await (await make_client("http://vendor.invalid/v1").open("POST", "/x", body=b"{}")).read()
    headers = upstream.requests[0].headers
    assert headers["proxy-authorization"] == f"Basic {b64encode(b'me:pass').decode()}"
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("no_proxy", ["*", "vendor.invalid", ".invalid", "other,vendor.invalid:80"])
async def test_no_proxy_is_heeded(
    upstream: Upstream, make_client: MakeClient, environment: pytest.MonkeyPatch, no_proxy: str
) -> None:
    environment.setenv("HTTP_PROXY", f"http://{address(upstream)}")
    environment.setenv("NO_PROXY", no_proxy)
    with pytest.raises(errors.ProviderUnreachable, match="does not resolve"):
        await make_client("http://vendor.invalid/v1").open("POST", "/x", body=b"{}")
    assert upstream.connection_count == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_this_machine_is_asked_without_a_proxy(
    upstream: Upstream, make_client: MakeClient, environment: pytest.MonkeyPatch, host: str
) -> None:
    upstream.script(json_answer({"a": 1}))
    with refusing() as base_url:
        environment.setenv("HTTP_PROXY", base_url.removesuffix("/v1"))
        client = make_client(upstream.base_url.replace("127.0.0.1", host))
        assert await (await client.open("POST", "/x", body=b"{}")).read() == b'{"a": 1}'


async def test_a_tunnel_is_asked_for_without_the_key(
    upstream: Upstream, make_client: MakeClient, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HTTPS_PROXY", f"http://{address(upstream)}")
    upstream.script([head(403, {"content-length": "0"})])
    with pytest.raises(errors.ProviderUnreachable, match="behind a proxy that refused"):
        await make_client("https://vendor.invalid/v1", {"x-api-key": KEY}).open("POST", "/x", body=b"{}")
    received = upstream.requests[0]
    assert (received.method, received.path) == ("CONNECT", "vendor.invalid:443")
    assert KEY not in str(received.headers)


@pytest.mark.parametrize("end", [[Cut()], [b"garbage\r\n\r\n", Silence()]])
async def test_a_proxy_that_breaks_off_fails_the_call(
    upstream: Upstream, make_client: MakeClient, environment: pytest.MonkeyPatch, end: list[Cut | bytes | Silence]
) -> None:
    environment.setenv("HTTPS_PROXY", f"http://{address(upstream)}")
    upstream.script(end)
    with pytest.raises(errors.ProviderError) as caught:
        await make_client("https://vendor.invalid/v1").open("POST", "/x", body=b"{}")
    assert caught.value.metadata == {"provider": "lab"}
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


async def test_a_proxy_that_accepts_nothing_is_told_from_the_provider(
    make_client: MakeClient, environment: pytest.MonkeyPatch
) -> None:
    with refusing() as base_url:
        environment.setenv("HTTP_PROXY", base_url.removesuffix("/v1"))
        with pytest.raises(errors.ProviderUnreachable, match="behind a proxy that accepts no connection"):
            await make_client("http://vendor.invalid/v1").open("POST", "/x", body=b"{}")


async def test_a_proxy_of_another_protocol_is_named_and_not_passed_by(
    make_client: MakeClient, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", "socks5://me:pass@127.0.0.1:1")
    with pytest.raises(errors.ProviderUnreachable, match="socks5") as caught:
        await make_client("http://vendor.invalid/v1").open("POST", "/x", body=b"{}")
    assert "pass" not in caught.value.message
