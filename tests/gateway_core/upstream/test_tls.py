"""Tests of TLS: a provider is who its certificate says, or it is not spoken to."""

import ssl
from pathlib import Path

import pytest

from gateway_core import errors
from tests.gateway_core.upstream.conftest import KEY, MakeClient
from tests.support.certificate import server_context
from tests.support.upstream import Upstream, json_answer


async def test_a_self_signed_certificate_is_refused(make_client: MakeClient, tmp_path: Path) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        upstream.script(json_answer({}))
        with pytest.raises(errors.ProviderUnreachable) as caught:
            await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
        assert caught.value.message == ("Provider lab has a certificate that is not trusted: it is self-signed.")
        assert upstream.requests == []


async def test_a_certificate_of_ssl_cert_file_is_trusted(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        upstream.script(json_answer({"a": 1}))
        client = make_client(upstream.base_url)
        for _ in range(2):
            assert await (await client.open("POST", "/x", body=b"{}")).read() == b'{"a": 1}'
        assert upstream.connection_count == 1


async def test_a_certificate_for_another_host_is_refused(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with pytest.raises(errors.ProviderUnreachable) as caught:
            await make_client(upstream.base_url.replace("127.0.0.1", "127.0.0.2")).open("POST", "/x", body=b"{}")
        assert "127.0" not in caught.value.message


async def test_a_host_that_does_not_speak_tls_is_unreachable(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url.replace("http:", "https:"), connect=0.2)
    with pytest.raises((errors.ProviderUnreachable, errors.ProviderTimeout)) as caught:
        await client.open("POST", "/x", body=b"{}")
    assert KEY not in caught.value.message


async def test_old_protocols_are_refused(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Upstream(tls=context) as upstream:
        with pytest.raises(errors.ProviderUnreachable):
            await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
