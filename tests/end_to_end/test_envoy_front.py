"""What an Envoy adds in front, through the real one over TLS: cost in its log, JSON from RPCs, browsers' gRPC, walls."""

import base64
import json
import re
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import StatusCode, aio
from headgate.v1.account_service_pb2 import GetAccountResponse, ListAccountsResponse
from headgate.v1.balance_service_pb2 import GetBalanceResponse
from headgate.v1.chat_completion_service_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionRequest,
    StreamChatCompletionResponse,
)
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.gateway_service_pb2 import GetGatewayResponse, ListGatewaysResponse
from headgate.v1.key_service_pb2 import CreateKeyResponse, GetKeyResponse, ListKeysResponse
from headgate.v1.message_pb2 import ROLE_USER
from ollama import AsyncClient
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway_core.config import Config
from gateway_core.services.edge import Bridges
from gateway_core.storage.store import Store
from rest_bridge.dialects.admin.response import json_object
from tests.support.envoy import Front, answered, fronted, needs_envoy
from tests.support.kept import ROOT, SECRET_KEY, bearer
from tests.support.openai_vendor import completion, event
from tests.support.upstream import Upstream, json_answer, sse_answer

pytestmark = needs_envoy

PAGE = "https://app.example.com"
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
"""What `completion` tells."""
PRICE = {"input_per_million": "1", "output_per_million": "2"}
COST = "0.000017"
KEY = {"authorization": f"Bearer {ROOT}"}
CHAT = "/headgate.v1.ChatCompletionService/"
ENVOY = {"transcode": "/proto"}
HI: list[Any] = [{"role": "user", "content": "hi"}]


def config(upstream: Upstream, **more: Any) -> Config:
    return Config.model_validate(
        {
            "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
            "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}], "price": PRICE}},
            "cors": {"allowed_origins": [PAGE]},
            "limits": {"trusted_bridges": ["127.0.0.1/32"]},
            **more,
        }
    )


@pytest.fixture
async def front(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Front]:
    store = Store.at(None, tmp_path, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    async with fronted(config(upstream), tmp_path, ENVOY, store=store, root_key=ROOT) as started:
        yield started


@pytest.fixture
async def sdk(front: Front) -> AsyncIterator[AsyncOpenAI]:
    async with DefaultAsyncHttpxClient(trust_env=False, verify=front.verify) as http:
        yield AsyncOpenAI(base_url=f"{front.url}/v1", api_key=ROOT, max_retries=0, http_client=http)


def spec(said: str = "hi", model: str = "small") -> Any:
    return {"model": model, "messages": [{"role": ROLE_USER, "text": said}]}


def answering(upstream: Upstream) -> None:
    chunks = [event({"content": "Hello"}), event({}, "stop"), {**event({}), "choices": [], "usage": USAGE}]
    upstream.script(
        lambda received: (
            sse_answer(chunks) if received.json().get("stream") else json_answer(completion({"content": "Hello"}))
        )
    )


async def test_the_access_log_has_tokens_and_cost_of_whole_answers_and_streams(
    front: Front, sdk: AsyncOpenAI, upstream: Upstream
) -> None:
    answering(upstream)
    await sdk.chat.completions.create(model="small", messages=HI)
    async for _ in await sdk.chat.completions.create(model="small", messages=HI, stream=True):
        pass
    async with front.channel() as channel:
        stub: Any = ChatCompletionServiceStub(channel)
        await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec()), metadata=bearer(ROOT))
        async for _ in stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec()), metadata=bearer(ROOT)):
            pass
    told = ("cluster", "input_tokens", "output_tokens", "cost_usd", "provider")
    assert [[line[key] for key in told] for line in await front.lines(4)] == [
        ["bridge", "9", "4", COST, "lab"],
        ["bridge", "9", "4", COST, "lab"],
        ["core", "9", "4", COST, "lab"],
        ["core", "9", "4", COST, "lab"],
    ]


async def test_ollamas_sdk_is_answered_over_tls_and_its_cost_is_logged(front: Front, upstream: Upstream) -> None:
    answering(upstream)
    async with AsyncClient(host=front.url, headers=KEY, verify=front.verify, trust_env=False) as client:
        said = [part.message.content async for part in await client.chat("small", HI, stream=True)]
        assert "".join(filter(None, said)) == "Hello"
        assert (await client.chat("small", HI)).message.content == "Hello"
    assert [line["cost_usd"] for line in await front.lines(2)] == [COST, COST]


@pytest.mark.parametrize(
    ("path", "response"),
    [
        ("/api/v1/accounts", ListAccountsResponse),
        ("/api/v1/accounts/me", GetAccountResponse),
        ("/api/v1/keys", ListKeysResponse),
        ("/api/v1/gateways", ListGatewaysResponse),
        ("/api/v1/gateways/g1", GetGatewayResponse),
        ("/api/v1/balance", GetBalanceResponse),
    ],
)
async def test_transcoded_json_is_the_bridges_data(front: Front, path: str, response: type[Message]) -> None:
    async with front.client(headers=KEY) as client:
        gateway = {"slug": "g1", "name": "é", "model": "small", "parameters": {"temperature": 0.5}}
        made = await client.post("/api/v1/gateways", json=gateway)
        assert made.status_code == 201 or made.status_code == 200, made.text
        path = path.replace("g1", made.json()["data"]["id"])
        direct, transcoded = await client.get(path), await client.get(f"/proto{path}")
    assert (direct.status_code, transcoded.status_code) == (200, 200), transcoded.text
    assert transcoded.headers["content-type"] == "application/json"
    message = json_format.Parse(transcoded.text, response())
    shown = json_object(message)
    shown.pop("next_page_token", None)
    (data,) = shown.values() if len(shown) == 1 else (shown,)
    assert json.loads(json.dumps(data, default=str)) == direct.json()["data"]


async def test_the_access_log_tells_what_was_asked_and_not_what_it_became(front: Front) -> None:
    async with front.client(headers=KEY) as client:
        await client.get("/proto/api/v1/keys")
        await client.get("/proto/api/v1/keys/0190a5a0-0000-7000-8000-000000000000")
        await client.get("/healthz", headers={"x-envoy-original-method": "DELETE", "x-envoy-original-path": "/x"})
    async with front.channel() as channel:
        request = CreateChatCompletionRequest(spec=spec(model="echo/echo"))
        stub: Any = ChatCompletionServiceStub(channel)
        await stub.CreateChatCompletion(request, metadata=bearer(ROOT))
    lines = await front.lines(4)
    keys = "/proto/api/v1/keys"
    assert [(line["method"], line["path"], line["status"], line["grpc_status"]) for line in lines] == [
        ("GET", keys, 200, None),
        ("GET", f"{keys}/0190a5a0-0000-7000-8000-000000000000", 404, None),
        ("GET", "/healthz", 200, None),
        ("POST", f"{CHAT}CreateChatCompletion", 200, "OK"),
    ]


async def test_what_is_made_through_transcoded_json_is_there(front: Front) -> None:
    async with front.client(headers=KEY) as client:
        answer = await client.post("/proto/api/v1/keys", json={"kind": "KEY_KIND_PRIVATE", "label": "app"})
        assert answer.status_code == 200, answer.text
        made = json_format.Parse(answer.text, CreateKeyResponse())
        assert made.secret.startswith("sk-hg-")
        assert (await client.get(f"/api/v1/keys/{made.key.id}")).json()["data"]["label"] == "app"
        shown = await client.get(f"/proto/api/v1/keys/{made.key.id}")
        assert json_format.Parse(shown.text, GetKeyResponse()).key == made.key
        assert (await client.get("/proto/api/v1/keys", headers={"authorization": "Bearer sk-hg-no"})).status_code == 401
        missing = await client.get("/proto/api/v1/keys/0190a5a0-0000-7000-8000-000000000000")
        assert missing.status_code == 404
        assert missing.json()["details"][0]["reason"] == "ERROR_REASON_NOT_FOUND"
        assert (await client.get("/proto/api/v1/nothing")).status_code == 404
        assert (await client.get("/proto/api/v1/keys?labl=a")).status_code == 400


def frame(message: Message) -> bytes:
    body = message.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames of a gRPC-Web body: flag 0x80 are trailers (PROTOCOL-WEB.md of grpc)."""
    found = []
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        found.append((flag, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


async def test_a_browsers_grpc_is_answered_whole_and_streamed(front: Front, upstream: Upstream) -> None:
    answering(upstream)
    headers = {**KEY, "content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": PAGE}
    async with front.client(headers=headers) as client:
        whole = await client.post(
            f"{CHAT}CreateChatCompletion", content=frame(CreateChatCompletionRequest(spec=spec()))
        )
        streamed = await client.post(
            f"{CHAT}StreamChatCompletion", content=frame(StreamChatCompletionRequest(spec=spec()))
        )
        text = await client.post(
            f"{CHAT}CreateChatCompletion",
            content=base64.b64encode(frame(CreateChatCompletionRequest(spec=spec()))),
            headers={"content-type": "application/grpc-web-text", "accept": "application/grpc-web-text"},
        )
    assert whole.headers["access-control-allow-origin"] == PAGE
    (_, message), (flag, trailers) = frames(whole.content)
    assert CreateChatCompletionResponse.FromString(message).completion.choices[0].message.content == "Hello"
    assert flag == 0x80
    assert b"grpc-status:0\r\n" in trailers
    assert f"x-headgate-cost:{COST}\r\n".encode() in trailers
    *chunks, (flag, trailers) = frames(streamed.content)
    responses = [StreamChatCompletionResponse.FromString(chunk) for _, chunk in chunks]
    said = "".join(choice.delta.content for response in responses for choice in response.chunk.choices)
    assert (said, flag) == ("Hello", 0x80)
    # Pieces of base64, each padded for itself.
    pieces = re.findall(rb"[^=]+={0,2}", text.content)
    assert frames(b"".join(map(base64.b64decode, pieces)))[0] == (0, message)


async def test_browsers_learn_which_pages_may_call(front: Front) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-grpc-web"}
    async with front.client() as client:
        for path in (f"{CHAT}CreateChatCompletion", "/v1/chat/completions"):
            ours = await client.options(path, headers={"origin": PAGE, **asked})
            assert ours.status_code == 200
            assert ours.headers["access-control-allow-origin"] == PAGE
            assert "authorization" in ours.headers["access-control-allow-headers"]
            other = await client.options(path, headers={"origin": "https://evil.example.com", **asked})
            assert "access-control-allow-origin" not in other.headers
            assert other.status_code in (403, 404, 405)


async def test_a_body_of_32_mib_passes(sdk: AsyncOpenAI) -> None:
    said = "x" * ((32 << 20) - 200)
    answer = await sdk.chat.completions.create(model="echo/echo", messages=[{"role": "user", "content": said}])
    assert answer.choices[0].message.content == said


async def test_a_grpc_message_of_nearly_64_mib_passes_both_ways(front: Front) -> None:
    said = "x" * (63 << 20)
    async with front.channel() as channel:
        stub: Any = ChatCompletionServiceStub(channel)
        request = CreateChatCompletionRequest(spec=spec(said, "echo/echo"))
        answer = await stub.CreateChatCompletion(request, metadata=bearer(ROOT), timeout=60)
        assert len(answer.completion.choices[0].message.content) == len(said)
        request.spec.messages[0].text = "x" * (65 << 20)
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.CreateChatCompletion(request, metadata=bearer(ROOT), timeout=60)
    assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_a_flood_from_one_address_ends_at_the_wall(upstream: Upstream, tmp_path: Path) -> None:
    wall = {"per_address": {"requests_per_second": 1, "burst": 3, "addresses": 2}, "trusted_hops": 1}
    async with fronted(config(upstream, authentication="optional"), tmp_path, wall) as front:
        async with front.client(headers={"x-forwarded-for": "198.51.100.1"}) as client:
            answers = [await client.get("/healthz") for _ in range(12)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert [answer.status_code for answer in answers[:3]] == [200] * 3
            assert refused
            assert refused[0].headers["retry-after"] == "1"
            assert refused[0].json()["error"]["message"] == "local_rate_limited"
            other = await client.get("/healthz", headers={"x-forwarded-for": "198.51.100.2"})
            assert other.status_code == 200
        assert await front.statistic("per_address.http_local_rate_limit.rate_limited") == len(refused)


async def test_callers_are_told_by_their_address_over_grpc_too(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a caller says of its own address does not pass: else it would have windows without end."""
    seen: list[str] = []
    original = Bridges.caller_address

    def noted(self: Bridges, context: Any, metadata: Mapping[str, str]) -> str:
        seen.append(original(self, context, metadata))
        return seen[-1]

    monkeypatch.setattr(Bridges, "caller_address", noted)
    async with fronted(config(upstream), tmp_path, {"trusted_hops": 1}) as front, front.channel() as channel:
        stub: Any = ChatCompletionServiceStub(channel)
        said = (("x-headgate-client", "203.0.113.9"), ("x-forwarded-for", "203.0.113.8, 198.51.100.7"))
        await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec(model="echo/echo")), metadata=said)
        (line,) = await front.lines(1)
    assert line["client"] == "198.51.100.7"
    assert seen == ["198.51.100.7"]


async def test_what_envoy_refuses_is_json_for_sdks_and_a_status_for_grpc(upstream: Upstream, tmp_path: Path) -> None:
    async with fronted(config(upstream), tmp_path) as front, front.channel() as channel:
        await front.gateway.core.drain()
        await answered(lambda: front.calls_off("core"))
        await answered(lambda: front.calls_off("bridge"))
        async with front.client() as client:
            refused = await client.get("/v1/models")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/json")
        assert refused.json()["error"]["message"] == "no healthy upstream"
        stub: Any = ChatCompletionServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as failed:
            await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec()))
    assert (failed.value.code(), failed.value.details()) == (StatusCode.UNAVAILABLE, "no healthy upstream")
