"""A caller that leaves at any turn of the loop, between any two steps of a call: nothing stays behind."""

import asyncio
from typing import Any

import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.call import Call, Target
from gateway_core.providers.openai.provider import Provider
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.upstream.http import Answer as Answered
from tests.conftest import lab_config
from tests.faults.callers import MODEL, calling, cancel
from tests.faults.clock import Clock, Moment
from tests.faults.conftest import Log, nothing_left
from tests.faults.phases import JSON_HEAD, SAID
from tests.support.gateway import ARRANGEMENTS, Arrangement, running
from tests.support.upstream import Answer, Silence, Upstream, sse_answer

AT_ONCE = 0.1
TURNS = range(60)
STREAMED: Answer = sse_answer([*SAID, Silence()])
IN_BODY: Answer = [JSON_HEAD, b'{"id": "chatcmpl-1", ', Silence()]


async def turns(count: int) -> None:
    """Lets the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def all_closed(upstream: Upstream, clock: Clock, left: Moment) -> None:
    """Waits until the vendor has no connection any more; each must be gone at once."""
    for connection in upstream.connections:
        await asyncio.wait_for(connection.closed.wait(), 2)
        assert connection.closed_at is not None
        assert clock.since(left, connection.closed_at) < AT_ONCE
    upstream.connections.clear()


async def read(channel: aio.Channel, *, stream: bool) -> None:
    """Makes a call and reads its answer, as far as it goes."""
    spec: Any = {"model": MODEL, "messages": [{"role": ROLE_USER, "text": "hi"}]}
    stub = ChatCompletionServiceStub(channel)
    if stream:
        async for _ in stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec)):
            pass
    else:
        await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec))


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_within_the_process_leaves_nothing(
    log: Log, complaints: list[Any], clock: Clock, upstream: Upstream, stream: bool
) -> None:
    upstream.script(STREAMED if stream else IN_BODY)
    async with running(lab_config(upstream.base_url)) as gateway:
        before = asyncio.all_tasks()
        for count in TURNS:
            task = asyncio.create_task(read(gateway.core.channel, stream=stream))
            await turns(count)
            left = clock.now()
            await cancel(task)
            assert task.cancelled()
            await all_closed(upstream, clock, left)
            await nothing_left(gateway, before)
    assert {line["status"] for line in log()} == {"cancelled"}
    assert len(upstream.requests) > len(TURNS) / 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("name", "arrangement"),
    [*((name, arrangement) for name in ("rest", "ollama") for arrangement in ARRANGEMENTS), ("grpc", "together")],
)
async def test_leaving_over_a_socket_leaves_nothing(
    log: Log, complaints: list[Any], clock: Clock, upstream: Upstream, name: str, arrangement: Arrangement, stream: bool
) -> None:
    upstream.script(STREAMED if stream else IN_BODY)
    async with running(lab_config(upstream.base_url), arrangement) as gateway:
        before = asyncio.all_tasks()
        for count in TURNS:
            async with calling(name, gateway) as caller:
                await caller.call(stream=stream)
                await turns(5 * count if arrangement == "apart" or name == "grpc" else count)
                left = clock.now()
                await caller.leave()
            await turns(20)
            await all_closed(upstream, clock, left)
            await nothing_left(gateway, before)
    assert {line["status"] for line in log() if line["event"] == "call"} <= {"cancelled"}
    assert [line for line in log() if line["level"] in ("warning", "error")] == []
    assert upstream.requests  # how many calls get so far depends on how busy the machine is


async def test_an_answer_that_nobody_begins_to_read_is_closed_without_the_garbage_collector(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Answered, "__del__")
    upstream.script(STREAMED)
    provider = Provider("lab", lab_config(upstream.base_url).providers["lab"])
    spec = ChatCompletionSpec(model=MODEL)
    call = Call("call-1", ChatCompletion(), spec, stream=True, target=Target("lab", "tiny"))
    events = await provider.open_chat_completion(call)
    await events.aclose()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 2)
    await provider.close()
