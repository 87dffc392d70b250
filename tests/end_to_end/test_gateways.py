"""Gateways, by OpenAI's SDK and gRPC, in front of a scripted vendor."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from headgate.v1 import key_pb2
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import Gateway, GatewayOverrides, OwnEndpoint
from headgate.v1.gateway_service_pb2 import (
    CreateGatewayRequest,
    DeleteGatewayRequest,
    GetGatewayRequest,
    ListGatewaysRequest,
    UpdateGatewayRequest,
)
from headgate.v1.key_service_pb2 import CreateKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage
from headgate.v1.tool_pb2 import FunctionTool, Tool
from openai import AsyncOpenAI, BadRequestError, NotFoundError, PermissionDeniedError
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.kept import ROOT, Kept, bearer, kept
from tests.support.upstream import Upstream, Wait, json_answer, sse_answer

HI: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hi"}]
OWN_KEY = "sk-own-0123456789abcdef"


def answer(text: str = "Hello", model: str = "tiny-2026") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny-2026", "choices": [choice]}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as vendor:
        vendor.script(json_answer(answer()))
        yield vendor


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path, upstream) as opened:
        yield opened


async def ask(sdk: AsyncOpenAI, model: str, **more: Any) -> Any:
    return await sdk.chat.completions.with_raw_response.create(model=model, messages=HI, **more)


async def test_a_gateway_is_asked_by_its_slug_and_its_id(world: Kept) -> None:
    made = await world.create(name="support", model="small", instructions="Be kind.")
    for name in (made.slug, made.id):
        response = await ask(world.sdk, name)
        assert response.headers["x-headgate-gateway"] == made.id
        assert response.parse().model == "tiny-2026"
        sent = world.upstream.requests[-1].json()
        assert sent["model"] == "tiny"
        assert sent["messages"] == [{"role": "system", "content": "Be kind."}, *HI]


async def test_a_model_that_is_no_gateway_is_asked_as_before(world: Kept) -> None:
    await world.create(name="support", model="small", instructions="Be kind.")
    for name in ("small", "lab/tiny"):
        response = await ask(world.sdk, name)
        assert "x-headgate-gateway" not in response.headers
        assert world.upstream.requests[-1].json()["messages"] == HI


async def test_what_may_not_be_overridden_stands_and_a_warning_says_so(world: Kept) -> None:
    parameters = ChatCompletionSpec(temperature=0.5, seed=1)
    overrides = GatewayOverrides(parameters=["seed"])
    made = await world.create(name="g", model="small", parameters=parameters, overrides=overrides)
    response = await ask(world.sdk, made.slug, temperature=1, seed=7)
    sent = world.upstream.requests[-1].json()
    assert (sent["temperature"], sent["seed"]) == (0.5, 7)
    assert response.headers["x-headgate-warning"].startswith("temperature: the gateway's value stands")


async def test_the_list_of_models_has_the_accounts_gateways(world: Kept) -> None:
    made = await world.create(name="support", model="small")
    own = OwnEndpoint(base_url=world.upstream.base_url, model="mine")
    other = await world.create(name="own", endpoint=own)
    listed = {model.id: model for model in (await world.sdk.models.list()).data}
    assert {"small", made.slug, other.slug} <= listed.keys()
    assert listed[made.slug].created == made.create_time.seconds
    assert (await world.sdk.models.retrieve(made.id)).id == made.slug
    bob = await account(world, "bob")
    assert made.slug not in {model.id for model in (await world.sdk_of(bob).models.list()).data}


async def account(world: Kept, name: str, **fields: Any) -> str:
    request = CreateAccountRequest(account=Account(name=name, **fields))
    secret: str = (await AccountServiceStub(world.channel).CreateAccount(request, metadata=bearer(ROOT))).secret
    return secret


async def test_another_accounts_gateway_is_not_there(world: Kept) -> None:
    made = await world.create(name="support", model="small")
    bob = await account(world, "bob")
    for name in (made.id, made.slug):
        with pytest.raises(NotFoundError):
            await ask(world.sdk_of(bob), name)
        for act in (
            world.gateways.GetGateway(GetGatewayRequest(id=name), metadata=bearer(bob)),
            world.gateways.DeleteGateway(DeleteGatewayRequest(id=name), metadata=bearer(bob)),
            world.gateways.UpdateGateway(UpdateGatewayRequest(gateway=Gateway(id=name)), metadata=bearer(bob)),
        ):
            with pytest.raises(aio.AioRpcError) as failure:
                await act
            assert failure.value.code() == StatusCode.NOT_FOUND
    listed = await world.gateways.ListGateways(ListGatewaysRequest(), metadata=bearer(bob))
    assert not listed.gateways


async def test_a_gateway_needs_a_key(world: Kept) -> None:
    request = CreateGatewayRequest(gateway=Gateway(name="g", model="small"))
    with pytest.raises(aio.AioRpcError) as failure:
        await world.gateways.CreateGateway(request)
    assert failure.value.code() == StatusCode.UNAUTHENTICATED


async def test_a_model_that_is_allowed_is_allowed_by_way_of_a_gateway_and_no_other(world: Kept) -> None:
    small = await world.create(name="s", model="small")
    echo = await world.create(name="e", model="echo/echo")
    keys = KeyServiceStub(world.channel)

    async def sdk(*allowed: str) -> AsyncOpenAI:
        request = CreateKeyRequest(label="k", kind=key_pb2.KEY_KIND_PRIVATE, allowed_models=allowed)
        return world.sdk_of((await keys.CreateKey(request, metadata=bearer(ROOT))).secret)

    await ask(await sdk("small"), small.slug)
    await ask(await sdk(small.slug), small.id)
    await ask(await sdk(small.id), small.slug)
    for allowed, name in (("small", echo.slug), (small.slug, "small"), (small.slug, echo.id), ("small", "lab/tiny")):
        with pytest.raises(PermissionDeniedError):
            await ask(await sdk(allowed), name)


async def test_a_public_key_asks_by_the_whole_id_and_gets_no_tools(world: Kept) -> None:
    parameters = ChatCompletionSpec(tools=[Tool(function=FunctionTool(name="weather"))], seed=3)
    made = await world.create(name="g", model="small", parameters=parameters)
    request = CreateKeyRequest(label="p", kind=key_pb2.KEY_KIND_PUBLIC)
    key = (await KeyServiceStub(world.channel).CreateKey(request, metadata=bearer(ROOT))).secret
    await ask(world.sdk_of(key), made.id)
    sent = world.upstream.requests[-1].json()
    assert sent["seed"] == 3
    assert "tools" not in sent
    with pytest.raises(PermissionDeniedError):
        await ask(world.sdk_of(key), made.slug)
    await ask(world.sdk, made.id)
    assert "tools" in world.upstream.requests[-1].json()


async def test_a_prefill_is_echoed_in_a_whole_answer_and_in_a_stream(world: Kept) -> None:
    made = await world.create(name="g", model="small", prefill='{"a":', echo_prefill=True)
    world.upstream.script(json_answer(answer(" 1}")))
    response = await ask(world.sdk, made.slug)
    assert response.parse().choices[0].message.content == '{"a": 1}'
    chunks = [chunk({"role": "assistant", "content": ""}), chunk({"content": " 1"}), chunk({"content": "}"}, "stop")]
    world.upstream.script(sse_answer(chunks))
    stream = await world.sdk.chat.completions.create(model=made.slug, messages=HI, stream=True)
    texts = [part.choices[0].delta.content async for part in stream if part.choices]
    assert "".join(text or "" for text in texts) == '{"a": 1}'
    assert world.upstream.requests[-1].json()["messages"][-1] == {"role": "assistant", "content": '{"a":'}


async def test_a_caller_that_leaves_an_echoed_stream_closes_the_upstream(world: Kept) -> None:
    made = await world.create(name="g", model="small", prefill="{", echo_prefill=True)
    world.upstream.script(sse_answer([chunk({"content": "1"}), Wait(asyncio.Event())]))
    stream = await world.sdk.chat.completions.create(model=made.slug, messages=HI, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await asyncio.wait_for(world.upstream.requests[-1].closed.wait(), 5)


async def test_a_prompt_that_is_too_long_is_refused_or_cut(world: Kept) -> None:
    refusing = await world.create(name="r", model="small", context_limit_tokens=20)
    with pytest.raises(BadRequestError) as failure:
        await ask(world.sdk, refusing.slug, extra_body={"messages": [{"role": "user", "content": "x" * 1000}]})
    assert failure.value.param == "messages"
    assert not world.upstream.requests
    cutting = await world.create(name="c", model="small", context_limit_tokens=20, context_overflow_action=2)
    old = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y"}]
    response = await ask(world.sdk, cutting.slug, extra_body={"messages": [*old, *HI]})
    assert world.upstream.requests[-1].json()["messages"] == [old[1], *HI]
    assert "left out" in response.headers["x-headgate-warning"]


async def test_a_place_in_an_error_is_that_of_the_callers_own_message(world: Kept) -> None:
    made = await world.create(name="g", model="small", instructions="Be kind.")
    messages = [ChatMessage(role=ROLE_USER, text="a"), ChatMessage(text="b")]
    request = CreateChatCompletionRequest(spec=ChatCompletionSpec(model=made.slug, messages=messages))
    with pytest.raises(aio.AioRpcError, match=r"messages\[1\]\.role"):
        await ChatCompletionServiceStub(world.channel).CreateChatCompletion(request, metadata=bearer(ROOT))


async def test_a_running_stream_keeps_the_version_that_it_began_with(world: Kept) -> None:
    made = await world.create(name="g", model="small", prefill="one ", echo_prefill=True)
    go_on = asyncio.Event()
    steps = [chunk({"role": "assistant"}), Wait(go_on), chunk({"content": "end"}, "stop")]
    world.upstream.script(sse_answer(steps))
    running = await world.sdk.chat.completions.create(model=made.slug, messages=HI, stream=True)
    changed = Gateway(id=made.id, prefill="two ")
    await world.gateways.UpdateGateway(UpdateGatewayRequest(gateway=changed), metadata=bearer(ROOT))
    world.upstream.script(json_answer(answer("end")))
    after = await ask(world.sdk, made.slug)
    await world.gateways.DeleteGateway(DeleteGatewayRequest(id=made.id), metadata=bearer(ROOT))
    go_on.set()
    texts = [part.choices[0].delta.content or "" async for part in running if part.choices]
    assert "".join(texts) == "one end"
    assert after.parse().choices[0].message.content == "two end"
    with pytest.raises(NotFoundError):
        await ask(world.sdk, made.slug)


async def test_an_own_endpoint_is_asked_with_its_own_key(world: Kept) -> None:
    async with Upstream() as own:
        own.script(json_answer(answer("mine", "own-1")))
        endpoint = OwnEndpoint(base_url=own.base_url, model="mine", api_key=OWN_KEY)
        parameters = ChatCompletionSpec(extra_json='{"flavour":1}')
        made = await world.create(name="own", endpoint=endpoint, parameters=parameters)
        response = await ask(world.sdk, made.slug)
        sent = own.requests[-1]
        assert sent.headers["authorization"] == f"Bearer {OWN_KEY}"
        assert sent.json() == {"model": "mine", "messages": HI, "flavour": 1}
        assert response.headers["x-headgate-provider"] == "gateway/endpoint"
        assert response.parse().model == "own-1"
        moved = Gateway(id=made.id, endpoint=OwnEndpoint(base_url=own.base_url + "/v2", model="mine"))
        await world.gateways.UpdateGateway(UpdateGatewayRequest(gateway=moved), metadata=bearer(ROOT))
        await ask(world.sdk, made.slug)
        assert own.requests[-1].path == "/v1/v2/chat/completions"
        assert "authorization" not in own.requests[-1].headers
    assert not world.upstream.requests


async def test_an_endpoint_within_the_operators_network_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    async with kept(tmp_path, upstream, private_endpoint_networks=[]) as world:
        for url in (upstream.base_url, "http://169.254.169.254/v1"):
            with pytest.raises(aio.AioRpcError) as failure:
                await world.create(name="g", endpoint=OwnEndpoint(base_url=url, model="m"))
            assert failure.value.code() == StatusCode.INVALID_ARGUMENT
    assert upstream.connection_count == 0


async def test_a_gateway_is_there_after_a_restart(upstream: Upstream, tmp_path: Path) -> None:
    async with kept(tmp_path, upstream) as world:
        made = await world.create(name="g", model="small", instructions="Be kind.")
    async with kept(tmp_path, upstream) as world:
        await ask(world.sdk, made.slug)
        assert upstream.requests[-1].json()["messages"][0]["content"] == "Be kind."
