"""No call leaves a cycle behind, however it ends: what it held is freed at once, and not when the collector comes by."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from tests.conftest import lab_config
from tests.support.gateway import Gateway, running
from tests.support.openai_vendor import completion, event
from tests.support.upstream import (
    Answer,
    Cut,
    Silence,
    Upstream,
    chunk,
    head,
    json_answer,
    reached,
    sse_answer,
    sse_event,
)

OURS = ("gateway_core", "rest_bridge", "headgate")
CALLS = 5
CUT: Answer = [
    head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}),
    chunk(sse_event(event({"content": "a"}))),
    Cut(),
]
# What the vendor does, whether it is streamed, and whether the caller leaves after the first event.
CASES: dict[str, tuple[Answer, bool, bool]] = {
    "whole": (sse_answer([event({"content": "a"}), event({}, "stop")]), True, False),
    "whole at once": (json_answer(completion({"role": "assistant", "content": "a"})), False, False),
    "broken off": (CUT, True, False),
    "nonsense": (sse_answer([b"data: {nonsense\n\n"]), True, False),
    "refused": (json_answer({"error": {"message": "no"}}, status=500), True, False),
    "refused at once": (json_answer({"error": {"message": "no"}}, status=500), False, False),
    "left": (sse_answer([event({"content": "a"}), Silence()]), True, True),
}


async def over_rest(gateway: Gateway, stream: bool, leaves: bool) -> None:
    body = {"model": "lab/tiny", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with (
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        async for line in answer.aiter_lines():
            if leaves and line:
                return


async def over_grpc(gateway: Gateway, stream: bool, leaves: bool) -> None:
    spec: Any = {"model": "lab/tiny", "messages": [{"role": ROLE_USER, "text": "hi"}]}
    async with aio.insecure_channel(gateway.grpc_address) as channel:
        stub = ChatCompletionServiceStub(channel)
        try:
            if not stream:
                await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec))
                return
            call = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec))
            async for _ in call:
                if leaves:
                    call.cancel()
                    return
        except aio.AioRpcError:
            return


@pytest.fixture
def left_to_the_collector() -> Iterator[Callable[[], Counter[str]]]:
    """Begins to count when the test does; what there is of ours by then, by type."""
    gc.collect()
    gc.disable()

    def found() -> Counter[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        names = [f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage]
        gc.garbage.clear()
        return Counter(name for name in names if name.partition(".")[0] in OURS)

    yield found
    gc.enable()
    gc.collect()


@pytest.mark.parametrize("call", [over_rest, over_grpc])
@pytest.mark.parametrize("case", CASES)
async def test_a_call_leaves_nothing_to_the_collector(
    call: Callable[[Gateway, bool, bool], Awaitable[None]],
    case: str,
    left_to_the_collector: Callable[[], Counter[str]],
) -> None:
    answer, stream, leaves = CASES[case]
    async with Upstream() as vendor:
        vendor.script(answer)
        async with running(lab_config(vendor.base_url)) as gateway:
            for _ in range(2):
                await call(gateway, stream, leaves)
            await reached(lambda: gateway.core.calls_in_flight == 0)
            left_to_the_collector()
            for _ in range(CALLS):
                await call(gateway, stream, leaves)
            await reached(lambda: gateway.core.calls_in_flight == 0)
            await asyncio.sleep(0)  # the telemetry tells at the next turn of the loop
            found = left_to_the_collector()
            # A retry's wait or a last callback may hold one call still; what leaks holds all of them.
            assert [name for name, count in found.items() if count >= CALLS] == []
