import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest, StreamChatCompletionResponse
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from headgate_cli.errors import WrongUse
from headgate_cli.supervisor import place_of_sockets
from headgate_cli.workers import processors, worker_count
from tests.headgate_cli.program import ended, serving
from tests.headgate_cli.supervised import FREE, Supervised, gone, supervised
from tests.support.openai_vendor import event
from tests.support.upstream import Silence, Upstream, Wait, sse_answer

needs_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers need Linux")
ASKED = {"messages": [{"role": "user", "content": "Hello"}]}
TIMES = 12
"""So many new connections meet both of two workers, but for one time in thousands."""


def configured(home: Path, upstream: Upstream | None = None, more: str = "") -> Path:
    lab = f"lab: {{kind: openai, base_url: {upstream.base_url}, lists_models: false}}" if upstream else ""
    path = home / "headgate.yaml"
    path.write_text(f"providers: {{{lab}}}\nauthentication: optional\n{more}\n")
    return path


async def content(program: Supervised) -> str:
    """What the echo says over a new connection."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        answer = await client.post(f"{program.url}/v1/chat/completions", json={**ASKED, "model": "echo/echo"})
    return cast(str, answer.json()["choices"][0]["message"]["content"])


async def words(program: Supervised) -> str:
    """The same over gRPC."""
    spec: Any = {"model": "echo/echo", "messages": [{"role": ROLE_USER, "text": "Hello"}]}
    async with aio.insecure_channel(program.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = ChatCompletionServiceStub(channel).StreamChatCompletion(StreamChatCompletionRequest(spec=spec))
        events = cast(AsyncIterator[StreamChatCompletionResponse], call)
        return "".join([choice.delta.content async for event in events for choice in event.chunk.choices])


@needs_linux
async def test_all_workers_answer_at_one_address_and_the_start_is_told_once(tmp_path: Path) -> None:
    async with supervised(*FREE, home=tmp_path) as program:
        assert [await content(program) for _ in range(TIMES)] == ["Hello"] * TIMES
        assert [await words(program) for _ in range(TIMES)] == ["Hello"] * TIMES
        await program.log("call", 2 * TIMES)
        for dialect in ("openai", "grpc"):
            assert {line["worker"] for line in program.events("call") if line["dialect"] == dialect} == {1, 2}
        assert [line["worker"] for line in program.events("database_migrated")] == [1]
        assert len([line for line in program.lines if "root key" in line]) == 1
        assert len([line for line in program.lines if "try it" in line]) == 1
        assert "2 workers share the addresses" in program.text
        program.terminate()
        assert await program.code() == 0
        assert [line["message"] for line in await program.log("worker_ended", 2)] == ["exit status 0"] * 2
    assert not any(name.startswith("headgate-") for name in os.listdir(tmp_path))


@needs_linux
async def test_the_metrics_of_all_workers_are_shown_by_each(tmp_path: Path) -> None:
    async with supervised(*FREE, home=tmp_path) as program:
        for _ in range(TIMES):
            await content(program)
        async with httpx.AsyncClient(trust_env=False) as client:
            shown = await client.get(f"{program.url}/metrics")
            more = await client.get(f"{program.url}/metrics", headers={"accept": "application/openmetrics-text"})
        counts = re.findall(r'^headgate_calls_total\{worker="(\d)",.*status="ok"\} (.*)$', shown.text, re.MULTILINE)
        assert sorted(worker for worker, _ in counts) == ["1", "2"]
        assert sum(float(count) for _, count in counts) == TIMES
        assert shown.text.count("# TYPE headgate_calls_total ") == 1
        assert more.text.endswith("# EOF\n")
        assert more.text.count("# EOF") == 1


@needs_linux
async def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    async with supervised(*FREE, home=tmp_path) as program:
        number, pid = next(iter(program.workers().items()))
        program.kill(number)
        (line,) = await program.log("worker_ended")
        assert (line["worker"], line["pid"], line["message"]) == (number, pid, "ended by SIGKILL")
        await program.log("worker_ready", 3)
        assert program.workers().keys() == {1, 2, 3} - {number}
        assert [await content(program) for _ in range(TIMES)] == ["Hello"] * TIMES
        assert [await words(program) for _ in range(TIMES)] == ["Hello"] * TIMES


@needs_linux
async def test_a_worker_that_cannot_start_ends_the_program_with_its_error_and_its_exit_status(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    configured(tmp_path, more=f"database_url: sqlite:///{tmp_path}/file/headgate.db")
    result = await ended("serve", "--workers", "2", *FREE, home=tmp_path)
    assert result.code == 1
    assert result.out == ""
    assert len([line for line in result.err.splitlines() if "worker_started" in line]) == 1
    assert "headgate: database_url" in result.err
    assert result.err.splitlines()[-1] == "headgate: no worker could be started: exit status 1"


@needs_linux
async def test_a_restart_with_a_bad_configuration_leaves_the_workers_as_they_are(tmp_path: Path) -> None:
    path = configured(tmp_path)
    good = path.read_text()
    async with supervised(*FREE, home=tmp_path) as program:
        before = program.workers()
        path.write_text("authentication: sometimes\n")
        program.hang_up()
        await program.log("restart_failed")
        assert program.workers() == before
        assert any("headgate.yaml:1: authentication" in line for line in program.said)
        assert await content(program) == "Hello"
        path.write_text(good.replace("optional", "required"))
        await program.restarted()
        assert not program.workers().keys() & before.keys()
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{program.url}/v1/models")).status_code == 401


@needs_linux
async def test_an_open_stream_finishes_after_sigterm_to_the_supervisor(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(go_on), event({"content": "lo"}, "stop")]))
    configured(tmp_path, upstream)
    async with (
        supervised(*FREE, home=tmp_path) as program,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream(
            "POST", f"{program.url}/v1/chat/completions", json={**ASKED, "model": "lab/tiny", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        assert '"content":"Hel"' in await anext(lines)
        program.terminate()
        await program.line("draining")
        await program.log("worker_ended")  # the one that has nothing to do
        with pytest.raises(httpx.ConnectError):
            await content(program)
        go_on.set()
        rest = [line async for line in lines if line]
        assert '"content":"lo"' in rest[0]
        assert rest[-1] == "data: [DONE]"
        assert await program.code() == 0
        assert [line["message"] for line in await program.log("worker_ended", 2)] == ["exit status 0"] * 2


@needs_linux
async def test_a_stream_of_a_worker_that_retires_finishes_after_sigterm(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([event({"content": "Hel"}), Wait(go_on), event({"content": "lo"}, "stop")]))
    configured(tmp_path, upstream)
    async with (
        supervised(*FREE, home=tmp_path, workers=2) as program,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream(
            "POST", f"{program.url}/v1/chat/completions", json={**ASKED, "model": "lab/tiny", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        assert '"content":"Hel"' in await anext(lines)
        program.hang_up()
        # One of the two has the stream, and ends no sooner than it.
        await program.log("worker_ready", 3)
        program.terminate()
        await program.line("draining")
        go_on.set()
        assert [line async for line in lines if line][-1] == "data: [DONE]"
        assert await program.code() == 0
        assert {line["message"] for line in await program.log("worker_ended", 3)} == {"exit status 0"}


@needs_linux
async def test_a_start_is_ended_by_sigterm(tmp_path: Path) -> None:
    async with supervised(*FREE, home=tmp_path, last="") as program:
        await program.log("worker_started")
        program.terminate()
        await program.line("draining")
        assert await program.code() == 0
        await program.log("worker_ended")


@needs_linux
async def test_a_second_sigterm_ends_all_at_once(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Silence()]))
    configured(tmp_path, upstream)
    async with (
        supervised(*FREE, home=tmp_path) as program,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream(
            "POST", f"{program.url}/v1/chat/completions", json={**ASKED, "model": "lab/tiny", "stream": True}
        ) as response,
    ):
        await anext(response.aiter_lines())
        pids = program.workers().values()
        program.terminate()
        await program.line("draining")
        program.terminate()
        assert await program.code() == 128 + 15
        await gone(*pids)


@needs_linux
async def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    async with supervised(*FREE, home=tmp_path) as program:
        pids = program.workers().values()
        assert len(pids) == 2
        program.process.kill()
        await program.process.wait()
        await gone(*pids)
    assert not any(name.startswith("headgate-") for name in os.listdir(tmp_path))


@needs_linux
@pytest.mark.parametrize("option", ["--http", "--grpc"])
async def test_an_address_in_use_is_told_once(tmp_path: Path, option: str) -> None:
    other = "--grpc" if option == "--http" else "--http"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = await ended("serve", "--workers", "2", option, address, other, "127.0.0.1:0", home=tmp_path)
    assert (result.code, result.out) == (1, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"headgate: {address} is in use")


@needs_linux
async def test_nobody_else_gets_the_addresses_of_workers(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with supervised(*FREE, home=tmp_path) as program:
        for workers in ("1", "2"):
            for option, address in (("--grpc", program.grpc), ("--http", program.url.removeprefix("http://"))):
                other = "--http" if option == "--grpc" else "--grpc"
                command = ("serve", "--workers", workers, option, address, other, "127.0.0.1:0")
                result = await ended(*command, home=tmp_path / "other")
                assert result.code == 1, result
                assert f"{address} is in use" in result.err


@needs_linux
async def test_a_bridge_alone_has_workers_too(tmp_path: Path) -> None:
    async with (
        serving("core", "--grpc", "127.0.0.1:0", home=tmp_path, last="gRPC") as core,
        supervised("bridge", "--core", core.grpc, "--http", "127.0.0.1:0", home=tmp_path) as bridge,
    ):
        assert [await content(bridge) for _ in range(TIMES)] == ["Hello"] * TIMES
        await bridge.restarted()
        assert [await content(bridge) for _ in range(TIMES)] == ["Hello"] * TIMES
        bridge.terminate()
        assert await bridge.code() == 0


@needs_linux
async def test_the_configuration_says_how_many_workers_there_are(tmp_path: Path) -> None:
    configured(tmp_path, more="workers: 2")
    async with supervised(*FREE, home=tmp_path, workers=None) as program:
        assert len(program.workers()) == 2


def test_the_sockets_of_workers_have_a_short_path() -> None:
    assert place_of_sockets("/var/tmp") == "/var/tmp"
    assert place_of_sockets("/var/" + "x" * 70) == "/tmp"


def test_the_number_of_workers_is_that_of_the_option_or_of_the_configuration() -> None:
    assert worker_count(None, 1) == 1
    assert worker_count(None, 3) == 3
    assert worker_count("4", 3) == 4
    assert worker_count("auto", 3) == worker_count(None, "auto") == processors() >= 1


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1025", "", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(WrongUse, match="--workers must be a number"):
        worker_count(asked, 1)
