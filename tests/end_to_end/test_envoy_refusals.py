"""The real Envoy asks the core before it passes a request on: what is refused there never reaches the bridge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.gateway_pb2 import Gateway
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceStub
from headgate.v1.key_pb2 import KEY_KIND_PRIVATE, KEY_KIND_PUBLIC
from headgate.v1.key_service_pb2 import CreateKeyRequest, DeleteKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.support.envoy import Front, answered, fronted, needs_envoy

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
UNKNOWN = "sk-hg-unknown00000abcdefghijklmnopqrstuvwxyz0123456789"
CHAT = "/v1/chat/completions"
TWO_A_DAY = {"plans": {"limited": {"windows": [{"window_seconds": 86400, "requests": 2}]}}}
KEYS = {"external_authorization": True}
LIMITS = {"rate_limit_service": True}

pytestmark = needs_envoy


@asynccontextmanager
async def world(
    directory: Path, envoy: dict[str, Any], services: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[Front]:
    store = Store.at(None, directory, {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    asked = {"authorization": True, "rate_limit": True} if services is None else services
    settings = Config.model_validate({"envoy_services": asked, **config})
    async with fronted(settings, directory, envoy, tls=False, store=store, root_key=ROOT) as front:
        yield front


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def metadata(secret: str) -> tuple[tuple[str, str], ...]:
    return tuple(bearer(secret).items())


async def account(front: Front, plan: str = "") -> str:
    async with aio.insecure_channel(front.gateway.grpc_address) as channel:
        request = CreateAccountRequest(account=Account(name="a", plan=plan))
        return str((await AccountServiceStub(channel).CreateAccount(request, metadata=metadata(ROOT))).secret)


async def ask(http: httpx.AsyncClient, secret: str, **more: Any) -> httpx.Response:
    body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi there"}], **more}
    return await http.post(CHAT, json=body, headers=bearer(secret))


async def passed(front: Front) -> int:
    """How many requests Envoy has passed on to the bridge; those that ask for its health do not count."""
    return await front.statistic("cluster.bridge.upstream_rq_total")


def spec() -> dict[str, Any]:
    return {"model": "echo/echo", "messages": [{"role": ROLE_USER, "text": "Hi there"}]}


async def test_a_bad_key_never_reaches_the_bridge(tmp_path: Path) -> None:
    async with world(tmp_path, KEYS) as front, front.client() as http:
        direct = httpx.AsyncClient(base_url=front.gateway.http_url, trust_env=False)
        async with direct:
            for path in (CHAT, "/api/chat", "/api/v1/accounts/me"):
                method = "GET" if path.endswith("/me") else "POST"
                body = (
                    None if method == "GET" else {"model": "echo/echo", "messages": [{"role": "user", "content": "x"}]}
                )
                answers = [
                    await client.request(method, path, json=body, headers=bearer(UNKNOWN)) for client in (http, direct)
                ]
                assert [answer.status_code for answer in answers] == [401, 401]
                assert answers[0].json() == answers[1].json()
                for name in ("content-type", "www-authenticate"):
                    assert answers[0].headers[name] == answers[1].headers[name]
        assert await passed(front) == 0
        for name in ("http.front", "cluster.bridge"):
            assert await front.statistic(f"{name}.ext_authz.key.denied") == 3
        exposed = (await front.admin.get("/stats/prometheus")).text
        assert 'envoy_cluster_upstream_rq_active{envoy_cluster_name="core"}' in exposed
        lines = await front.lines(3)
        assert {(line["status"], line["details"], line["upstream"]) for line in lines} == {
            (401, "ext_authz_denied", None)
        }
        assert all(line["request_id"] for line in lines)


async def test_a_good_key_gets_what_it_gets_without_envoy(tmp_path: Path) -> None:
    async with world(tmp_path, {**KEYS, **LIMITS}) as front, front.client() as http:
        secret = await account(front)
        direct = httpx.AsyncClient(base_url=front.gateway.http_url, trust_env=False)
        async with direct:
            answers = [(await ask(client, secret)).json() for client in (http, direct)]
        assert [answer["choices"] for answer in answers[:1]] == [answers[1]["choices"]]
        async with http.stream(
            "POST",
            CHAT,
            json={"model": "echo/echo", "stream": True, "messages": [{"role": "user", "content": "Hi there"}]},
            headers=bearer(secret),
        ) as streamed:
            lines = [line async for line in streamed.aiter_lines() if line]
        assert streamed.status_code == 200
        assert lines[-1] == "data: [DONE]"
        assert (await http.get("/healthz")).status_code == 200
        assert await front.statistic("http.front.ext_authz.key.error") == 0
        assert await front.statistic("cluster.bridge.ratelimit.error") == 0


async def test_a_grpc_caller_is_refused_with_the_cores_own_status(tmp_path: Path) -> None:
    async with world(tmp_path, {**KEYS, **LIMITS}, **TWO_A_DAY) as front, front.channel() as channel:
        stub = ChatCompletionServiceStub(channel)
        unary = CreateChatCompletionRequest(spec=spec())
        seen = []
        for secret in (UNKNOWN, await account(front, "limited")):
            error = None
            for _ in range(3):
                try:
                    await stub.CreateChatCompletion(unary, metadata=metadata(secret))
                except aio.AioRpcError as raised:
                    error = raised
            assert error is not None
            rich: Any = rpc_status.from_call(error)
            info = error_details_pb2.ErrorInfo()
            assert rich.details[0].Unpack(info)
            assert rich.message == error.details()
            seen.append((error.code(), info.reason))
        assert seen == [
            (StatusCode.UNAUTHENTICATED, "ERROR_REASON_UNAUTHENTICATED"),
            (StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_RATE_LIMITED"),
        ]
        call = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec()), metadata=metadata(ROOT))
        assert [response async for response in call]


@pytest.mark.parametrize("envoy", [KEYS, LIMITS, {**KEYS, **LIMITS}])
async def test_who_is_over_a_limit_is_refused_before_the_bridge(tmp_path: Path, envoy: dict[str, Any]) -> None:
    async with world(tmp_path, envoy, **TWO_A_DAY) as front, front.client() as http:
        secret = await account(front, "limited")
        assert [(await ask(http, secret)).status_code for _ in range(2)] == [200, 200]
        before = await passed(front)
        assert before == 2
        for _ in range(5):
            refused = await ask(http, secret)
            assert refused.status_code == 429
            assert refused.json()["error"]["message"].startswith("The limit of 2 requests in 86400 seconds")
            assert refused.headers["content-type"] == "application/json"
            assert refused.headers.get_list("x-ratelimit-remaining-requests") == ["0"]
            assert 0 < int(refused.headers["retry-after"]) <= 86400
        assert await passed(front) == before
        details = {line["details"] for line in (await front.lines(7)) if line["status"] == 429}
        assert details == {"ext_authz_denied" if "external_authorization" in envoy else "request_rate_limited"}
        # What is no call of a model has no limits.
        assert (await http.get("/v1/models", headers=bearer(secret))).status_code == 200
        assert (await ask(http, ROOT)).status_code == 200


async def test_limits_hold_before_the_bridge_wherever_the_key_is(tmp_path: Path) -> None:
    body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi there"}]}
    async with world(tmp_path, LIMITS, **TWO_A_DAY) as front, front.client() as http:
        over, other = await account(front, "limited"), await account(front)
        assert [(await ask(http, secret)).status_code for secret in (over, over, other)] == [200] * 3
        before = await passed(front)
        for path, headers in (
            (CHAT, {"x-api-key": over}),
            (CHAT, {"api-key": over}),
            (f"{CHAT}?api-key={over}", {}),
            (CHAT, {**bearer(over), "x-api-key": other}),
        ):
            assert (await http.post(path, json=body, headers=headers)).status_code == 429
        assert await passed(front) == before
        for path, headers in ((CHAT, {**bearer(other), "x-api-key": over}), (f"{CHAT}?api-key={over}", bearer(other))):
            assert (await http.post(path, json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("envoy", [KEYS, LIMITS])
async def test_a_public_keys_window_is_that_of_the_caller_and_not_of_the_proxy_before_envoy(
    tmp_path: Path, envoy: dict[str, Any]
) -> None:
    windows = {"per_address": [{"seconds": 86400, "requests": 1}], "per_key": []}
    async with world(tmp_path, {**envoy, "trusted_hops": 1}, public_keys=windows) as front, front.client() as http:
        async with aio.insecure_channel(front.gateway.grpc_address) as channel:
            made = CreateGatewayRequest(gateway=Gateway(name="g", model="echo/echo"))
            gateway = (await GatewayServiceStub(channel).CreateGateway(made, metadata=metadata(ROOT))).gateway.id
            request = CreateKeyRequest(kind=KEY_KIND_PUBLIC, label="p")
            secret = (await KeyServiceStub(channel).CreateKey(request, metadata=metadata(ROOT))).secret
        body = {"model": gateway, "messages": [{"role": "user", "content": "Hi there"}]}

        async def status(address: str) -> int:
            said = {"x-forwarded-for": f"192.0.2.1, {address}", "x-envoy-external-address": "192.0.2.2"}
            return (await http.post(CHAT, json=body, headers={**bearer(secret), **said})).status_code

        assert await status("198.51.100.1") == 200
        before = await passed(front)
        assert [await status("198.51.100.1") for _ in range(2)] == [429, 429]
        assert await passed(front) == before
        assert await status("198.51.100.2") == 200


@pytest.mark.parametrize("envoy", [{}, KEYS, LIMITS])
async def test_the_walls_refusal_is_json_whatever_the_core_refuses(tmp_path: Path, envoy: dict[str, Any]) -> None:
    wall = {"per_address": {"requests_per_second": 1, "burst": 2}}
    async with world(tmp_path, {**envoy, **wall}) as front, front.client() as http:
        answers = [await http.get("/healthz") for _ in range(8)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        for answer in refused:
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["error"]["message"] == "local_rate_limited"


async def test_an_open_stream_is_not_touched_by_a_key_that_goes(tmp_path: Path) -> None:
    async with world(tmp_path, KEYS) as front, front.client() as http, front.channel() as channel:
        keys = KeyServiceStub(channel)
        request = CreateKeyRequest(kind=KEY_KIND_PRIVATE, label="k")
        made = await keys.CreateKey(request, metadata=metadata(ROOT))
        assert (await ask(http, made.secret)).status_code == 200
        body = {"model": "echo/echo", "stream": True, "messages": [{"role": "user", "content": "word " * 2000}]}
        async with http.stream("POST", CHAT, json=body, headers=bearer(made.secret)) as streamed:
            lines = streamed.aiter_lines()
            await anext(lines)
            await keys.DeleteKey(DeleteKeyRequest(id=made.key.id), metadata=metadata(ROOT))

            async def is_refused() -> bool:
                return (await ask(http, made.secret)).status_code == 401

            await answered(is_refused, within=5)
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"


async def test_calls_go_on_where_the_services_are_not_there(tmp_path: Path) -> None:
    async with world(tmp_path, {**KEYS, **LIMITS}, services={}) as front, front.client() as http:
        assert (await ask(http, ROOT)).status_code == 200
        refused = await ask(http, UNKNOWN)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/json")
        assert await passed(front) == 2
        assert await front.statistic("http.front.ext_authz.key.failure_mode_allowed") == 2


async def test_a_flood_with_unknown_keys_does_not_hold_up_a_known_one(tmp_path: Path) -> None:
    async with world(tmp_path, KEYS) as front, front.client(timeout=30) as http:
        secret = await account(front)
        assert (await ask(http, secret)).status_code == 200
        flood = [ask(http, f"sk-hg-{number:012d}{'x' * 32}") for number in range(300)]
        statuses = [answer.status_code for answer in await asyncio.gather(*flood, ask(http, secret))]
        assert statuses == [401] * 300 + [200]
        # Where the core is too slow to be asked, on a busy machine, Envoy lets calls on, and the core refuses them there.
        late = await front.statistic("http.front.ext_authz.key.failure_mode_allowed")
        assert late < 300
        assert await passed(front) == 2 + late
