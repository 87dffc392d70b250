"""A thousand callers that do not read what the vendor sends as fast as it is taken: memory and buffers stay bounded."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from tests.faults.callers import GRPC_OPTIONS, HI, MODEL, OPENAI_PATH, Raw, request
from tests.faults.phases import ENDLESS, TOKENS
from tests.faults.process import open_socket_count, peak_rss_bytes, rss_bytes
from tests.headgate_cli.program import Serving, serving
from tests.support.upstream import Received, Upstream, reached

READERS = 1000
GRPC_READERS = 200
RSS_AT_MOST = 320_000_000

# What the gateway and the system take of an answer that nobody reads. The gateway: one read of 16 KiB beyond the 16 KiB
# that are kept of the vendor's answer, what is being decoded of them (as much), a batch of 16 KiB in JSON, and in the
# write buffer 16 KiB and another batch. The system: what it sends on (16 KiB, and what the caller's own buffer takes),
# and the receive buffer of the vendor's connection, which is most of it: 128 KiB on Linux. A bridge and a core that are
# apart have 64 KiB of gRPC between them.
BYTES_AT_MOST = 512 * 1024

FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def many_open_files() -> Iterator[None]:
    """Lets this process have both ends of a thousand calls."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * READERS
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"the system allows a process {before[1]} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, before[0]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def config(upstream: Upstream, tmp_path: Path) -> str:
    """The path of a configuration whose provider "lab" sends without end."""
    upstream.script(ENDLESS)
    path = tmp_path / "headgate.yaml"
    lab = f"{{kind: openai, base_url: {upstream.base_url}, lists_models: false}}"
    path.write_text(f"authentication: optional\nproviders: {{lab: {lab}}}\nlog: {{level: error}}\n", encoding="utf-8")
    return str(path)


@asynccontextmanager
async def slow_readers(port: int, count: int) -> AsyncIterator[None]:
    """Callers over REST that have asked and do not read; they leave together."""
    callers = []
    try:
        for _ in range(count):
            callers.append(Raw(port))
            await callers[-1].send(request(OPENAI_PATH, {"model": MODEL, "messages": HI, "stream": True}))
        yield
    finally:
        for caller in callers:
            caller.socket.close()


@asynccontextmanager
async def slow_grpc_readers(address: str, count: int) -> AsyncIterator[None]:
    """Callers over gRPC that have read one event and read no more; they leave together."""
    spec: Any = {"model": MODEL, "messages": [{"role": ROLE_USER, "text": "hi"}]}
    async with aio.insecure_channel(address, GRPC_OPTIONS) as channel:
        stub = ChatCompletionServiceStub(channel)
        calls: list[Any] = [stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec)) for _ in range(count)]
        await asyncio.gather(*(call.read() for call in calls))
        yield
        for call in calls:
            call.cancel()


async def standing_still(requests: Sequence[Received]) -> list[int]:
    """Waits until nothing more is taken of any answer; how many bytes were taken of each."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 60
    before: list[int] = []
    while before != (before := [received.bytes_written for received in requests]):
        assert loop.time() < end, "the answers are read on and on"
        await asyncio.sleep(0.5)
    return before


async def in_flight(port: int) -> int:
    """How many calls a gateway holds, by its metrics."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    (line,) = [line for line in text.splitlines() if line.startswith("headgate_calls_in_flight ")]
    return int(float(line.split()[1]))


async def all_left(upstream: Upstream, program: Serving, port: int, sockets: int) -> None:
    """Waits until the vendor has no connection any more, and the gateway neither calls nor their sockets."""
    await reached(lambda: all(received.closed.is_set() for received in upstream.requests), within=10)
    end = asyncio.get_running_loop().time() + 10
    while await in_flight(port):
        assert asyncio.get_running_loop().time() < end, "calls are left"
        await asyncio.sleep(0.01)
    await reached(lambda: open_socket_count(program.process.pid) <= sockets, within=10)
    upstream.requests.clear()
    upstream.connections.clear()


def port_of(program: Serving) -> int:
    return int(program.url.rpartition(":")[2])


@pytest.mark.slow
async def test_a_thousand_slow_readers_are_held_with_bounded_memory(
    upstream: Upstream, config: str, tmp_path: Path
) -> None:
    async with serving("--config", config, *FREE, home=tmp_path) as program:
        port, pid = port_of(program), program.process.pid
        async with slow_readers(port, 1):
            await upstream.received()
        await reached(upstream.requests[0].closed.is_set)
        assert await in_flight(port) == 0
        sockets = open_socket_count(pid)
        upstream.requests.clear()
        held = []
        for answer in (TOKENS, ENDLESS, ENDLESS):
            upstream.script(answer)
            async with slow_readers(port, READERS):
                await upstream.received(READERS, within=30)
                taken = await standing_still(upstream.requests)
                assert await in_flight(port) == READERS
                held.append(rss_bytes(pid))
            assert max(taken) < BYTES_AT_MOST
            await all_left(upstream, program, port, sockets)
        assert peak_rss_bytes(pid) < RSS_AT_MOST
        # The first round is for the allocator, which keeps what small events took.
        assert held[2] < 1.1 * held[1]


@pytest.mark.slow
async def test_a_bridge_and_a_core_that_are_apart_hold_as_little(
    upstream: Upstream, config: str, tmp_path: Path
) -> None:
    async with (
        serving("core", "--config", config, "--grpc", "127.0.0.1:0", home=tmp_path, last="gRPC") as core,
        serving("bridge", "--core", core.grpc, "--http", "127.0.0.1:0", home=tmp_path) as bridge,
    ):
        async with slow_readers(port_of(bridge), READERS):
            await upstream.received(READERS, within=30)
            taken = await standing_still(upstream.requests)
        assert max(taken) < BYTES_AT_MOST
        await reached(lambda: all(received.closed.is_set() for received in upstream.requests), within=10)
        assert peak_rss_bytes(bridge.process.pid) < RSS_AT_MOST
        assert peak_rss_bytes(core.process.pid) < RSS_AT_MOST


@pytest.mark.slow
async def test_slow_readers_over_grpc_are_held_with_bounded_memory(
    upstream: Upstream, config: str, tmp_path: Path
) -> None:
    async with serving("--config", config, *FREE, home=tmp_path) as program:
        port, pid = port_of(program), program.process.pid
        async with slow_grpc_readers(program.grpc, 1):
            pass
        await reached(upstream.requests[0].closed.is_set)
        upstream.requests.clear()
        await in_flight(port)
        sockets = open_socket_count(pid)
        for _ in range(3):
            async with slow_grpc_readers(program.grpc, GRPC_READERS):
                taken = await standing_still(upstream.requests)
                assert len(taken) == await in_flight(port) == GRPC_READERS
            assert max(taken) < BYTES_AT_MOST
            await all_left(upstream, program, port, sockets)
        assert peak_rss_bytes(pid) < RSS_AT_MOST
