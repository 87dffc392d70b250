"""The contract's own clients: generated stubs, over a socket and within the process, against a whole core."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.gateway_service_pb2 import GetGatewayRequest, ListGatewaysRequest, UpdateGatewayRequest
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from headgate.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub
from headgate.v1.usage_service_pb2 import ListUsageRecordsRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub

from gateway_core.config import Config
from tests.conftest import lab_config
from tests.support.gateway import MESSAGE_OPTIONS, Gateway, running
from tests.support.openai_vendor import completion, event, refusal, streamed
from tests.support.upstream import Cut, Silence, Upstream, chunk, head, json_answer, sse_answer, sse_event

HI: dict[str, Any] = {"role": ROLE_USER, "text": "hi"}
SERVICES = ("ChatCompletionService", "ModelService", "GatewayService", "UsageService")


@pytest.fixture
async def gateway(upstream: Upstream) -> AsyncIterator[Gateway]:
    async with running(lab_config(upstream.base_url)) as started:
        yield started


@pytest.fixture(params=["socket", "in process"])
async def channel(request: pytest.FixtureRequest, gateway: Gateway) -> AsyncIterator[aio.Channel]:
    if request.param == "in process":
        yield gateway.core.channel
        return
    async with aio.insecure_channel(gateway.grpc_address, MESSAGE_OPTIONS) as opened:
        yield opened


def unary(channel: aio.Channel, metadata: Any = None, timeout: float | None = 30, **fields: Any) -> Any:
    spec = {"model": "lab/tiny", "messages": [HI], **fields}
    request = CreateChatCompletionRequest(spec=spec)
    return ChatCompletionServiceStub(channel).CreateChatCompletion(request, metadata=metadata, timeout=timeout)


def stream(channel: aio.Channel, metadata: Any = None, timeout: float | None = 30, **fields: Any) -> Any:
    spec = {"model": "lab/tiny", "messages": [HI], **fields}
    request = StreamChatCompletionRequest(spec=spec)
    return ChatCompletionServiceStub(channel).StreamChatCompletion(request, metadata=metadata, timeout=timeout)


def info_of(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a status, which must be one of Headgate's."""
    status = rpc_status.from_call(error)
    assert status
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "headgate.v1"
    return info


async def failure(call: Any) -> aio.AioRpcError:
    """What a unary call ends with."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_chat_is_answered(channel: aio.Channel, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})))
    answer = (await unary(channel, temperature=0.5)).completion
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason, answer.usage.total_tokens) == ("Hello", "stop", 13)
    assert (await upstream.received()).json()["temperature"] == 0.5


async def test_an_answer_comes_as_json_where_the_caller_takes_it_and_the_provider_speaks_it(
    channel: aio.Channel, upstream: Upstream
) -> None:
    stub = ChatCompletionServiceStub(channel)
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    for model, json_format, kind in [
        ("lab/tiny", "openai", "json"),
        ("lab/tiny", "anthropic", "completion"),
        ("echo/echo", "openai", "completion"),
    ]:
        upstream.script(json_answer(completion({"content": "Hello"}, usage=usage)))
        request = CreateChatCompletionRequest(spec={"model": model, "messages": [HI]}, json_format=json_format)
        response = await stub.CreateChatCompletion(request, timeout=30)
        assert response.WhichOneof("answer") == kind
        if kind == "json":
            assert json.loads(response.json)["choices"][0]["message"]["content"] == "Hello"


async def test_a_chat_is_streamed(channel: aio.Channel, upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed("Hel", "lo")))
    chunks = [response.chunk async for response in stream(channel)]
    assert "".join(choice.delta.content for chunk in chunks for choice in chunk.choices) == "Hello"
    assert chunks[-1].usage.total_tokens == 13


async def test_what_is_rewritten_is_told_before_a_stream_and_after_every_answer(channel: aio.Channel) -> None:
    streamed_call = stream(channel, model="echo/echo", verbosity="low")
    before = await streamed_call.initial_metadata()
    assert [response async for response in streamed_call]
    call = unary(channel, model="echo/echo", verbosity="low")
    await call
    for told_by in (streamed_call, call):
        for metadata in (before, await told_by.trailing_metadata()):
            told = [value for key, value in metadata if key == "x-headgate-warning"]
            assert [warning.partition(":")[0] for warning in told] == ["verbosity"]
            assert ("x-headgate-provider", "echo") in list(metadata)
            assert "x-headgate-request-id" in dict(metadata)


async def test_a_refusal_of_the_vendor_is_told_with_reason_and_delay(channel: aio.Channel, upstream: Upstream) -> None:
    told = refusal("Slow down.", type="requests", code="rate_limit_exceeded", param="model")
    upstream.script(json_answer(told, status=429, headers={"retry-after": "1.5"}))
    error = await failure(unary(channel))
    assert (error.code(), error.details()) == (StatusCode.RESOURCE_EXHAUSTED, "Slow down.")
    info = info_of(error)
    assert info.reason == "ERROR_REASON_PROVIDER_REFUSED"
    assert dict(info.metadata) == {
        "provider": "lab",
        "upstream_status": "429",
        "upstream_type": "requests",
        "upstream_code": "rate_limit_exceeded",
        "param": "model",
    }
    status = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert dict(error.trailing_metadata())["x-headgate-provider"] == "lab"


async def test_a_stream_that_breaks_off_ends_with_a_failure(channel: aio.Channel, upstream: Upstream) -> None:
    said = chunk(sse_event(event({"content": "Hel"})))
    upstream.script([head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}), said, Cut()])
    responses = aiter(stream(channel))
    assert (await anext(responses)).chunk.choices[0].delta.content == "Hel"
    with pytest.raises(aio.AioRpcError) as caught:
        await anext(responses)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert info_of(caught.value).reason == "ERROR_REASON_PROVIDER_BROKEN"


async def test_health_is_told_per_service(channel: aio.Channel) -> None:
    stub = HealthStub(channel)
    for service in ("", *(f"headgate.v1.{name}" for name in SERVICES)):
        response = await stub.Check(HealthCheckRequest(service=service))
        assert response.status == HealthCheckResponse.SERVING
    assert (await failure(stub.Check(HealthCheckRequest(service="nix")))).code() is StatusCode.NOT_FOUND


async def test_a_drain_is_told_by_health(gateway: Gateway) -> None:
    stub = HealthStub(gateway.core.channel)
    await gateway.core.drain()
    for service in ("", "headgate.v1.ChatCompletionService"):
        response = await stub.Check(HealthCheckRequest(service=service))
        assert response.status == HealthCheckResponse.NOT_SERVING


async def test_a_stream_that_the_end_of_the_server_cuts_says_so(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "a"}), Silence()]))
    async with aio.insecure_channel(gateway.grpc_address, MESSAGE_OPTIONS) as channel:
        call = stream(channel)
        await anext(aiter(call))
        await gateway.core.drain(0.1)
        with pytest.raises(aio.AioRpcError) as cut:
            await anext(aiter(call))
    assert (cut.value.code(), info_of(cut.value).reason) == (StatusCode.UNAVAILABLE, "ERROR_REASON_SHUTTING_DOWN")


async def test_reflection_tells_services_and_messages(gateway: Gateway) -> None:
    def reflected() -> tuple[set[str], set[str]]:
        with grpc.insecure_channel(gateway.grpc_address) as opened:
            database = ProtoReflectionDescriptorDatabase(opened)
            file = database.FindFileContainingSymbol("headgate.v1.ChatCompletionService")
            (service,) = file.service
            return set(database.get_services()), {method.name for method in service.method}

    services, methods = await asyncio.to_thread(reflected)
    assert services >= {f"headgate.v1.{name}" for name in SERVICES} | {"grpc.health.v1.Health"}
    assert methods == {"CreateChatCompletion", "StreamChatCompletion", "ResumeChatCompletion"}


async def test_what_comes_later_says_so(channel: aio.Channel) -> None:
    gateways, usage = GatewayServiceStub(channel), UsageServiceStub(channel)
    calls = [
        gateways.GetGateway(GetGatewayRequest()),
        gateways.ListGateways(ListGatewaysRequest()),
        gateways.UpdateGateway(UpdateGatewayRequest(update_mask=FieldMask(paths=["name"]))),
        usage.ListUsageRecords(ListUsageRecordsRequest()),
    ]
    for call in calls:
        error = await failure(call)
        assert error.code() is StatusCode.UNIMPLEMENTED
        assert info_of(error).reason == "ERROR_REASON_UNIMPLEMENTED"


async def test_models_are_listed_and_told(channel: aio.Channel) -> None:
    stub = ModelServiceStub(channel)
    assert "echo/echo" in [model.id for model in (await stub.ListModels(ListModelsRequest())).models]
    assert not (await stub.ListModels(ListModelsRequest(provider="nix"))).models
    assert (await stub.GetModel(GetModelRequest(id="lab/a/b"))).model.targets[0].model == "a/b"
    for name in ("nix", ""):
        error = await failure(stub.GetModel(GetModelRequest(id=name)))
        assert (error.code(), info_of(error).reason) == (StatusCode.NOT_FOUND, "ERROR_REASON_MODEL_NOT_FOUND")


async def test_a_message_over_grpcs_own_limit_passes(channel: aio.Channel) -> None:
    said = "x" * (20 << 20)
    answer = await unary(channel, model="echo/echo", messages=[{"role": ROLE_USER, "text": said}])
    assert answer.completion.choices[0].message.content == said


async def test_a_message_over_the_limit_is_refused(upstream: Upstream) -> None:
    config = lab_config(upstream.base_url)
    limits = config.limits.model_copy(update={"grpc_message_bytes": 1 << 20})
    config = Config(providers=config.providers, limits=limits)
    async with running(config) as gateway, aio.insecure_channel(gateway.grpc_address) as channel:
        said = "x" * (1 << 20)
        error = await failure(unary(channel, model="echo/echo", messages=[{"role": ROLE_USER, "text": said}]))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        assert (await unary(channel, model="echo/echo")).completion.choices[0].message.content == "hi"


@pytest.mark.parametrize("given", ["a b", "x" * 129])
async def test_an_id_that_no_log_can_hold_is_refused(channel: aio.Channel, given: str) -> None:
    error = await failure(unary(channel, metadata=(("x-request-id", given),)))
    assert (error.code(), info_of(error).metadata["param"]) == (StatusCode.INVALID_ARGUMENT, "x-request-id")


async def test_strange_metadata_does_no_harm(channel: aio.Channel) -> None:
    strange = (
        ("x-request-id", ""),
        ("x-request-id", "second"),
        ("traceparent", "00-not-a-trace"),
        ("tracestate", "=,=,="),
        ("x-headgate-client", "x" * 5000),
        ("authorization", "Basic ????"),
        ("odd-bin", b"\x00\xff"),
    )
    call = unary(channel, model="echo/echo", metadata=strange)
    assert (await call).completion.choices[0].message.content == "hi"
    assert dict(await call.trailing_metadata())["x-headgate-request-id"] == "second"
