"""What workers have in common: a limit, and the streams of each that callers continue at any of them."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from tests.faults.test_shared_limits import ROOT_KEY, account, window
from tests.headgate_cli.supervised import FREE, Supervised, supervised
from tests.support.openai_vendor import event
from tests.support.upstream import Upstream, Wait, sse_answer

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers need Linux")

LIMIT = 60
TIMES = 12
"""So many new connections meet both of two workers, but for one time in thousands."""
ASKED = {"model": "lab/tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
PATH = "/v1/chat/completions"


async def test_two_workers_keep_one_limit(tmp_path: Path) -> None:
    plans = {"small": {"windows": [{"window_seconds": window(), "requests": LIMIT}]}}
    (tmp_path / "headgate.yaml").write_text(yaml.safe_dump({"plans": plans}))
    variables = {"HEADGATE_ROOT_KEY": ROOT_KEY}
    body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}
    async with supervised(*FREE, home=tmp_path, variables=variables) as program:
        async with httpx.AsyncClient(base_url=program.url, trust_env=False) as client:
            key = {"authorization": f"Bearer {await account(client)}"}
        statuses = []
        for _ in range(2 * LIMIT):
            async with httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as client:
                statuses.append((await client.post(PATH, json=body, headers=key)).status_code)
        await program.log("call", 2 * LIMIT)
        admitted = [
            line["worker"] for line in program.events("call") if (line["operation"], line["status"]) == ("chat", "ok")
        ]
    assert set(statuses) == {200, 429}
    assert len(admitted) == statuses.count(200)
    # What is left of the limit is in leases that the workers have not used up.
    assert LIMIT - LIMIT // 4 <= statuses.count(200) <= LIMIT
    assert min(admitted.count(number) for number in (1, 2)) > 0


def configured(home: Path, upstream: Upstream) -> None:
    (home / "headgate.yaml").write_text(
        f"providers: {{lab: {{kind: openai, base_url: {upstream.base_url}, lists_models: false}}}}\n"
        "authentication: optional\ndrain_seconds: 20\n"
    )


async def begun(program: Supervised) -> str:
    """The id of a stream whose caller has left after its first words."""
    async with (
        httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as client,
        client.stream("POST", PATH, json=ASKED, headers={"x-headgate-detach": "60s"}) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("id: ")
        assert "Hel" in await anext(lines)
        return answer.headers["x-headgate-stream-id"]


async def continued(program: Supervised, stream: str, lines_at_most: int | None = None) -> tuple[int, str]:
    """The status, and what comes of a stream over a new connection."""
    async with (
        httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as client,
        client.stream("GET", f"{PATH}/{stream}/stream") as answer,
    ):
        if answer.status_code != 200:
            return answer.status_code, (await answer.aread()).decode()
        lines: list[str] = []
        async for line in answer.aiter_lines():
            lines.append(line)
            if lines_at_most is not None and len(lines) >= lines_at_most:
                break
        return 200, "\n".join(lines)


def said(text: str) -> str:
    """The words of the events of a stream."""
    documents = [json.loads(found) for found in re.findall(r"^data: (\{.*)$", text, re.MULTILINE)]
    return "".join(choice["delta"].get("content") or "" for one in documents for choice in one["choices"])


async def resumed_over_grpc(program: Supervised, stream: str) -> str:
    async with aio.insecure_channel(program.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = ChatCompletionServiceStub(channel)
        call: Any = stub.ResumeChatCompletion(ResumeChatCompletionRequest(id=stream), timeout=20)
        text = "".join([choice.delta.content async for event in call for choice in event.chunk.choices])
        assert dict(await call.initial_metadata())["x-headgate-stream-id"] == stream
        return text


async def test_a_stream_is_continued_at_whichever_worker_is_asked(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(go_on), event({"content": "lo"}, "stop")]))
    configured(tmp_path, upstream)
    async with supervised(*FREE, home=tmp_path) as program:
        stream = await begun(program)
        for _ in range(TIMES):
            status, text = await continued(program, stream, lines_at_most=2)
            assert (status, said(text)) == (200, "Hel")
        go_on.set()
        for _ in range(TIMES):
            status, text = await continued(program, stream)
            assert (status, said(text)) == (200, "Hello")
            assert text.rstrip().endswith("data: [DONE]")
            assert await resumed_over_grpc(program, stream) == "Hello"
        assert len(upstream.requests) == 1


async def test_a_stream_without_a_listener_outlives_the_restart_of_its_worker(
    tmp_path: Path, upstream: Upstream
) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(go_on), event({"content": "lo"}, "stop")]))
    configured(tmp_path, upstream)
    async with supervised(*FREE, home=tmp_path) as program:
        stream = await begun(program)
        owner = owner_of(stream)
        program.hang_up()
        await program.log("worker_ready", 2 + owner)  # the one that takes its place
        go_on.set()
        status, text = await continued(program, stream)
        assert (status, said(text)) == (200, "Hello")
        assert owner in program.workers()


async def test_a_stream_whose_worker_died_is_told_to_be_gone_with_it(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(asyncio.Event())]))
    configured(tmp_path, upstream)
    async with supervised(*FREE, home=tmp_path) as program:
        stream = await begun(program)
        owner = owner_of(stream)
        program.kill(owner)
        await program.log("worker_ready", 3)
        for _ in range(TIMES):
            status, text = await continued(program, stream)
            assert status == 404
            assert f"The worker {owner}, which ran the stream, has ended" in text
        with pytest.raises(aio.AioRpcError) as gone:
            await resumed_over_grpc(program, stream)
        assert gone.value.code() is StatusCode.NOT_FOUND


def owner_of(stream: str) -> int:
    """The number of the worker that runs a stream."""
    return int(stream.split("-")[1].partition("w")[0])
