"""What the core answers an Envoy that asks about requests: asked over real gRPC, in Envoy's own words."""

import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from headgate.envoy.v1.authorization_pb2 import CheckRequest, CheckResponse
from headgate.envoy.v1.header_pb2 import HeaderValue
from headgate.envoy.v1.rate_limit_pb2 import RateLimitRequest, RateLimitResponse
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, GetAccountRequest, UpdateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.gateway_pb2 import Gateway as GatewayMessage
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceStub
from headgate.v1.key_pb2 import KEY_KIND_PRIVATE, KEY_KIND_PUBLIC
from headgate.v1.key_service_pb2 import CreateKeyRequest, DeleteKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub

from gateway_core.config import Config
from gateway_core.services.envoy_request import needs_key
from gateway_core.storage.store import Store
from tests.support.certificate import self_signed
from tests.support.envoy import answered
from tests.support.gateway import Gateway, running

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
UNKNOWN = "sk-hg-unknown00000abcdefghijklmnopqrstuvwxyz0123456789"
CHAT = "/v1/chat/completions"
GRPC_CHAT = "/headgate.v1.ChatCompletionService/CreateChatCompletion"
BOTH = {"authorization": True, "rate_limit": True}
TWO_A_DAY = {"plans": {"limited": {"windows": [{"window_seconds": 86400, "requests": 2}]}}}


class World:
    """A gateway, and what asks it as Envoy does."""

    def __init__(self, gateway: Gateway, channel: aio.Channel, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.channel = channel
        self.http = http
        self._check = channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )
        self._limit = channel.unary_unary(
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            request_serializer=RateLimitRequest.SerializeToString,
            response_deserializer=RateLimitResponse.FromString,
        )

    async def check(
        self, headers: Mapping[str, str], path: str = CHAT, method: str = "POST", address: str = "192.0.2.1"
    ) -> CheckResponse:
        request = CheckRequest()
        request.attributes.source.address.socket_address.address = address
        http = request.attributes.request.http
        http.method, http.path = method, path
        http.headers.update(headers)
        answer: CheckResponse = await self._check(request)
        return answer

    async def limit(self, *descriptors: Mapping[str, str]) -> RateLimitResponse:
        request = RateLimitRequest(domain="headgate")
        request.MergeFromString(b"\x18\x64")  # hits_addend: 100
        for entries in descriptors:
            descriptor = request.descriptors.add()
            for key, value in entries.items():
                descriptor.entries.add(key=key, value=value)
        answer: RateLimitResponse = await self._limit(request)
        return answer

    async def account(self, plan: str = "") -> str:
        request = CreateAccountRequest(account=Account(name="a", plan=plan))
        return str((await AccountServiceStub(self.channel).CreateAccount(request, metadata=metadata(ROOT))).secret)

    async def ask(self, secret: str, **more: Any) -> httpx.Response:
        body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}], **more}
        return await self.http.post(CHAT, json=body, headers=bearer(secret))

    async def metrics(self) -> str:
        return (await self.http.get("/metrics")).text


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def metadata(secret: str) -> tuple[tuple[str, str], ...]:
    return tuple(bearer(secret).items())


@asynccontextmanager
async def world(directory: Path, services: Mapping[str, Any] = BOTH, **config: Any) -> AsyncIterator[World]:
    store = Store.at(None, directory, {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    settings = Config.model_validate({"envoy_services": services, **config})
    async with (
        running(settings, store=store, root_key=ROOT) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        yield World(gateway, channel, http)


def denied(answer: CheckResponse) -> tuple[int, dict[str, str], str]:
    """Status, header fields and body of a refusal."""
    assert answer.status.code == StatusCode.PERMISSION_DENIED.value[0]
    assert answer.WhichOneof("http_response") == "denied_response"
    response = answer.denied_response
    return (
        response.status.code,
        {option.header.key: option.header.value for option in response.headers},
        response.body,
    )


def is_let_through(answer: CheckResponse) -> bool:
    return answer.status.code == 0 and answer.WhichOneof("http_response") == "ok_response"


CARRIERS: dict[str, Callable[[str], tuple[dict[str, str], str]]] = {
    "bearer": lambda key: (bearer(key), CHAT),
    "basic": lambda key: ({"authorization": "Basic " + base64.b64encode(f"u:{key}".encode()).decode()}, CHAT),
    "x-api-key": lambda key: ({"x-api-key": key}, CHAT),
    "api-key": lambda key: ({"api-key": key}, CHAT),
    "query": lambda key: ({}, f"{CHAT}?a=b&api-key={key}"),
    "several": lambda key: ({"authorization": f"Bearer nix,Bearer {key}"}, CHAT),
}


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_good_key_is_let_through_and_an_unknown_one_refused_wherever_it_is(
    tmp_path: Path, carrier: str
) -> None:
    async with world(tmp_path) as there:
        secret = await there.account()
        answer = await there.check(*CARRIERS[carrier](secret))
        assert is_let_through(answer)
        assert set(answer.dynamic_metadata) == {"account_id", "key_id"}
        assert secret not in str(answer)
        assert denied(await there.check(*CARRIERS[carrier](UNKNOWN)))[0] == 401


async def test_a_key_is_found_in_headers_that_come_one_by_one(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        request = CheckRequest()
        http = request.attributes.request.http
        http.method, http.path = "POST", CHAT
        http.header_map.headers.append(HeaderValue(key="authorization", raw_value=f"Bearer {ROOT}".encode()))
        assert is_let_through(await there._check(request))
        http.header_map.headers[0].raw_value = f"Bearer {UNKNOWN}".encode()
        assert denied(await there._check(request))[0] == 401


PATHS = (CHAT, "/v1/models", "/api/chat", "/api/v1/accounts/me", "/api/v1/ollama/api/tags")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", [{}, bearer(UNKNOWN), bearer("nix")])
async def test_a_refusal_is_what_the_bridge_would_have_said(tmp_path: Path, path: str, given: dict[str, str]) -> None:
    method = "POST" if path in (CHAT, "/api/chat") else "GET"
    body: Any = (
        {"json": {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}} if method == "POST" else {}
    )
    async with world(tmp_path) as there:
        headers = {**given, "x-request-id": "abc"}
        status, fields, said = denied(await there.check(headers, path, method))
        asked = await there.http.request(method, path, headers=headers, **body)
        assert (status, said) == (asked.status_code, asked.text)
        assert fields == {name: asked.headers[name] for name in fields}
        assert {"content-type", "www-authenticate", "x-request-id"} <= fields.keys()


async def test_a_grpc_caller_gets_the_status_that_the_core_gives(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        status, fields, message = denied(await there.check(bearer(UNKNOWN), GRPC_CHAT))
        assert (status, fields["grpc-status"]) == (401, str(StatusCode.UNAUTHENTICATED.value[0]))
        details = fields["grpc-status-details-bin"]
        rich = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
        info = error_details_pb2.ErrorInfo()
        assert rich.details[0].Unpack(info)
        assert (info.reason, rich.message) == ("ERROR_REASON_UNAUTHENTICATED", message)
        # A key in another place is none over gRPC.
        assert denied(await there.check({"x-api-key": ROOT}, GRPC_CHAT))[0] == 401


async def test_what_needs_no_key_is_let_through_without_one(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        open_paths = ("/healthz", "/metrics", "/", "/docs", "/api/version", "/grpc.health.v1.Health/Check")
        for path in (*open_paths, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
            assert is_let_through(await there.check(bearer(UNKNOWN), path, "GET")), path
        assert is_let_through(await there.check({"origin": "https://a.example"}, CHAT, "OPTIONS"))


async def test_whatever_path_the_bridge_has_needs_a_key_here_if_it_needs_one_there(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        tried = 0
        for path in sorted(await paths(there.http)):
            for method in ("GET", "POST"):
                answer = await there.http.request(method, path, json=None if method == "GET" else {})
                if answer.status_code == 401:
                    assert needs_key(method, path), (method, path)
                    tried += 1
                elif answer.status_code == 200:
                    assert not needs_key(method, path), (method, path)
        assert tried > 10


async def paths(http: httpx.AsyncClient) -> set[str]:
    """Every path that the description has, and those of the other dialects."""
    described = (await http.get("/openapi.json")).json()["paths"]
    more = {"/", "/api/version", "/api/ps", "/api/tags", "/api/show", "/healthz", "/metrics", "/docs"}
    ollama = {"/api/v1/ollama" + path for path in more if path.startswith(("/api", "/")) and path.count("/") < 3}
    return (
        {path.replace("{id}", "x") for path in described if "{" not in path.replace("{id}", "")}
        | more
        | {path for path in ollama if path.startswith("/api/v1/ollama/api") or path in {"/api/v1/ollama/"}}
    )


async def test_a_deleted_key_is_refused_as_soon_as_the_process_knows(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        await there.account()
        keys = KeyServiceStub(there.channel)
        made = await keys.CreateKey(CreateKeyRequest(kind=KEY_KIND_PRIVATE, label="k"), metadata=metadata(ROOT))
        assert is_let_through(await there.check(bearer(made.secret)))
        await keys.DeleteKey(DeleteKeyRequest(id=made.key.id), metadata=metadata(ROOT))

        async def is_refused() -> bool:
            return not is_let_through(await there.check(bearer(made.secret)))

        await answered(is_refused)


async def test_optional_authentication_lets_through_what_is_no_key(tmp_path: Path) -> None:
    async with world(tmp_path, authentication="optional") as there:
        for headers in ({}, bearer("nix")):
            assert is_let_through(await there.check(headers))
        assert denied(await there.check(bearer(UNKNOWN)))[0] == 401


async def test_who_shows_a_certificate_is_left_to_the_core(tmp_path: Path) -> None:
    shown = {"x-forwarded-client-cert": 'Subject="CN=batch"'}
    async with world(tmp_path) as there:
        assert denied(await there.check(shown, GRPC_CHAT))[0] == 401
    certificate, key = self_signed(tmp_path)
    files = {"certificate": certificate, "private_key": key, "client_authorities": certificate}
    config: dict[str, Any] = {"tls": {"http": files}, "client_certificates": {"accounts": {"CN=batch": "root"}}}
    async with world(tmp_path, **config) as there:
        assert is_let_through(await there.check(shown, GRPC_CHAT))
        for headers in ({}, {**shown, **bearer(UNKNOWN)}):
            assert denied(await there.check(headers, GRPC_CHAT))[0] == 401


async def test_without_storage_everybody_is_let_through(tmp_path: Path) -> None:
    settings = Config.model_validate({"storage": False, "envoy_services": BOTH})
    async with (
        running(settings) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
        httpx.AsyncClient() as http,
    ):
        there = World(gateway, channel, http)
        assert is_let_through(await there.check({}))
        assert (await there.limit({"remote_address": "192.0.2.1"})).overall_code == RateLimitResponse.CODE_OK


async def test_asking_counts_nothing_and_a_reached_limit_is_told(tmp_path: Path) -> None:
    async with world(tmp_path, **TWO_A_DAY) as there:
        secret = await there.account("limited")
        who = {"remote_address": "192.0.2.1", "authorization": f"Bearer {secret}", "path": CHAT}
        for _ in range(5):
            answer = await there.limit(who)
            assert answer.overall_code == RateLimitResponse.CODE_OK
            assert is_let_through(await there.check(bearer(secret)))
        assert [(await there.ask(secret)).status_code for _ in range(3)] == [200, 200, 429]
        refused = await there.ask(secret)
        answer = await there.limit({"remote_address": "192.0.2.1"}, who)
        assert answer.overall_code == RateLimitResponse.CODE_OVER_LIMIT
        assert [status.code for status in answer.statuses] == [
            RateLimitResponse.CODE_OK,
            RateLimitResponse.CODE_OVER_LIMIT,
        ]
        assert 0 < answer.statuses[1].duration_until_reset.seconds <= 86400
        told = {field.key: field.value for field in answer.response_headers_to_add}
        assert told["x-ratelimit-remaining-requests"] == "0"
        assert abs(int(told["retry-after"]) - int(refused.headers["retry-after"])) <= 5
        assert answer.raw_body.startswith(b'{"error":{"message":"The limit of 2 requests')
        # The other service says the same, and only of calls of models.
        status, fields, body = denied(await there.check(bearer(secret)))
        assert (status, fields["x-ratelimit-limit-requests"]) == (429, "2")
        assert body.startswith('{"error":{"message":"The limit of 2 requests')
        assert is_let_through(await there.check(bearer(secret), "/v1/models", "GET"))
        assert (await there.limit({**who, "path": "/v1/models"})).overall_code == RateLimitResponse.CODE_OK
        status, fields, _ = denied(await there.check(bearer(secret), GRPC_CHAT))
        assert (status, fields["grpc-status"]) == (429, str(StatusCode.RESOURCE_EXHAUSTED.value[0]))
        metrics = await there.metrics()
        assert 'headgate_refused_early_total{reason="rate_limited",service="rate_limit"} 1.0' in metrics
        assert 'headgate_refused_early_total{reason="rate_limited",service="authorization"} 2.0' in metrics


@pytest.mark.parametrize("value", ["Bearer {}", "{}"])
async def test_a_key_of_any_header_is_known_in_a_descriptor(tmp_path: Path, value: str) -> None:
    async with world(tmp_path, plans={"none": {"windows": [{"window_seconds": 3600, "requests": 0}]}}) as there:
        secret = await there.account("none")
        who = {"authorization": value.format(secret)}
        # A key that this process has not seen is not looked up: the pipeline does.
        assert (await there.limit(who)).overall_code == RateLimitResponse.CODE_OK
        assert (await there.ask(secret)).status_code == 429
        answer = await there.limit(who)
        assert answer.overall_code == RateLimitResponse.CODE_OVER_LIMIT
        assert {field.key for field in answer.response_headers_to_add} >= {"retry-after"}


async def test_a_key_is_found_in_the_descriptor_that_the_bridge_would_take_it_from(tmp_path: Path) -> None:
    async with world(tmp_path, plans={"none": {"windows": [{"window_seconds": 3600, "requests": 0}]}}) as there:
        over, other = await there.account("none"), await there.account()
        for secret in (over, other):
            await there.ask(secret)

        async def is_over(path: str = CHAT, **entries: str) -> bool:
            named = {name.replace("_", "-"): value for name, value in entries.items()}
            answer = await there.limit({**named, "path": path})
            return answer.overall_code == RateLimitResponse.CODE_OVER_LIMIT

        assert await is_over(x_api_key=over, api_key=other)
        assert await is_over(api_key=over)
        assert await is_over(f"{CHAT}?api-key={other}&api-key={over}")
        assert await is_over(authorization=f"Bearer {over}", x_api_key=other)
        assert not await is_over(authorization=f"Bearer {other}", x_api_key=over)
        assert not await is_over(f"{CHAT}?api-key={over}", x_api_key=other)
        # Over gRPC a key is in one place alone.
        assert not await is_over(GRPC_CHAT, x_api_key=over)
        assert await is_over(GRPC_CHAT, authorization=f"Bearer {over}")


async def test_limits_of_who_shows_a_certificate_and_no_key_are_left_to_the_core(tmp_path: Path) -> None:
    """Else it would be taken for the operator, where that is who calls without a key."""
    plans = {"none": {"windows": [{"window_seconds": 86400, "requests": 0}]}}
    async with world(tmp_path, authentication="optional", plans=plans) as there:
        stub = AccountServiceStub(there.channel)
        root = (await stub.GetAccount(GetAccountRequest(id="me"), metadata=metadata(ROOT))).account.id
        request = UpdateAccountRequest(account=Account(id=root, plan="none"))
        request.update_mask.paths.append("plan")
        await stub.UpdateAccount(request, metadata=metadata(ROOT))
        for headers in ({}, bearer(ROOT)):
            body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}
            assert (await there.http.post(CHAT, json=body, headers=headers)).status_code == 429
        over, shown = RateLimitResponse.CODE_OVER_LIMIT, {"x-forwarded-client-cert": 'Hash=1;Subject="CN=batch"'}
        assert (await there.limit({"path": CHAT})).overall_code == over
        assert (await there.limit({"path": CHAT, **shown})).overall_code == RateLimitResponse.CODE_OK
        assert (await there.limit({"path": CHAT, **shown, **bearer(ROOT)})).overall_code == over


async def test_a_public_key_is_refused_by_its_address(tmp_path: Path) -> None:
    windows = {"per_address": [{"seconds": 86400, "requests": 1}], "per_key": []}
    async with world(tmp_path, public_keys=windows) as there:
        await there.account()
        made = GatewayMessage(name="g", model="echo/echo")
        gateways = GatewayServiceStub(there.channel)
        gateway = await gateways.CreateGateway(CreateGatewayRequest(gateway=made), metadata=metadata(ROOT))
        request = CreateKeyRequest(kind=KEY_KIND_PUBLIC, label="p")
        secret = (await KeyServiceStub(there.channel).CreateKey(request, metadata=metadata(ROOT))).secret
        assert is_let_through(await there.check(bearer(secret), address="127.0.0.1"))
        assert (await there.ask(secret, model=gateway.gateway.id)).status_code == 200
        assert denied(await there.check(bearer(secret), address="127.0.0.1"))[0] == 429
        assert is_let_through(await there.check(bearer(secret), address="192.0.2.7"))
        # Whom Envoy takes for the caller goes before who is connected to it: that may be a proxy.
        behind = {name: {**bearer(secret), "x-envoy-external-address": name} for name in ("127.0.0.1", "192.0.2.7")}
        assert denied(await there.check(behind["127.0.0.1"], address="192.0.2.7"))[0] == 429
        assert is_let_through(await there.check(behind["192.0.2.7"], address="127.0.0.1"))
        asked = {"authorization": f"Bearer {secret}", "remote_address": "127.0.0.1", "path": CHAT}
        assert (await there.limit(asked)).overall_code == RateLimitResponse.CODE_OVER_LIMIT


async def test_only_networks_that_are_allowed_may_ask(tmp_path: Path) -> None:
    async with world(tmp_path, {**BOTH, "allowed": ["192.0.2.0/24"]}) as there:
        for asked in (there.check(bearer(ROOT)), there.limit({"authorization": f"Bearer {ROOT}"})):
            with pytest.raises(aio.AioRpcError) as caught:
                await asked
            assert caught.value.code() is StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("on", ["authorization", "rate_limit", None])
async def test_what_is_not_switched_on_is_not_there(tmp_path: Path, on: str | None) -> None:
    async with world(tmp_path, {on: True} if on else {}) as there:
        for name, asked in (("authorization", there.check({})), ("rate_limit", there.limit({}))):
            if name == on:
                await asked
                continue
            with pytest.raises(aio.AioRpcError) as caught:
                await asked
            assert caught.value.code() is StatusCode.UNIMPLEMENTED
