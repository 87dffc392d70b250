"""A stream that one worker runs and another one hands on ends whole, although both of them drain."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from tests.faults.test_workers_together import PATH, begun, configured, owner_of, said
from tests.headgate_cli.supervised import FREE, Supervised, supervised
from tests.support.openai_vendor import event
from tests.support.upstream import Delay, Upstream, Wait, sse_answer

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers need Linux")

TIMES = 40
WORDS = "Hello to whoever listens at another worker while all of them end"
ESTABLISHED = "01"

Texts = AsyncIterator[str]


@asynccontextmanager
async def over_rest(program: Supervised, stream: str) -> AsyncIterator[Texts]:
    """What comes of a stream over a new connection."""
    async with (
        httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as client,
        client.stream("GET", f"{PATH}/{stream}/stream") as answer,
    ):
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        yield (said(line) async for line in lines)


@asynccontextmanager
async def over_grpc(program: Supervised, stream: str) -> AsyncIterator[Texts]:
    async with aio.insecure_channel(program.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = ChatCompletionServiceStub(channel)
        call: Any = stub.ResumeChatCompletion(ResumeChatCompletionRequest(id=stream), timeout=20)
        await call.initial_metadata()
        yield ("".join(choice.delta.content for choice in each.chunk.choices) async for each in call)


def port_of(program: Supervised, kind: str) -> int:
    return int(program.grpc.rpartition(":")[2]) if kind == "grpc" else urlsplit(program.url).port or 0


def connected(program: Supervised, port: int) -> dict[str, int]:
    """The connections to a port that are established, with the numbers of the workers that have them."""
    tables = [path.read_text(encoding="ascii").splitlines()[1:] for path in Path("/proc/net").glob("tcp*")]
    rows = [line.split() for table in tables for line in table]
    there = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED}
    return {found: number for number, pid in program.workers().items() for found in there & sockets(pid)}


def other_than(number: int) -> int:
    """The number of the other one of two workers."""
    return 3 - number


def sockets(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(path))
    return found


@pytest.mark.parametrize(("kind", "listening"), [("rest", over_rest), ("grpc", over_grpc)])
async def test_a_stream_that_another_worker_hands_on_has_the_time_of_all_others(
    kind: str, listening: Callable[[Supervised, str], Any], tmp_path: Path, upstream: Upstream
) -> None:
    go_on = asyncio.Event()
    words = [step for word in WORDS.split(" ") for step in (event({"content": f" {word}"}), Delay(0.25))]
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(go_on), *words, event({}, "stop")]))
    configured(tmp_path, upstream)
    async with supervised(*FREE, home=tmp_path) as program:
        stream = await begun(program)
        for _ in range(TIMES):
            before = connected(program, port_of(program, kind))  # of those some may still be being closed
            async with listening(program, stream) as texts:
                text = ""
                while text != "Hel":
                    text += await anext(texts)
                now = connected(program, port_of(program, kind))
                if {now[each] for each in now.keys() - before.keys()} != {other_than(owner_of(stream))}:
                    continue
                program.terminate()
                go_on.set()
                text += "".join([each async for each in texts])
                break
        assert text == f"Hel {WORDS}"
        assert await program.code() == 0
