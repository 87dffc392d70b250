"""`headgate serve` over TLS, with clients that show certificates, and the program's own clients."""

import asyncio
import json
import shutil
import socket
import ssl
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc import aio
from headgate.v1.model_service_pb2 import ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub

from headgate_cli.address import Place
from headgate_cli.errors import WrongUse
from headgate_cli.tls import of_environment
from rest_bridge.protocol import GOODBYE_SECONDS
from tests.headgate_cli.program import ended, serving
from tests.support.authority import DAY, Authority, Issued

ASKED = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}
SECONDS = 15


class Tls:
    """Where a test's files are."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.authority = Authority(home / "tls")
        self.server = self.authority.issue("server")
        self.client = self.authority.issue("client", uris=("spiffe://example.org/client",))

    def config(self, name: str, *, http: bool = True, grpc: bool = True, clients: bool = True, more: str = "") -> Path:
        row = f"{{certificate: {self.server.certificate}, private_key: {self.server.private_key}"
        row += f", client_authorities: {self.authority.file}}}" if clients else "}"
        listeners = [f"  {word}: {row}\n" for word, on in (("http", http), ("grpc", grpc)) if on]
        path = self.home / name
        path.write_text("storage: false\n" + ("tls:\n" + "".join(listeners) if listeners else "") + more)
        return path

    def variables(self, issued: Issued | None = None) -> dict[str, str]:
        shown = issued or self.client
        return {
            "HEADGATE_AUTHORITIES": str(self.authority.file),
            "HEADGATE_CERTIFICATE": str(shown.certificate),
            "HEADGATE_PRIVATE_KEY": str(shown.private_key),
        }

    def context(self, issued: Issued | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.file)
        if issued is not None:
            context.load_cert_chain(*issued.pair)
        return context

    def credentials(self, issued: Issued | None = None) -> grpc.ChannelCredentials:
        shown = issued or self.client
        return grpc.ssl_channel_credentials(
            self.authority.file.read_bytes(), shown.private_key.read_bytes(), shown.certificate.read_bytes()
        )


@pytest.fixture
def place(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


async def answer_over_http(place: Tls, url: str, issued: Issued | None) -> str:
    async with httpx.AsyncClient(verify=place.context(issued), trust_env=False) as http:
        response = await http.post(f"{url}/v1/chat/completions", json=ASKED)
        return str(response.json()["choices"][0]["message"]["content"])


def shown_by(address: tuple[str, int], context: ssl.SSLContext) -> tuple[bytes, str | None, str | None]:
    """The certificate that a server shows, the protocol that it chose, and the version of TLS."""
    with (
        socket.create_connection(address, timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.getpeercert(binary_form=True) or b"", secure.selected_alpn_protocol(), secure.version()


def place_of(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("/")[2].rpartition(":")
    return host, int(port)


async def test_core_and_bridge_serve_who_shows_a_certificate(place: Tls) -> None:
    config = place.config("headgate.yaml")
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        assert program.url.startswith("https://")
        assert f"curl {program.url}/v1/chat/completions" in program.text
        assert "--cacert YOUR_AUTHORITY --cert YOUR_CERTIFICATE --key YOUR_KEY_FILE" in program.text
        assert await answer_over_http(place, program.url, place.client) == "Hello"
        with pytest.raises(httpx.HTTPError):
            await answer_over_http(place, program.url, None)
        async with aio.secure_channel(program.grpc, place.credentials()) as channel:
            assert (await ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=SECONDS)).models
        program.terminate()
        assert await program.code() == 0


async def test_each_listener_agrees_on_its_protocol_and_no_tls_before_1_2(place: Tls) -> None:
    config = place.config("headgate.yaml", clients=False)
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        for where, protocol in ((program.url, "http/1.1"), (program.grpc, "h2")):
            context = place.context(None)
            context.set_alpn_protocols(["h2", "http/1.1"])
            _, chosen, version = await asyncio.to_thread(shown_by, place_of(where), context)
            assert (chosen, version) == (protocol, "TLSv1.3")
            old = place.context(None)
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(OSError):  # noqa: PT011  # an alert, or the end
                await asyncio.to_thread(shown_by, place_of(where), old)


async def test_the_programs_own_clients_speak_tls(place: Tls) -> None:
    config = place.config("headgate.yaml")
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        for where in (("--url", program.url), ("--grpc", f"https://{program.grpc}")):
            said = await ended("chat", *where, "echo/echo", "Hi", home=place.home, variables=place.variables())
            assert (said.code, said.out.strip()) == (0, "Hi"), said.err
            listed = await ended("models", *where, "--json", home=place.home, variables=place.variables())
            assert "echo/echo" in json.dumps(json.loads(listed.out))
        refused = await ended("models", "--url", program.url, home=place.home)
        assert refused.code == 1


async def test_the_doctor_tells_of_the_files_and_who_shows_them(place: Tls) -> None:
    core_tls = f"core_tls: {{certificate: {place.client.certificate}, private_key: {place.home}/none}}\n"
    config = place.config("headgate.yaml", more=core_tls)
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        listen = f"listen: {{http: {program.url.rpartition('/')[2]}, grpc: {program.grpc}}}\n"
        second = place.config("second.yaml", more=listen + core_tls)
        found = await ended("doctor", "--config", str(second), home=place.home)
    for name in ("http", "grpc"):
        assert f"tls.{name}: {place.server.certificate}: valid until " in found.out
    assert found.out.count("; clients must show certificates") == 2
    assert found.out.count(f"(shows {place.server.certificate})") == 2
    assert f"core_tls.private_key: {place.home}/none: cannot be read" in found.out
    assert (found.code, found.out.splitlines()[-1]) == (1, "1 thing is wrong")


async def test_a_bridge_apart_calls_a_core_that_speaks_tls(place: Tls) -> None:
    core = place.config("core.yaml", http=False)
    shown = f"core_tls: {{authorities: {place.authority.file}, certificate: {place.client.certificate}, "
    bridge = place.config(
        "bridge.yaml", http=False, grpc=False, more=shown + f"private_key: {place.client.private_key}}}\n"
    )
    async with (
        serving("core", "--config", str(core), *FREE[2:], home=place.home, last="gRPC") as first,
        serving(
            "bridge", "--config", str(bridge), "--core", f"https://{first.grpc}", *FREE[:2], home=place.home
        ) as second,
    ):
        assert "the core answers" in second.text
        assert await answer_over_http(place, second.url, None) == "Hello"


async def test_workers_speak_tls(place: Tls) -> None:
    config = place.config("headgate.yaml")
    async with serving("--config", str(config), *FREE, "--workers", "2", home=place.home) as program:
        for _ in range(6):
            assert await answer_over_http(place, program.url, place.client) == "Hello"
            async with aio.secure_channel(program.grpc, place.credentials()) as channel:
                assert (await ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=SECONDS)).models
        program.terminate()
        assert await program.code() == 0


async def test_renewed_certificates_and_authorities_are_taken_without_a_restart(place: Tls) -> None:
    config = place.config("headgate.yaml")
    newer = Authority(place.home / "newer")
    server, client = newer.issue("server"), newer.issue("client")
    after = Tls(place.home / "after")
    after.authority = newer
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        assert await answer_over_http(place, program.url, place.client) == "Hello"
        shutil.copyfile(server.certificate, place.server.certificate)
        shutil.copyfile(server.private_key, place.server.private_key)
        shutil.copyfile(newer.file, place.authority.file)
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    assert await answer_over_http(after, program.url, client) == "Hello"
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
        async with aio.secure_channel(program.grpc, after.credentials(client)) as channel:
            models = ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=SECONDS, wait_for_ready=True)
            assert (await models).models
        for where in (program.url, program.grpc):
            shown, _, _ = await asyncio.to_thread(shown_by, place_of(where), after.context(client))
            assert shown == ssl.PEM_cert_to_DER_cert(server.certificate.read_text())
        with pytest.raises(httpx.HTTPError):
            # Signed by the authority that is believed no more.
            await answer_over_http(after, program.url, place.client)


def spoken(address: tuple[str, int], context: ssl.SSLContext, request: bytes) -> ssl.SSLSocket:
    """A connection on which a request was sent; it takes little that it has not read."""
    plain = socket.socket()
    plain.settimeout(SECONDS)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    plain.connect(address)
    secure = context.wrap_socket(plain, server_hostname="localhost")
    secure.sendall(request)
    return secure


async def test_a_client_that_does_not_look_holds_no_drain(place: Tls) -> None:
    """As those of SDKs that wait in a pool: nobody answers the server's goodbye."""
    config = place.config("headgate.yaml", clients=False)
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        idle = await asyncio.to_thread(spoken, place_of(program.url), place.context(None), request)
        with idle:
            assert (await asyncio.to_thread(idle.recv, 100)).startswith(b"HTTP/1.1 200")
            program.terminate()
            assert await program.code() == 0


def read_late(connection: ssl.SSLSocket) -> bytes:
    """All that comes, read late: after the server has closed, and gone on for longer than it waits for a goodbye."""
    time.sleep(2 * GOODBYE_SECONDS)
    read = b""
    with connection:
        while piece := connection.recv(65536):
            read += piece
    return read


async def test_a_slow_reader_gets_all_of_an_answer_that_ends_its_connection(place: Tls) -> None:
    config = place.config("headgate.yaml", clients=False)
    asked = {**ASKED, "messages": [{"role": "user", "content": "x" * (8 << 20)}]}
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}"
    async with serving("--config", str(config), *FREE, home=place.home) as program:
        request = head.encode() + b"\r\n\r\n" + body
        connection = await asyncio.to_thread(spoken, place_of(program.url), place.context(None), request)
        head_, _, answer = (await asyncio.to_thread(read_late, connection)).partition(b"\r\n\r\n")
        assert head_.startswith(b"HTTP/1.1 200")
        assert json.loads(answer)["choices"][0]["message"]["content"] == "x" * (8 << 20)


@pytest.mark.parametrize("listener", ["grpc", "http"])
async def test_a_certificate_that_has_expired_is_told_at_the_start_and_by_the_doctor(place: Tls, listener: str) -> None:
    place.server = place.authority.issue("late", valid=(-2 * DAY, -DAY))
    config = place.config("headgate.yaml", http=listener == "http", grpc=listener == "grpc")
    for command in (("serve", *FREE), ("doctor",)):
        said = await ended(*command, "--config", str(config), home=place.home)
        assert said.code == 1
        assert f"tls.{listener}.certificate: {place.server.certificate}: expired on " in said.out + said.err


def test_the_environment_names_both_files_or_neither(tmp_path: Path) -> None:
    assert of_environment({}).certificate is None
    assert of_environment({"HEADGATE_AUTHORITIES": str(tmp_path)}).authorities == tmp_path
    with pytest.raises(WrongUse, match="HEADGATE_CERTIFICATE and HEADGATE_PRIVATE_KEY go together"):
        of_environment({"HEADGATE_CERTIFICATE": "a.pem"})


def test_a_place_says_whether_it_speaks_tls() -> None:
    assert Place.parse("https://core:1", "--core") == (("core", 1), True)
    assert Place.parse("core:1", "--core") == (("core", 1), False)
    with pytest.raises(WrongUse, match="--core must be HOST:PORT"):
        Place.parse("https://core", "--core")
