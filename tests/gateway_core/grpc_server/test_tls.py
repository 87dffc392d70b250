"""Callers with certificates, and what the servicer sees of them."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from gateway_core.config_tls import ListenerTlsConfig
from gateway_core.grpc_server import GrpcServer, frames
from gateway_core.grpc_server.caller import distinguished_name
from gateway_core.identity.certificate_name import common_names
from gateway_core.tls_context import renewed_context
from gateway_core.tls_files import TlsFiles
from tests.gateway_core.grpc_server.raw import CODEC, Servicer
from tests.support.authority import Authority

URI = "spiffe://example.org/client"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
async def port(authority: Authority, servicer: Servicer) -> AsyncIterator[int]:
    shown = authority.issue("server")
    config = ListenerTlsConfig(
        certificate=shown.certificate, private_key=shown.private_key, client_authorities=authority.file
    )
    server = GrpcServer()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(servicer.echo, **CODEC)}
    server.add_registered_method_handlers("test.Test", handlers)
    yield await server.listen("127.0.0.1:0", tls=renewed_context(TlsFiles("tls.grpc", config), "h2"))
    await server.stop(None)


async def test_a_servicer_sees_who_the_caller_is_by_its_certificate(
    authority: Authority, servicer: Servicer, port: int
) -> None:
    own = authority.issue("client", uris=(URI,))
    files: Any = (authority.file, own.private_key, own.certificate)
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        echo: Any = channel.unary_unary("/test.Test/Echo", StringValue.SerializeToString, StringValue.FromString)
        assert (await echo(StringValue(value="x" * 100_000), timeout=10)).value == "x" * 100_000
    found = servicer.contexts[0].auth_context()
    assert found["transport_security_type"] == [b"ssl"]
    assert URI.encode() in found["x509_subject_alternative_name"]
    assert found["peer_uri"] == [URI.encode()]
    assert found["x509_pem_cert"][0].startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    "name",
    ["plain", "a,CN=root", "a+CN=root", "a;b", ' "quoted" ', "#a", "back\\slash", "Zoë", "tab\there", "<a=b>"],
)
def test_a_common_name_is_read_back_as_it_is(name: str) -> None:
    assert common_names(distinguished_name([("organizationName", "x"), ("commonName", name)])) == [name]


def test_a_part_without_a_short_name_hides_no_common_name() -> None:
    subject = [("commonName", "a"), ("2.5.4.97", "b,CN=c"), ("X509v3 Something Odd", "d")]
    assert common_names(distinguished_name(subject)) == ["a"]


def told(authority: Authority, port: int, said: bytes, *protocols: str) -> bytes:
    """What a client hears that offers so many protocols and says something."""
    own = authority.issue("client")
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(own.certificate, own.private_key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(said)
        heard = b""
        while piece := secure.recv(1000):
            heard += piece
        return heard


async def test_who_does_not_agree_on_http_2_and_speaks_it_is_left(authority: Authority, port: int) -> None:
    begun = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0)
    with suppress(OSError):
        assert await asyncio.to_thread(told, authority, port, begun) == b""
    with suppress(OSError):
        assert await asyncio.to_thread(told, authority, port, b"\x00" * 100) == b""


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
async def test_who_speaks_http_1_over_tls_is_told_where_it_is(
    authority: Authority, port: int, protocols: tuple[str, ...]
) -> None:
    asked = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
    heard = await asyncio.to_thread(told, authority, port, asked, *protocols)
    assert heard.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"This is the gRPC listener" in heard
