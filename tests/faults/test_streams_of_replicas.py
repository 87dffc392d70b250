"""Streams that are begun at one server and continued at another, by a real Redis and a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from gateway_core.config import Config
from gateway_core.redis_store.script import SINCE
from gateway_core.storage.store import Store
from tests.faults.callers import GRPC_OPTIONS, reason_of
from tests.faults.phases import ENDLESS, standing_still
from tests.faults.test_resume import CHUNKS, SAID, WHOLE, asked, id_of, rest, resumed, some, text_of, told_by
from tests.support.gateway import Gateway, running
from tests.support.kept import ROOT, SECRET_KEY, bearer
from tests.support.openai_vendor import streamed
from tests.support.redis import Kind, RunningRedis
from tests.support.redis import running as running_redis
from tests.support.upstream import Upstream, Wait, reached, sse_answer


class Replica(NamedTuple):
    """One server, and how it is asked."""

    gateway: Gateway
    stub: Any

    def begun(self, seconds: float = 60) -> Any:
        return self.stub.StreamChatCompletion(asked(seconds), metadata=bearer(ROOT))

    def resumed(self, identity: str, after: int = 0, key: str = ROOT, **more: Any) -> Any:
        return self.stub.ResumeChatCompletion(resumed(identity, after, **more), metadata=bearer(key))

    @property
    def stream(self) -> Any:
        """The one that this server runs."""
        (stream,) = self.gateway.core.streams._streams.values()
        return stream


class World:
    """Servers on one database, one Redis and one vendor."""

    def __init__(self, redis: RunningRedis, upstream: Upstream, directory: Path, stack: AsyncExitStack) -> None:
        self.redis = redis
        self.upstream = upstream
        self._directory = directory
        self._stack = stack

    async def replica(self, stack: AsyncExitStack | None = None, **detach: Any) -> Replica:
        stack = stack or self._stack
        config = Config.model_validate(
            {
                "providers": {"lab": {"kind": "openai", "base_url": self.upstream.base_url, "lists_models": False}},
                "redis_url": self.redis.url,
                "detach": detach,
                "database_url": f"sqlite:///{self._directory}/headgate.db",
            }
        )
        store = Store.at(config.database_url, self._directory, {"HEADGATE_SECRET_KEY": SECRET_KEY})
        gateway = await stack.enter_async_context(running(config, store=store, root_key=ROOT))
        channel = aio.insecure_channel(gateway.grpc_address, [*GRPC_OPTIONS, ("grpc.use_local_subchannel_pool", 1)])
        return Replica(gateway, ChatCompletionServiceStub(await stack.enter_async_context(channel)))


@pytest.fixture(params=["redis", "valkey"])
def redis(request: pytest.FixtureRequest) -> Iterator[RunningRedis]:
    kind: Kind = request.param
    with running_redis(kind) as server:
        with server.client() as client:
            client.set(SINCE, 0)  # it has been there for long, so that no start waits for others to tell their leases
        yield server


@pytest.fixture
async def world(redis: RunningRedis, upstream: Upstream, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(redis, upstream, tmp_path, stack)


def gated(upstream: Upstream, count: int) -> asyncio.Event:
    """A vendor that waits behind so many events."""
    gate = asyncio.Event()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:count], Wait(gate), *events[count:]]))
    return gate


@asynccontextmanager
async def refused(code: StatusCode, reason: str) -> AsyncIterator[None]:
    with pytest.raises(aio.AioRpcError) as caught:
        yield
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason), caught.value


async def test_a_stream_is_continued_at_another_server_behind_any_chunk_in_the_midst_of_it(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    before = await some(call, 4)
    call.cancel()
    for after in range(5):
        again = other.resumed(identity, after)
        first, *found = await some(again, 1 + 5 - after)
        assert first.resumed.model == "lab/tiny"
        assert [each.sequence for each in found] == list(range(after + 1, 6))
        assert [each.chunk for each in found[: 4 - after]] == [each.chunk for each in before[after:]]
        again.cancel()
    last = other.resumed(identity, 4)
    await some(last, 1)
    gate.set()
    after_it = await rest(last)
    assert text_of(before + after_it) == WHOLE
    assert [each.sequence for each in before + after_it] == list(range(1, CHUNKS + 1))
    told = await told_by(last)
    assert (told["x-headgate-stream-id"], told["x-headgate-provider"]) == (identity, "lab")
    trailing: Any = await last.trailing_metadata()
    assert dict(trailing)["x-headgate-provider"] == "lab"
    assert len(world.upstream.requests) == 1


async def test_a_stream_that_is_over_is_the_same_byte_for_byte_at_every_server(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    world.upstream.script(sse_answer(streamed(*SAID)))
    call = one.begun()
    identity = await id_of(call)
    whole = await rest(call)
    for after in range(CHUNKS + 1):
        ways = [await rest(replica.resumed(identity, after)) for replica in (one, other)]
        here, there = ([each.SerializeToString() for each in found] for found in ways)
        assert here == there
        assert [each.chunk for each in ways[1]] == [each.chunk for each in whole[after:]]


async def test_what_was_begun_is_told_alike(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    world.upstream.script(sse_answer(streamed(*SAID)))
    call = one.begun()
    identity = await id_of(call)
    await rest(call)
    for after in range(CHUNKS + 1):
        (first,), (second,) = [await some(replica.resumed(identity, after), 1) for replica in (one, other)]
        assert first == second


async def test_over_rest_a_stream_is_continued_at_another_server(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    body = {"model": "lab/tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {"authorization": f"Bearer {ROOT}", "x-headgate-detach": "60s"}
    path = "/v1/chat/completions"
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        lines: list[str] = []
        async with client.stream("POST", f"{one.gateway.http_url}{path}", json=body, headers=headers) as answer:
            identity = answer.headers["x-headgate-stream-id"]
            async for line in answer.aiter_lines():
                lines.append(line)
                if line.count("time") or " upon" in line:
                    break
        last = [line for line in lines if line.startswith("id: ")][-1].removeprefix("id: ")
        gate.set()
        again = {**headers, "last-event-id": last}
        ways = [
            await client.get(f"{replica.gateway.http_url}{path}/{identity}/stream", headers=again)
            for replica in (other, one)
        ]
        assert [way.status_code for way in ways] == [200, 200]
        assert ways[0].text == ways[1].text
        assert ways[0].text.rstrip().endswith("data: [DONE]")
        assert f"id: {identity}.{CHUNKS}" in ways[0].text
        posted = await client.post(f"{other.gateway.http_url}{path}", json=body, headers=again)
        assert posted.text == ways[0].text
    assert len(world.upstream.requests) == 1


async def test_the_latest_of_the_callers_of_all_servers_has_the_stream(world: World) -> None:
    one, other, third = await world.replica(), await world.replica(), await world.replica()
    gate = gated(world.upstream, 3)
    calls = [one.begun()]
    identity = await id_of(calls[0])
    await some(calls[0], 2)
    for replica in (other, third, other, one, third):
        calls.append(replica.resumed(identity))
        await some(calls[-1], 4)
        async with refused(StatusCode.ABORTED, "stream_taken_over"):
            await rest(calls[-2])
    gate.set()
    assert text_of(await rest(calls[-1])) == "".join(SAID[2:])


async def test_an_id_that_is_none_and_another_accounts_are_not_found(world: World) -> None:
    one, other = await world.replica(process="here"), await world.replica()
    gated(world.upstream, 3)
    call = one.begun()
    identity = await id_of(call)
    await some(call, 2)
    async with httpx.AsyncClient(base_url=one.gateway.http_url, trust_env=False) as client:
        made = await client.post("/api/v1/accounts", json={"name": "a"}, headers={"authorization": f"Bearer {ROOT}"})
    key = made.json()["data"]["secret"]
    for replica, name, whose in (
        (other, identity, key), (other, f"{identity[:-1]}x", ROOT), (other, "here-9-" + "0" * 32, ROOT), (other, "", ROOT),
    ):  # fmt: skip
        async with refused(StatusCode.NOT_FOUND, "not_found"):
            await rest(replica.resumed(name, key=whose))
    # Nobody has lost it for that.
    assert len(await some(call, 1)) == 1


@pytest.mark.parametrize("after", [-1, CHUNKS + 1])
async def test_a_position_that_there_is_not_is_refused(world: World, after: int) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 3)
    call = one.begun()
    identity = await id_of(call)
    await some(call, 3)
    for _ in range(2):  # in the midst of it, and when it is over
        async with refused(StatusCode.INVALID_ARGUMENT, "invalid_request"):
            await rest(other.resumed(identity, after))
        gate.set()
        await reached(lambda: one.stream.is_over or one.stream.listener is not None)
        await rest(one.resumed(identity))


async def test_chunks_that_are_no_longer_kept_are_gone_everywhere_and_the_rest_is_not(world: World) -> None:
    one, other = await world.replica(buffer_bytes=4096), await world.replica()
    texts = [f"{number:04}" for number in range(300)]
    world.upstream.script(sse_answer(streamed(*texts)))
    call = one.begun()
    identity = await id_of(call)
    await rest(call)
    async with refused(StatusCode.OUT_OF_RANGE, "chunks_gone"):
        await rest(other.resumed(identity, 1))
    ways = [await rest(replica.resumed(identity, 295)) for replica in (one, other)]
    assert ways[0] == ways[1]
    assert text_of(ways[1]) == "".join(texts[294:])
    with world.redis.client() as client:
        (name,) = client.keys("headgate:{streams}:entries:*")
        assert (client.memory_usage(name) or 0) < 64 * 1024


async def test_the_vendor_is_read_no_faster_than_the_caller_at_another_server_reads(world: World) -> None:
    world.upstream.script(ENDLESS)
    size = 256 * 1024
    one, other = await world.replica(buffer_bytes=size), await world.replica()
    call = one.begun()
    identity = await id_of(call)
    await some(call, 1)
    call.cancel()
    await standing_still(world.upstream.requests[0])
    kept = one.stream.buffer.last
    again = other.resumed(identity, 1)
    _, *found = await some(again, kept + 500)
    assert [each.sequence for each in found] == list(range(2, kept + 501))
    await standing_still(world.upstream.requests[0])
    assert one.stream.buffer.size < 2 * size
    again.cancel()
    await reached(lambda: one.stream.listener is None)


async def test_who_leaves_another_server_can_come_back_and_in_the_end_nobody_does(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    gated(world.upstream, 3)
    call = one.begun(seconds=60)
    identity = await id_of(call)
    await some(call, 3)
    call.cancel()
    again = other.resumed(identity, 2)
    await some(again, 2)
    again.cancel()
    await reached(lambda: one.stream.listener is None)
    last = other.resumed(identity, 0, detach={"nanos": 300_000_000})
    await some(last, 4)
    assert one.stream.listener is not None
    last.cancel()
    await reached(lambda: not one.gateway.core.streams._streams)
    await reached(lambda: not keys_of(world))
    async with refused(StatusCode.NOT_FOUND, "not_found"):
        await rest(other.resumed(identity))


def keys_of(world: World) -> list[str]:
    with world.redis.client() as client:
        return [str(key) for key in client.keys("headgate:{streams}:e*")]


async def test_what_the_vendor_fails_with_is_told_at_another_server_too(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    world.upstream.script(sse_answer([*streamed(*SAID)[:4], b'data: {"error": {"message": "boom", "code": 500}}\n\n']))
    call = one.begun()
    identity = await id_of(call)
    failures = []
    for server in (None, one, other):
        with pytest.raises(aio.AioRpcError) as caught:
            await rest(call if server is None else server.resumed(identity))
        failures.append((caught.value.code(), reason_of(caught.value), caught.value.details()))
    assert len(set(failures)) == 1


async def test_a_server_that_shuts_down_leaves_what_it_had_and_says_why_there_is_no_more(world: World) -> None:
    other = await world.replica()
    gated(world.upstream, 4)
    async with AsyncExitStack() as stack:
        one = await world.replica(stack)
        call = one.begun()
        identity = await id_of(call)
        before = await some(call, 4)
        call.cancel()
        await reached(lambda: one.stream.listener is None)
        await one.gateway.core.drain(0)
    again = other.resumed(identity)
    found = []
    async with refused(StatusCode.UNAVAILABLE, "shutting_down"):
        async for response in again:
            found += [response.chunk] if response.HasField("chunk") else []
    assert found == [each.chunk for each in before]


async def test_where_redis_is_away_the_stream_goes_on_here_and_is_whole_elsewhere_once_it_is_back(
    world: World,
) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    before = await some(call, 5)
    call.cancel()
    remote = other.resumed(identity, 3)
    await some(remote, 3)
    world.redis.kill()
    # Here it is continued as ever; elsewhere it is told that this cannot be now.
    here = one.resumed(identity, 4)
    await some(here, 2)
    async with refused(StatusCode.UNAVAILABLE, ""):
        await rest(other.resumed(identity, 4))
    gate.set()
    assert text_of(before + await rest(here)) == WHOLE
    world.redis.start()
    codes = set()
    async with asyncio.timeout(20):
        while True:
            try:
                found = await rest(other.resumed(identity, 0))
            except aio.AioRpcError as error:
                codes.add(error.code())
                await asyncio.sleep(0.05)
            else:
                break
    # It is not told to be gone, which callers would believe.
    assert codes <= {StatusCode.UNAVAILABLE}
    assert text_of(found) == WHOLE
    remote.cancel()


async def test_a_caller_at_another_server_who_reads_while_redis_is_restarted_loses_nothing(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    await some(call, 2)
    call.cancel()
    remote = other.resumed(identity, 0)
    before = await some(remote, 6)
    world.redis.kill()
    world.redis.start()
    gate.set()
    after = await rest(remote)
    assert text_of(before[1:] + after) == WHOLE
    assert [each.sequence for each in before[1:] + after] == list(range(1, CHUNKS + 1))


async def test_a_redis_that_hangs_holds_nobody_up_for_long(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    before = await some(call, 3)
    world.redis.pause()
    try:
        gate.set()
        async with asyncio.timeout(5):
            assert text_of(before + await rest(call)) == WHOLE
            assert text_of(await rest(one.resumed(identity))) == WHOLE
            async with refused(StatusCode.UNAVAILABLE, ""):
                await rest(other.resumed(identity))
    finally:
        world.redis.go_on()


async def test_where_redis_is_not_there_at_the_start_streams_are_continued_here(world: World) -> None:
    world.redis.kill()
    one = await world.replica()
    world.upstream.script(sse_answer(streamed(*SAID)))
    call = one.begun()
    identity = await id_of(call)
    await rest(call)
    assert text_of(await rest(one.resumed(identity))) == WHOLE


async def test_nothing_that_redis_keeps_has_words_of_the_answer_or_the_secret_of_the_id(world: World) -> None:
    one = await world.replica()
    world.upstream.script(sse_answer(streamed("xylophone", "zeppelin")))
    call = one.begun()
    identity = await id_of(call)
    await rest(call)
    await reached(lambda: len(keys_of(world)) == 1)
    with world.redis.client() as client:
        for key in client.keys("*"):
            assert 0 < client.ttl(key) <= 3600
            kept: Any = client.execute_command("DUMP", key, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
            for word in (b"xylophone", b"zeppelin", identity.rpartition("-")[2].encode(), b"tiny"):
                assert word not in kept
                assert word not in str(key).encode()


async def test_where_it_is_not_wanted_nothing_is_copied(world: World) -> None:
    one, other = await world.replica(shared=False), await world.replica(shared=False)
    world.upstream.script(sse_answer(streamed(*SAID)))
    call = one.begun()
    identity = await id_of(call)
    await rest(call)
    assert not keys_of(world)
    async with refused(StatusCode.NOT_FOUND, "not_found"):
        await rest(other.resumed(identity))
