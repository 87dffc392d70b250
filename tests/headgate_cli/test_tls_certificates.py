"""Callers over REST are known by their certificates, too: at a bridge in the core's process, at one apart, at workers."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from tests.headgate_cli.program import serving
from tests.support.authority import Authority, Issued
from tests.support.certified import API, ENVOY, secure
from tests.support.kept import ROOT, bearer

HELLO = [{"role": "user", "content": "Hello"}]
XFCC = "x-forwarded-client-cert"
FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
TIMES = 12
"""So many new connections meet both of two workers, but for one time in thousands."""


class World:
    """The files, and the addresses once there are any."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.authority = Authority(home / "tls")
        self.server = self.authority.issue("server")
        self.bridge = self.authority.issue("bridge", common_name="bridge")
        self.url = self.grpc = ""

    def issue(self, name: str) -> Issued:
        is_spiffe = name.startswith("spiffe:")
        return self.authority.issue("client", uris=(name,) if is_spiffe else (), common_name=() if is_spiffe else name)

    def config(self, name: str, *, is_bridge: bool = False, proxies: str = f"{ENVOY}, CN=bridge") -> Path:
        files = f"certificate: {self.server.certificate}, private_key: {self.server.private_key}"
        row = f"{{{files}, client_authorities: {self.authority.file}}}"
        lines = [
            f"tls: {{grpc: {row}, http: {row}}}",
            f'client_certificates: {{proxies: [{proxies}], accounts: {{"{API}": acme, CN=batch: root}}}}',
        ]
        if is_bridge:
            shown = f"certificate: {self.bridge.certificate}, private_key: {self.bridge.private_key}"
            lines.append(f"core_tls: {{authorities: {self.authority.file}, {shown}}}")
        path = self.home / name
        path.write_text("\n".join(lines) + "\n")
        return path

    @asynccontextmanager
    async def client(self, shown: str) -> AsyncIterator[httpx.AsyncClient]:
        context = ssl.create_default_context(cafile=self.authority.file)
        context.load_cert_chain(*self.issue(shown).pair)
        async with httpx.AsyncClient(base_url=self.url, verify=context, trust_env=False, timeout=20) as http:
            yield http

    async def account(self, shown: str, key: str | None = None, header: str | None = None) -> str:
        """The name of the account that calls, or the status."""
        headers = dict(bearer(key)) if key is not None else {}
        headers |= {} if header is None else {XFCC: header}
        async with self.client(shown) as http:
            answer = await http.get("/api/v1/accounts/me", headers=headers)
        return str(answer.json()["data"]["name"]) if answer.status_code == 200 else str(answer.status_code)


@asynccontextmanager
async def running(home: Path, arrangement: str, proxies: str = f"{ENVOY}, CN=bridge") -> AsyncIterator[World]:
    world = World(home)
    variables = {"HEADGATE_ROOT_KEY": ROOT}
    core = world.config("core.yaml", proxies=proxies)
    bridge = world.config("bridge.yaml", is_bridge=True)
    more = {"workers": ("--workers", "2"), "apart": ()}.get(arrangement, ())
    if arrangement != "apart":
        async with serving("--config", str(core), *FREE, *more, home=home, variables=variables) as both:
            world.url, world.grpc = both.url, both.grpc
            yield world
        return
    async with (
        serving("core", "--config", str(core), *FREE[2:], home=home, variables=variables, last="gRPC") as first,
        serving("bridge", "--config", str(bridge), "--core", first.grpc, *FREE[:2], home=home) as second,
    ):
        world.url, world.grpc = second.url, first.grpc
        yield world


async def made(world: World, name: str) -> str:
    """Makes an account of the operator's; returns its key."""
    async with world.client("anybody") as http:
        body = {"name": name, "external_ref": name}
        answer = await http.post("/api/v1/accounts", json=body, headers=dict(bearer(ROOT)))
    assert answer.status_code < 300, answer.text
    return str(answer.json()["data"]["secret"])


@pytest.mark.parametrize("arrangement", ["together", "apart", "workers"])
async def test_callers_over_rest_are_known_by_their_certificates(tmp_path: Path, arrangement: str) -> None:
    async with running(tmp_path, arrangement) as world:
        assert await world.account(API) == "401", "its account is not there yet"
        await made(world, "acme")
        globex = await made(world, "globex")
        root = await world.account("batch")
        assert await world.account(API) == "acme"
        assert await world.account(API, globex) == "globex"
        assert await world.account(API, globex[:-1] + ("x" if globex[-1] != "x" else "y")) == "401"
        assert await world.account(API, header='Subject="CN=batch"') == "acme", "forged"
        assert await world.account("anybody", header=f"URI={API}") == "401", "forged"
        assert await world.account(ENVOY) == "401", "the proxy itself"
        assert await world.account(ENVOY, header=f"By=x;URI=spiffe://a/b,Hash=1;URI={API}") == "401", "two elements"
        assert await world.account(ENVOY, header=f"By=x;Hash=1;URI={API}") == "acme"
        assert await world.account(ENVOY, header='Hash=1;Subject="CN=batch"') == root
        assert await world.account("bridge", header='Hash=1;Subject="CN=batch"') == root
        await answered(world)


async def answered(world: World) -> None:
    """Whole and streamed answers are in the ledger, under the account and with the certificate."""
    async with world.client(API) as http, world.client("batch") as operator:
        for stream in (False, True):
            body: dict[str, Any] = {"model": "echo/echo", "messages": HELLO, "stream": stream}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200
            identity = answer.headers["x-headgate-request-id"]
            query = {"request_id": identity, "include_sub_accounts": "true"}
            (record,) = (await operator.get("/api/v1/usage/records", params=query)).json()["data"]
            assert record["metadata"] == {"headgate.certificate": API}
            assert "key_id" not in record or not record["key_id"]


async def test_a_bridge_that_is_no_proxy_of_the_core_is_not_believed(tmp_path: Path) -> None:
    async with running(tmp_path, "apart", proxies=ENVOY) as world:
        await made(world, "acme")
        assert await world.account(API) == "401"
        assert await world.account(API, ROOT) != "401"


async def test_a_stream_is_continued_at_any_worker_by_the_certificate_of_its_account(tmp_path: Path) -> None:
    async with running(tmp_path, "workers") as world:
        await made(world, "acme")
        body = {"model": "echo/echo", "messages": HELLO, "stream": True}
        async with world.client(API) as http:
            begun = await http.post("/v1/chat/completions", json=body, headers={"x-headgate-detach": "60s"})
        stream = begun.headers["x-headgate-stream-id"]
        for _ in range(TIMES):
            async with world.client(API) as http:
                answer = await http.get(f"/v1/chat/completions/{stream}/stream")
                assert answer.status_code == 200, answer.text
                assert answer.text.rstrip().endswith("data: [DONE]")
            assert await resumed(world, stream, API) == "Hello"
            for stranger, forged in (("batch", API), ("anybody", API)):
                with pytest.raises(aio.AioRpcError) as refused:
                    await resumed(world, stream, stranger, f"URI={forged}")
                assert refused.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED)


async def resumed(world: World, stream: str, shown: str, header: str | None = None) -> str:
    """What comes of a stream over gRPC."""
    async with secure(world.grpc, world.authority, world.issue(shown)) as channel:
        stub: Any = ChatCompletionServiceStub(channel)
        metadata = () if header is None else ((XFCC, header),)
        call = stub.ResumeChatCompletion(ResumeChatCompletionRequest(id=stream), timeout=20, metadata=metadata)
        return "".join([choice.delta.content async for each in call for choice in each.chunk.choices])


async def test_the_log_tells_the_certificate_and_neither_key_nor_secret(tmp_path: Path) -> None:
    world = World(tmp_path)
    config = world.config("headgate.yaml")
    async with serving("--config", str(config), *FREE, home=tmp_path, variables={"HEADGATE_ROOT_KEY": ROOT}) as program:
        world.url = program.url
        globex = await made(world, "acme")
        async with world.client(API) as http:
            body = {"model": "echo/echo", "messages": HELLO}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        program.terminate()
        assert await program.code() == 0
        assert program.errors is not None
        said = (await program.errors).decode()
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    (call,) = [line for line in lines if line["event"] == "call" and line["operation"] == "chat"]
    assert call["certificate"] == API
    (warned,) = [line for line in lines if line["event"] == "certificate_account_unknown"]
    assert "'acme'" in warned["message"]
    everything = json.dumps(lines)
    for issued in (world.server, world.bridge):
        assert issued.private_key.read_text().splitlines()[1] not in everything
    assert globex not in everything
