"""Streams whose callers are lost and come back: nothing is lost, nothing doubled, and nothing goes on for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.config import Config, DetachConfig
from tests.conftest import lab_config
from tests.faults.callers import GRPC_OPTIONS, MODEL, reason_of
from tests.faults.conftest import Log, nothing_left
from tests.faults.phases import ENDLESS, standing_still
from tests.support.gateway import Gateway, running
from tests.support.openai_vendor import streamed
from tests.support.relay import Relay
from tests.support.upstream import Silence, Upstream, Wait, reached, sse_answer

SAID = ["Once", " upon", " a", " time", " there", " was", " a", " ga", "te", "."]
WHOLE = "".join(SAID)
SPEC: Any = {"model": MODEL, "messages": [{"role": ROLE_USER, "text": "hi"}]}
CHUNKS = len(SAID) + 3
"""The role, the texts, the end and the usage."""


def config_of(upstream: Upstream, **detach: Any) -> Config:
    return lab_config(upstream.base_url).model_copy(update={"detach": DetachConfig(**detach)})


@asynccontextmanager
async def stub_at(address: str) -> AsyncIterator[ChatCompletionServiceStub]:
    # Of its own, so that no other channel's connection is used.
    async with aio.insecure_channel(address, [*GRPC_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield ChatCompletionServiceStub(channel)


def asked(seconds: float = 60, **more: Any) -> StreamChatCompletionRequest:
    detach = Duration()
    detach.FromNanoseconds(round(seconds * 1e9))
    return StreamChatCompletionRequest(spec=SPEC, detach=detach, **more)


def resumed(identity: str, after: int = 0, **more: Any) -> ResumeChatCompletionRequest:
    return ResumeChatCompletionRequest(id=identity, after_sequence=after, **more)


async def id_of(call: Any) -> str:
    told = await told_by(call)
    return str(told["x-headgate-stream-id"])


async def told_by(call: Any) -> dict[str, Any]:
    """The initial metadata of a call."""
    metadata: Any = await asyncio.wait_for(call.initial_metadata(), 5)
    return dict(metadata)


async def some(call: Any, count: int) -> list[Any]:
    """The first chunks of a call."""
    return [await asyncio.wait_for(call.read(), 5) for _ in range(count)]


async def rest(call: Any) -> list[Any]:
    """All chunks up to the end of a call, but for a first response that has none."""
    found = []
    while (response := await asyncio.wait_for(call.read(), 5)) is not aio.EOF:
        if response.HasField("chunk"):
            found.append(response)
    return found


def text_of(responses: list[Any]) -> str:
    return "".join(choice.delta.content for response in responses for choice in response.chunk.choices)


@asynccontextmanager
async def lost_after(gateway: Gateway, count: int, request: Any = None) -> AsyncIterator[tuple[str, list[Any]]]:
    """The id of a stream whose connection is cut after so many chunks, and the chunks."""
    port = int(gateway.grpc_address.rpartition(":")[2])
    async with Relay(port) as relay, stub_at(f"127.0.0.1:{relay.port}") as stub:
        call = stub.StreamChatCompletion(request or asked())
        identity = await id_of(call)
        before = await some(call, count)
        relay.cut()
        with pytest.raises(aio.AioRpcError):
            await rest(call)
        yield identity, before


@pytest.mark.parametrize("count", range(1, CHUNKS + 1))
async def test_a_stream_that_is_cut_behind_any_chunk_is_continued_exactly(upstream: Upstream, count: int) -> None:
    gate = asyncio.Event()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:count], Wait(gate), *events[count:]]))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        async with lost_after(gateway, count) as (identity, before):
            gate.set()
            call: Any = stub.ResumeChatCompletion(resumed(identity, count))
            after = await rest(call)
        assert text_of(before + after) == WHOLE
        assert [response.sequence for response in before + after] == list(range(1, CHUNKS + 1))
        trailing: Any = await call.trailing_metadata()
        assert dict(trailing)["x-headgate-provider"] == "lab"
        assert len(upstream.requests) == 1


async def test_chunks_that_were_sent_but_did_not_arrive_are_sent_again(upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed(*SAID)))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        identity = await id_of(call)
        whole = await rest(call)
        for after in range(CHUNKS + 1):
            again = await rest(stub.ResumeChatCompletion(resumed(identity, after)))
            assert [(each.sequence, each.chunk) for each in again] == [
                (each.sequence, each.chunk) for each in whole[after:]
            ]


async def test_the_latest_of_two_callers_has_the_stream(upstream: Upstream) -> None:
    gate = asyncio.Event()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:3], Wait(gate), *events[3:]]))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        first = stub.StreamChatCompletion(asked())
        identity = await id_of(first)
        await some(first, 2)
        second = stub.ResumeChatCompletion(resumed(identity, 1))
        await some(second, 1)
        third = stub.ResumeChatCompletion(resumed(identity, 0))
        await some(third, 1)
        gate.set()
        for earlier in (first, second):
            with pytest.raises(aio.AioRpcError) as refused:
                await rest(earlier)
            assert refused.value.code() is StatusCode.ABORTED
            assert reason_of(refused.value) == "stream_taken_over"
        assert text_of(await rest(third)) == WHOLE
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("identity", ["", "x", "a-1-b", "{process}-1-{zeros}", "other-1-{zeros}", "é-1-ü"])
async def test_an_id_that_is_none_is_not_found(upstream: Upstream, identity: str) -> None:
    upstream.script(sse_answer(streamed(*SAID)))
    async with running(config_of(upstream, process="here")) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        assert (await id_of(call)).startswith("here-1-")
        wrong = identity.format(process="here", zeros="0" * 32)
        with pytest.raises(aio.AioRpcError) as refused:
            await rest(stub.ResumeChatCompletion(resumed(wrong)))
        assert refused.value.code() is StatusCode.NOT_FOUND
        assert reason_of(refused.value) == "not_found"
        assert ("process" in (refused.value.details() or "")) == (wrong[:2] in ("a-", "ot", "é-"))
        call.cancel()


@pytest.mark.parametrize("after", [-1, CHUNKS + 1])
async def test_a_position_that_there_is_not_is_refused(upstream: Upstream, after: int) -> None:
    upstream.script(sse_answer(streamed(*SAID)))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        identity = await id_of(call)
        await rest(call)
        with pytest.raises(aio.AioRpcError) as refused:
            await rest(stub.ResumeChatCompletion(resumed(identity, after)))
        assert refused.value.code() is StatusCode.INVALID_ARGUMENT


async def test_chunks_that_are_no_longer_kept_are_out_of_range(upstream: Upstream) -> None:
    texts = [f"{number:04}" for number in range(100)]
    upstream.script(sse_answer(streamed(*texts)))
    async with running(config_of(upstream, buffer_bytes=4096)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        identity = await id_of(call)
        await rest(call)
        with pytest.raises(aio.AioRpcError) as refused:
            await rest(stub.ResumeChatCompletion(resumed(identity, 1)))
        assert refused.value.code() is StatusCode.OUT_OF_RANGE
        assert reason_of(refused.value) == "chunks_gone"
        last = await rest(stub.ResumeChatCompletion(resumed(identity, 95)))
        assert text_of(last) == "".join(texts[94:])


async def test_while_nobody_listens_the_vendor_is_read_until_the_buffer_is_full(upstream: Upstream) -> None:
    upstream.script(ENDLESS)
    size = 256 * 1024
    async with running(config_of(upstream, buffer_bytes=size)) as gateway, stub_at(gateway.grpc_address) as stub:
        async with lost_after(gateway, 1) as (identity, _):
            await standing_still(upstream.requests[0])
            (stream,) = gateway.core.streams._streams.values()
            assert size <= stream.buffer.size < size + 4096
            kept = stream.buffer.last
            call = stub.ResumeChatCompletion(resumed(identity, 1))
            first, *found = await some(call, kept + 50)
            assert first.resumed.model == MODEL
            assert [each.sequence for each in found] == list(range(2, kept + 51))
            assert stream.buffer.size < size + 4096
            call.cancel()
        await standing_still(upstream.requests[0])
        assert size <= stream.buffer.size < size + 4096


async def test_a_slow_caller_is_not_read_ahead_for(upstream: Upstream) -> None:
    upstream.script(ENDLESS)
    async with running(config_of(upstream, buffer_bytes=64 << 20)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        await some(call, 1)
        assert await standing_still(upstream.requests[0]) < 1 << 20
        (stream,) = gateway.core.streams._streams.values()
        assert stream.buffer.size < 1 << 20
        call.cancel()


async def test_a_stream_that_nobody_continues_in_time_is_cancelled(
    log: Log, complaints: list[Any], upstream: Upstream
) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:4], Silence()]))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        before = asyncio.all_tasks()
        async with lost_after(gateway, 2, asked(0.3)) as (identity, _):
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        await nothing_left(gateway, before)
        with pytest.raises(aio.AioRpcError) as refused:
            await rest(stub.ResumeChatCompletion(resumed(identity, 2)))
        assert refused.value.code() is StatusCode.NOT_FOUND
        assert not gateway.core.streams._streams
    (line,) = [line for line in log() if line["event"] == "call" and line["operation"] == "chat"]
    assert line["requested_model"]
    assert line["status"] == "cancelled"


async def test_the_time_does_not_run_while_somebody_listens(upstream: Upstream) -> None:
    gate = asyncio.Event()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:4], Wait(gate), *events[4:]]))
    async with (
        running(config_of(upstream)) as gateway,
        stub_at(gateway.grpc_address) as stub,
        lost_after(gateway, 2, asked(0.4)) as (identity, before),
    ):
        call = stub.ResumeChatCompletion(resumed(identity, 2))
        found = await some(call, 2)
        await asyncio.sleep(0.6)  # longer than the stream would have gone on
        gate.set()
        assert text_of(before + found + await rest(call)) == WHOLE
        assert b"headgate_streams_kept 1.0" in gateway.core.telemetry.exposition("")[0]


async def test_the_time_is_at_most_the_configured_one(upstream: Upstream) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:4], Silence()]))
    async with running(config_of(upstream, at_most_seconds=0.2)) as gateway, lost_after(gateway, 2, asked(3600)):
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_who_continues_with_no_time_and_leaves_ends_the_call(upstream: Upstream) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:4], Silence()]))
    async with (
        running(config_of(upstream)) as gateway,
        stub_at(gateway.grpc_address) as stub,
        lost_after(gateway, 2) as (identity, _),
    ):
        call = stub.ResumeChatCompletion(resumed(identity, 2, detach=Duration()))
        await some(call, 1)
        call.cancel()
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_the_callers_deadline_ends_the_call(upstream: Upstream) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:4], Silence()]))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked(), timeout=0.5)
        with pytest.raises(aio.AioRpcError) as ended:
            await rest(call)
        assert ended.value.code() is StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        await reached(lambda: gateway.core.telemetry.calls_in_flight == 0)


async def test_a_caller_lost_before_it_knows_the_id_takes_the_call_along(upstream: Upstream) -> None:
    upstream.script([Silence()])
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        await asyncio.wait_for(upstream.received(), 5)
        call.cancel()
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        await reached(lambda: not gateway.core.streams._streams)


@pytest.mark.parametrize("has_caller", [False, True])
async def test_a_server_that_drains_gives_up_streams_without_callers(upstream: Upstream, has_caller: bool) -> None:
    gate = asyncio.Event()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:4], Wait(gate), *events[4:]]))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(asked())
        found = await some(call, 2)
        if not has_caller:
            call.cancel()
            (stream,) = gateway.core.streams._streams.values()
            await reached(lambda: stream.listener is None)
        draining = asyncio.create_task(gateway.core.drain())
        if has_caller:
            await asyncio.sleep(0.05)
            gate.set()
            assert text_of(found + await rest(call)) == WHOLE
        await asyncio.wait_for(draining, 5)
        await reached(lambda: not gateway.core.streams._streams)
        if not has_caller:
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_what_the_vendor_fails_with_is_told_to_whoever_continues(upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed(*SAID)[:5], done=False))
    async with (
        running(config_of(upstream)) as gateway,
        stub_at(gateway.grpc_address) as stub,
        lost_after(gateway, 1) as (identity, _),
    ):
        await reached(lambda: gateway.core.telemetry.calls_in_flight == 0)
        call = stub.ResumeChatCompletion(resumed(identity, 1))
        assert [each.sequence for each in await some(call, 5)] == [1, 2, 3, 4, 5]
        with pytest.raises(aio.AioRpcError) as failed:
            await rest(call)
        assert reason_of(failed.value) == "provider_broken"


async def test_there_are_no_more_such_streams_than_configured(upstream: Upstream) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:4], Silence()]))
    async with running(config_of(upstream, calls=1)) as gateway, stub_at(gateway.grpc_address) as stub:
        first, second = (stub.StreamChatCompletion(asked()) for _ in range(2))
        told = [await told_by(call) for call in (first, second)]
        (refused,) = [each for each in told if "x-headgate-stream-id" not in each]
        assert str(refused["x-headgate-warning"]).startswith("detach: ignored")
        first.cancel()
        second.cancel()


async def test_one_that_has_ended_makes_room(upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed(*SAID)))
    async with running(config_of(upstream, calls=1)) as gateway, stub_at(gateway.grpc_address) as stub:
        for _ in range(3):
            call = stub.StreamChatCompletion(asked())
            identity = await id_of(call)
            assert text_of(await rest(call)) == WHOLE
            await reached(lambda: not any(each.listener for each in gateway.core.streams._streams.values()))
        assert text_of(await rest(stub.ResumeChatCompletion(resumed(identity)))) == WHOLE


@pytest.mark.parametrize("given", ["soon", "-1s", "1h", "inf", ""])
async def test_a_time_that_is_none_is_refused(upstream: Upstream, given: str) -> None:
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        request = StreamChatCompletionRequest(spec=SPEC)
        with pytest.raises(aio.AioRpcError) as refused:
            await rest(stub.StreamChatCompletion(request, metadata=(("x-headgate-detach", given),)))
        assert refused.value.code() is StatusCode.INVALID_ARGUMENT


async def test_without_the_wish_a_stream_cannot_be_continued(upstream: Upstream) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:4], Silence()]))
    async with running(config_of(upstream)) as gateway, stub_at(gateway.grpc_address) as stub:
        call = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=SPEC))
        assert "x-headgate-stream-id" not in await told_by(call)
        assert [each.sequence for each in await some(call, 1)] == [1]
        call.cancel()
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        assert not gateway.core.streams._streams
