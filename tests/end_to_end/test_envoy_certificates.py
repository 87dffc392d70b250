"""Callers of the real Envoy are known by their certificates, whose names it tells the core and the bridge over mTLS."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from grpc import StatusCode, aio
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub

from gateway_core.config_envoy import EnvoyConfig
from gateway_core.config_file import load
from headgate_cli.envoy.commands import rendered
from tests.headgate_cli.program import serving
from tests.support.authority import Authority, Issued
from tests.support.certified import API, ENVOY, SECONDS, asked, secure
from tests.support.envoy import needs_envoy, started
from tests.support.kept import ROOT, bearer

XFCC = "x-forwarded-client-cert"
ODD = 'O\'Brien, "x";URI=spiffe://example.org/root \\ Jérôme'
BODY = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}

pytestmark = needs_envoy


@dataclass
class World:
    """An Envoy before a gateway, both of which ask for certificates."""

    authority: Authority
    address: str
    """Of the Envoy."""
    core: str
    accounts: dict[str, str]
    secret: str
    """A key of "acme"."""
    count: int = 0

    def issue(self, uri: str = "", name: str = "") -> Issued:
        self.count += 1
        return self.authority.issue(f"client{self.count}", uris=(uri,) if uri else (), common_name=name or ())

    async def account_over_rest(self, issued: Issued, headers: dict[str, str]) -> str:
        context = ssl.create_default_context(cafile=self.authority.file)
        context.load_cert_chain(*issued.pair)
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=SECONDS) as http:
            found = await http.get(f"https://{self.address}/api/v1/accounts/me", headers=headers)
            if found.status_code != 200:
                return str(found.status_code)
            answer = await http.post(f"https://{self.address}/v1/chat/completions", json=BODY, headers=headers)
            assert answer.status_code == 200
            return str(found.json()["data"]["id"])

    async def account_over_grpc(self, issued: Issued, headers: dict[str, str]) -> str:
        async with secure(self.address, self.authority, issued) as channel:
            try:
                metadata = tuple(headers.items())
                for way in ("unary", "stream"):
                    await asked(channel, way, metadata)
                return await asked(channel, "account", metadata)
            except aio.AioRpcError as error:
                return "401" if error.code() is StatusCode.UNAUTHENTICATED else error.code().name


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    authority = Authority(tmp_path / "tls")
    server, envoy = authority.issue("server"), authority.issue("envoy", uris=(ENVOY,))
    files = {"certificate": str(server.certificate), "private_key": str(server.private_key)}
    row = {**files, "client_authorities": str(authority.file)}
    accounts = {API: "acme", f"CN={ODD}": "odd", "spiffe://example.org/root": "root", "CN=operator": "root"}
    config = {"tls": {"grpc": row, "http": row}, "client_certificates": {"accounts": accounts, "proxies": [ENVOY]}}
    path = tmp_path / "headgate.yaml"
    path.write_text(json.dumps(config))
    free = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    async with serving("--config", str(path), *free, home=tmp_path, variables={"HEADGATE_ROOT_KEY": ROOT}) as program:
        ports = {name: int(text.rpartition(":")[2]) for name, text in (("http", program.url), ("grpc", program.grpc))}
        shown = {"certificate": str(envoy.certificate), "private_key": str(envoy.private_key)}
        section = {
            "listen": ["127.0.0.1:0"],
            "admin": "127.0.0.1:0",
            "health_seconds": 0.05,
            "replicas": [{"host": "127.0.0.1", **ports}],
            "tls": row,
            "upstream_tls": {"authorities": str(authority.file), "names": ["localhost"], **shown},
        }
        text = rendered(load(path, {}).model_copy(update={"envoy": EnvoyConfig.model_validate(section)}))
        async with started(text, tmp_path) as (admin, _, _):
            (listener,) = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
            port = listener["local_address"]["socket_address"]["port_value"]
            found = World(authority, f"127.0.0.1:{port}", program.grpc, {}, "")
            async with secure(found.address, authority, found.issue(name="nobody")) as channel:
                for name in ("acme", "odd"):
                    request = CreateAccountRequest(account=Account(name=name, external_ref=name))
                    made = await AccountServiceStub(channel).CreateAccount(
                        request, metadata=bearer(ROOT), timeout=SECONDS
                    )
                    found.accounts[made.account.id], found.secret = name, found.secret or made.secret
            yield found


async def test_callers_of_envoy_are_known_by_their_certificates_and_by_nothing_that_they_write(world: World) -> None:
    root = "Hash=1;URI=spiffe://example.org/root"
    acme = {"authorization": f"Bearer {world.secret}"}
    other = world.secret[:-1] + ("x" if world.secret[-1] != "x" else "y")
    for issued, headers, account in (
        (world.issue(API), {}, "acme"),
        (world.issue(API), {XFCC: root}, "acme"),
        (world.issue(name=ODD), {}, "odd"),
        (world.issue(name=ODD), acme, "acme"),
        (world.issue(name="nobody"), {XFCC: root}, "401"),
        (world.issue(name="nobody"), {XFCC: f"Hash=2,{root}"}, "401"),
        (world.issue(ENVOY), {}, "401"),
        (world.issue(name="nobody"), acme, "acme"),
        (world.issue(API), {"authorization": f"Bearer {other}"}, "401"),
    ):
        for found in (await world.account_over_grpc(issued, headers), await world.account_over_rest(issued, headers)):
            assert world.accounts.get(found, found) == account


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://example.org/guest,URI=spiffe://example.org/root",
        "spiffe://example.org/root,URI=spiffe://example.org/guest",
        "spiffe://example.org/root,",
        "spiffe://example.org/guest;URI=spiffe://example.org/root",
        "spiffe://example.org/root;DNS=x",
        "spiffe://example.org/root;By=x",
        "spiffe://example.org/root;",
        'spiffe://example.org/guest;Subject="CN=operator"',
        'x;Subject="CN=operator"',
        ";URI=spiffe://example.org/root",
        ",URI=spiffe://example.org/root",
        '"spiffe://example.org/root"',
        " spiffe://example.org/root",
        "spiffe://example.org/root ",
        "spiffe://example.org/root%00",
        "spiffe://example.org/root?x",
    ],
)
async def test_nobody_becomes_another_by_what_is_in_its_uri(world: World, uri: str) -> None:
    # Envoy writes the URI at the header's end, and no field of HTTP/2 ends with a space (RFC 9113, 8.2.1).
    refused_over_grpc = "UNAVAILABLE" if uri.endswith(" ") else "401"
    for issued in (world.issue(uri), world.issue(uri, "nobody")):
        assert await world.account_over_grpc(issued, {}) == refused_over_grpc
        assert await world.account_over_rest(issued, {}) == "401"
        async with secure(world.core, world.authority, issued) as channel:
            with pytest.raises(aio.AioRpcError) as refused:
                await asked(channel, "unary", ())
            assert refused.value.code() is StatusCode.UNAUTHENTICATED


async def test_the_core_itself_believes_no_caller_that_goes_around_envoy(world: World) -> None:
    for issued in (world.issue(name="nobody"), world.issue("spiffe://example.org/search")):
        async with secure(world.core, world.authority, issued) as channel:
            with pytest.raises(aio.AioRpcError) as refused:
                await asked(channel, "unary", ((XFCC, f"Hash=1;URI={API}"),))
            assert refused.value.code() is StatusCode.UNAUTHENTICATED
