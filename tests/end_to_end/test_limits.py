"""What callers are told of their limits, and what becomes of calls that are one too many."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import Gateway as GatewayMessage
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.rest_bridge.edge.eventually import eventually
from tests.support.gateway import Gateway, running
from tests.support.upstream import Silence, Upstream

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
CHAT = "/v1/chat/completions"
DAY = 86_400


@dataclass
class World:
    """A gateway, and the keys of an account with a plan and of one without."""

    gateway: Gateway
    channel: aio.Channel
    http: httpx.AsyncClient
    limited: str
    free: str

    async def ask(self, secret: str, **more: Any) -> httpx.Response:
        body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}], **more}
        return await self.http.post(CHAT, json=body, headers={"authorization": f"Bearer {secret}"})


@asynccontextmanager
async def world(directory: Path, plan: dict[str, Any], **config: Any) -> AsyncIterator[World]:
    store = Store.at(None, directory, {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    settings = Config.model_validate({"plans": {"limited": plan}, **config})
    async with (
        running(settings, store=store, root_key=ROOT) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        made = []
        for name, of in (("limited", "limited"), ("free", "")):
            request = CreateAccountRequest(account=Account(name=name, plan=of))
            made.append(await AccountServiceStub(channel).CreateAccount(request, metadata=bearer(ROOT)))
        limited, free = (response.secret for response in made)
        yield World(gateway, channel, http, limited, free)


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


def told(headers: Any) -> dict[str, str]:
    return {name: value for name, value in dict(headers).items() if name.startswith("x-ratelimit-")}


WINDOWS = {"windows": [{"window_seconds": DAY, "requests": 5, "input_tokens": 1000}]}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_tells_what_is_left_of_limits(tmp_path: Path, stream: bool) -> None:
    async with world(tmp_path, WINDOWS) as there:
        answers = [await there.ask(there.limited, stream=stream) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
        assert left == [4, 3, 2, 1, 0, 0]
        tokens = [int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in answers]
        # A stream begins with what is estimated; it is trued up at its end.
        assert 1000 > tokens[0] > tokens[4] > 900
        assert tokens[5] >= tokens[4]
        for answer in answers:
            assert answer.headers["x-ratelimit-limit-requests"] == "5"
            assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
            for measure in ("requests", "tokens"):
                assert answer.headers[f"x-ratelimit-reset-{measure}"].endswith("s")
        assert told((await there.ask(there.free, stream=stream)).headers) == {}
        assert told((await there.ask(ROOT, stream=stream)).headers) == {}


DEAR = {
    "providers": {"echo": {"kind": "echo"}},
    "models": {"dear": {"targets": [{"provider": "echo", "model": "echo"}], "price": {"output_per_million": "1"}}},
}


@pytest.mark.parametrize("parameter", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_below_one_is_refused_as_none_where_nothing_is_left(
    tmp_path: Path, parameter: str, stream: bool
) -> None:
    async with world(tmp_path, WINDOWS, **DEAR) as there:
        refused = await there.ask(there.limited, model="dear", stream=stream, **{parameter: -1})
        assert refused.status_code == 402
        assert refused.json()["error"]["message"].startswith("Nothing of the account's balance is left")
        # What is refused takes nothing of the windows, and tells what is left of them, each once.
        assert refused.headers.get_list("x-ratelimit-remaining-requests") == ["5"]
        assert refused.headers.get_list("x-ratelimit-remaining-tokens") == ["1000"]


async def test_a_limit_below_one_of_a_gateway_is_refused_as_none_where_nothing_is_left(tmp_path: Path) -> None:
    async with world(tmp_path, WINDOWS, **DEAR) as there:
        made = GatewayMessage(name="a", model="dear", parameters=ChatCompletionSpec(max_completion_tokens=-1))
        stub = GatewayServiceStub(there.channel)
        gateway = await stub.CreateGateway(CreateGatewayRequest(gateway=made), metadata=bearer(there.limited))
        assert (await there.ask(there.limited, model=gateway.gateway.slug)).status_code == 402


async def test_a_window_that_is_full_is_told_once(tmp_path: Path) -> None:
    async with world(tmp_path, {"windows": [{"window_seconds": DAY, "requests": 1}]}) as there:
        assert [(await there.ask(there.limited)).status_code for _ in range(2)] == [200, 429]
        refused = await there.ask(there.limited)
        assert refused.headers.get_list("x-ratelimit-remaining-requests") == ["0"]
        assert f"try again in {refused.headers['retry-after']} second" in refused.json()["error"]["message"]


async def test_grpc_tells_it_at_the_end_of_an_answer_and_at_the_beginning_of_a_stream(tmp_path: Path) -> None:
    async with world(tmp_path, WINDOWS) as there:
        stub = ChatCompletionServiceStub(there.channel)
        unary = CreateChatCompletionRequest()
        streaming = StreamChatCompletionRequest()
        for spec in (unary.spec, streaming.spec):
            spec.model = "echo/echo"
            spec.messages.add(role=ROLE_USER, text="Hi")
        call = stub.CreateChatCompletion(unary, metadata=bearer(there.limited))
        await call
        assert told(await call.trailing_metadata())["x-ratelimit-remaining-requests"] == "4"
        stream = stub.StreamChatCompletion(streaming, metadata=bearer(there.limited))
        assert told(await stream.initial_metadata())["x-ratelimit-remaining-requests"] == "3"
        assert [event async for event in stream]
        call = stub.CreateChatCompletion(unary, metadata=bearer(there.free))
        await call
        assert told(await call.trailing_metadata()) == {}


async def test_a_call_that_waits_too_long_is_refused_over_rest_and_at_its_deadline_over_grpc(tmp_path: Path) -> None:
    plan = {"concurrent_calls_per_key": 1, "queued_calls_per_key": 1, "queue_seconds": 1}
    async with Upstream() as upstream:
        config = {
            "providers": {"vendor": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
            "unpriced_models": "allow",
        }
        async with world(tmp_path, plan, **config) as there:
            upstream.script([Silence()])
            first = asyncio.create_task(there.ask(there.limited, model="vendor/large"))
            await eventually(lambda: bool(upstream.requests))
            refused = await there.ask(there.limited)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["error"]["code"] == "concurrency_limited"
            request = CreateChatCompletionRequest()
            request.spec.model = "echo/echo"
            request.spec.messages.add(role=ROLE_USER, text="Hi")
            stub = ChatCompletionServiceStub(there.channel)
            with pytest.raises(aio.AioRpcError) as late:
                await stub.CreateChatCompletion(request, metadata=bearer(there.limited), timeout=0.1)
            assert late.value.code() is StatusCode.DEADLINE_EXCEEDED
            first.cancel()
            await asyncio.wait({first})
            assert (await there.ask(there.limited)).status_code == 200
            lines = (await there.http.get("/metrics")).text.splitlines()
            assert "headgate_calls_queued 0.0" in lines


async def test_the_balance_tells_what_the_headers_tell(tmp_path: Path) -> None:
    async with world(tmp_path, {"windows": [{"window_seconds": DAY, "requests": 400}]}) as there:
        answer = await there.ask(there.limited)
        left = int(answer.headers["x-ratelimit-remaining-requests"])
        balance = await there.http.get("/api/v1/balance", headers={"authorization": f"Bearer {there.limited}"})
        assert [limit["remaining"] for limit in balance.json()["data"]["limits"]] == [left] == [399]


async def test_a_prompt_that_no_window_ever_takes_is_wrong_and_not_one_too_many(tmp_path: Path) -> None:
    plan = {"windows": [{"window_seconds": DAY, "input_tokens": 50}]}
    async with world(tmp_path, plan) as there:
        messages = [{"role": "user", "content": "hello " * 100}]
        answer = await there.ask(there.limited, messages=messages)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "retry-after" not in answer.headers
        assert (await there.ask(there.limited)).status_code == 200
