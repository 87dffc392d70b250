"""Who may continue a stream, and what the ledger says of one whose caller was lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode, aio
from headgate.v1 import key_pb2, usage_pb2
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.key_service_pb2 import CreateKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from headgate.v1.usage_service_pb2 import ListUsageRecordsRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub

from gateway_core.resume.buffer import Buffer
from tests.support.kept import ROOT, Kept, bearer, kept
from tests.support.openai_vendor import streamed
from tests.support.upstream import Silence, Upstream, Wait, reached, sse_answer

MODELS = {
    "small": {
        "targets": [{"provider": "lab", "model": "tiny"}],
        "price": {"input_per_million": "1", "output_per_million": "1"},
    }
}
SAID = ["Once", " upon", " a", " time"]


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path, upstream, models=MODELS) as opened:
        yield opened


class Callers:
    """Keys of two accounts, and the calls they make."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.stub: Any = ChatCompletionServiceStub(channel)

    async def account(self, name: str) -> str:
        stub: Any = AccountServiceStub(self.channel)
        made = await stub.CreateAccount(CreateAccountRequest(account=Account(name=name)), metadata=bearer(ROOT))
        return str(made.secret)

    async def key(self, of: str, **fields: Any) -> str:
        stub: Any = KeyServiceStub(self.channel)
        made = await stub.CreateKey(CreateKeyRequest(label="another", **fields), metadata=bearer(of))
        return str(made.secret)

    async def begun(self, key: str, seconds: int = 60, model: str = "small") -> tuple[Any, str]:
        spec: Any = {"model": model, "messages": [{"role": ROLE_USER, "text": "hi"}]}
        request = StreamChatCompletionRequest(spec=spec, detach=Duration(seconds=seconds))
        call = self.stub.StreamChatCompletion(request, metadata=bearer(key))
        return call, str(dict(await call.initial_metadata())["x-headgate-stream-id"])

    async def resumed(self, key: str, identity: str) -> str:
        """What a key reads of a stream; the status's name where it may not."""
        request = ResumeChatCompletionRequest(id=identity)
        call = self.stub.ResumeChatCompletion(request, metadata=bearer(key))
        try:
            chunks = [response.chunk async for response in call]
        except aio.AioRpcError as error:
            return error.code().name
        return "".join(choice.delta.content for chunk in chunks for choice in chunk.choices)


async def test_only_the_account_that_began_a_stream_continues_it(upstream: Upstream, world: Kept) -> None:
    upstream.script(sse_answer(streamed(*SAID)))
    callers = Callers(world.channel)
    other, own_other_key = await callers.account("ann"), await callers.key(ROOT, kind=key_pb2.KEY_KIND_PRIVATE)
    call, identity = await callers.begun(ROOT)
    async for _ in call:
        pass
    assert await callers.resumed(own_other_key, identity) == "".join(SAID)
    assert await callers.resumed(other, identity) == StatusCode.NOT_FOUND.name
    assert await callers.resumed("sk-hg-unknown", identity) == StatusCode.UNAUTHENTICATED.name
    assert await callers.resumed(ROOT, identity) == "".join(SAID)


async def test_a_public_key_continues_only_what_it_began(upstream: Upstream, world: Kept) -> None:
    upstream.script(sse_answer(streamed(*SAID)))
    callers = Callers(world.channel)
    gateway = await world.create(name="page", model="small")
    public, another = [await callers.key(ROOT, kind=key_pb2.KEY_KIND_PUBLIC) for _ in range(2)]
    call, identity = await callers.begun(public, model=gateway.id)
    async for _ in call:
        pass
    assert await callers.resumed(public, identity) == "".join(SAID)
    assert await callers.resumed(ROOT, identity) == "".join(SAID)
    assert await callers.resumed(another, identity) == StatusCode.NOT_FOUND.name
    private_call, of_private = await callers.begun(ROOT)
    async for _ in private_call:
        pass
    assert await callers.resumed(public, of_private) == StatusCode.NOT_FOUND.name


async def records(world: Kept) -> list[Any]:
    stub: Any = UsageServiceStub(world.channel)
    return list((await stub.ListUsageRecords(ListUsageRecordsRequest(), metadata=bearer(ROOT))).records)


def text(said: Buffer) -> str:
    return "".join(choice.delta.content for at in range(1, said.last + 1) for choice in said.chunk(at).choices)


async def test_the_ledger_closes_once_when_nobody_came_back(upstream: Upstream, world: Kept) -> None:
    upstream.script(sse_answer([*streamed(*SAID)[:5], Silence()]))
    callers = Callers(world.channel)
    call, _ = await callers.begun(ROOT, seconds=1)
    await call.read()
    call.cancel()
    # What came after the caller was lost is charged too: it could have been fetched.
    (stream,) = world.gateway.core.streams._streams.values()
    said = stream.buffer
    await reached(lambda: stream.listener is None and said.last > 1 and text(said) == "".join(SAID[:4]))
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    await reached(lambda: world.gateway.core.telemetry.calls_in_flight == 0)
    (record,) = await records(world)
    assert record.status == usage_pb2.USAGE_STATUS_CANCELLED
    assert record.cost_usd not in ("", "0")


async def test_the_ledger_closes_once_where_a_lost_caller_came_back(upstream: Upstream, world: Kept) -> None:
    gate = asyncio.Event()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:3], Wait(gate), *events[3:]]))
    callers = Callers(world.channel)
    call, identity = await callers.begun(ROOT)
    await call.read()
    call.cancel()
    gate.set()
    for _ in range(2):
        assert await callers.resumed(ROOT, identity) == "".join(SAID)
    (record,) = await records(world)
    assert (record.status, record.usage.prompt_tokens) == (usage_pb2.USAGE_STATUS_OK, 9)
