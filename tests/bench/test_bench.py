"""The benchmark measures what is right, and only that."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionResponse, StreamChatCompletionResponse
from headgate.v1.chat_completion_service_pb2_grpc import (
    ChatCompletionServiceServicer,
    add_ChatCompletionServiceServicer_to_server,
)
from headgate.v1.token_usage_pb2 import TokenUsage

from bench import headgate
from bench.answers import PIECES, TEXT, TOTAL_TOKENS, completion, completion_flaw, stream_events, stream_flaw
from bench.load import Job, Outcome, outcome
from bench.mock import json_answer
from bench.process import ROOT, Ended, cpu_seconds, family, free_port
from bench.servers import SERVERS

ABSENCES = {server.name: server.absence for server in SERVERS}


class Answering(asyncio.Protocol):
    """Answers whatever comes, once for each piece."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)


@asynccontextmanager
async def server_that_answers(answer: bytes) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answer), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def job(port: int) -> Job:
    own = os.getpid()
    return Job("http", port, False, own, own, path="/v1/chat/completions", requests=8, seconds=5, connections=2)


def quick_run(directory: Path, *servers: str) -> dict[str, Any]:
    target = directory / "bench.json"
    only = [word for server in servers for word in ("--only", server)]
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(target), *only]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(server in run.stdout for server in servers)
    figures: dict[str, Any] = json.loads(target.read_text())
    assert figures["failed"] == []
    assert [row for row in figures["open_streams"] if row["flaw"] or row["whole"] != row["streams"]] == []
    return figures


def rows(figures: dict[str, Any], server: str) -> dict[str, dict[str, Any]]:
    return {row["scenario"]: row for row in figures["rows"] if row["server"] == server}


def test_right_answers_have_no_flaw() -> None:
    assert completion_flaw(completion()) is None
    assert stream_flaw(b"".join(stream_events(include_usage=True))) is None


def test_comments_in_a_stream_are_no_events() -> None:
    assert stream_flaw(b": ping\n\n" + b"".join(stream_events(include_usage=True))) is None


@pytest.mark.parametrize("missing", range(34))
def test_a_stream_without_one_of_its_events_has_a_flaw(missing: int) -> None:
    events = stream_events(include_usage=True)
    assert stream_flaw(b"".join(events[:missing] + events[missing + 1 :])) is not None


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"<html>", completion()[:-1], completion().replace(b"way", b"")])
def test_a_broken_completion_has_a_flaw(body: bytes) -> None:
    assert completion_flaw(body) is not None


async def test_right_answers_are_counted() -> None:
    async with server_that_answers(json_answer(b"200 OK", completion())) as port:
        found = await outcome(job(port))
    assert found.flaw is None
    assert found.requests == 8


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        (json_answer(b"500 Internal Server Error", completion()), "status 500"),
        (json_answer(b"200 OK", b"{}"), "not a chat completion"),
        (b"nonsense\r\n\r\n", "not HTTP"),
    ],
)
async def test_a_wrong_answer_is_a_flaw_and_no_measurement(answer: bytes, flaw: str) -> None:
    async with server_that_answers(answer) as port:
        found = await outcome(job(port))
    assert found.flaw is not None
    assert flaw in found.flaw
    assert found.requests == 0


class Chat(ChatCompletionServiceServicer):
    """Answers with a text, whole or in pieces."""

    def __init__(self, pieces: tuple[str, ...]) -> None:
        self._pieces = pieces

    async def CreateChatCompletion(self, request: Any, context: Any) -> CreateChatCompletionResponse:
        choice = Choice(message=AnswerMessage(content="".join(self._pieces)), finish_reason="stop")
        usage = TokenUsage(total_tokens=TOTAL_TOKENS)
        return CreateChatCompletionResponse(completion=ChatCompletion(choices=[choice], usage=usage))

    def ResumeChatCompletion(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def StreamChatCompletion(
        self, request: Any, context: Any
    ) -> AsyncGenerator[StreamChatCompletionResponse, None]:
        for piece in self._pieces:
            choice = ChunkChoice(delta=AnswerMessage(content=piece))
            yield StreamChatCompletionResponse(chunk=ChatCompletionChunk(choices=[choice]))
        last = ChatCompletionChunk(
            choices=[ChunkChoice(finish_reason="stop")], usage=TokenUsage(total_tokens=TOTAL_TOKENS)
        )
        yield StreamChatCompletionResponse(chunk=last)


async def grpc_outcome(pieces: tuple[str, ...], stream: bool) -> Outcome:
    server = grpc.aio.server()
    add_ChatCompletionServiceServicer_to_server(Chat(pieces), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await outcome(replace(job(port), wire="chat", stream=stream, model="mock/tiny"))
    finally:
        await server.stop(grace=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pieces", [(TEXT,), PIECES])
async def test_merged_chunks_are_right_over_grpc(pieces: tuple[str, ...], stream: bool) -> None:
    found = await grpc_outcome(pieces, stream)
    assert found.flaw is None
    assert found.requests == 8


@pytest.mark.parametrize("stream", [False, True])
async def test_a_missing_word_is_a_flaw_over_grpc(stream: bool) -> None:
    found = await grpc_outcome(PIECES[:-1], stream)
    assert found.flaw is not None
    assert "the text differs" in found.flaw


async def test_a_server_that_is_not_there_is_a_flaw() -> None:
    assert (await outcome(job(free_port()))).flaw is not None


def test_the_cpu_of_children_counts_and_an_ended_process_has_none() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(family(process.pid)) == 2
        assert cpu_seconds(process.pid) > 0.25
        process.communicate(b"\n", timeout=10)
    with pytest.raises(Ended):
        cpu_seconds(process.pid)


@pytest.mark.skipif(ABSENCES["envoy"]() is not None, reason=str(ABSENCES["envoy"]()))
def test_a_quick_run_measures_envoy_and_the_floor(tmp_path: Path) -> None:
    figures = quick_run(tmp_path, "direct", "envoy", "grpc.aio floor")
    assert rows(figures, "direct").keys() == rows(figures, "envoy").keys()
    assert len(rows(figures, "envoy")) == 5
    assert len(rows(figures, "grpc.aio floor")) == 4
    assert all(row["requests"] > 0 for row in figures["rows"])
    assert {"p50", "p95", "p99"} == rows(figures, "envoy")["REST unary, fixed rate"]["latency_ms"].keys()


@pytest.mark.skipif(headgate.absence() is not None, reason=str(headgate.absence()))
def test_a_quick_run_measures_headgate_over_rest_and_grpc(tmp_path: Path) -> None:
    measured = rows(quick_run(tmp_path, "headgate", "grpc.aio floor"), "headgate")
    assert len(measured) == 9
    assert all(row["requests"] > 0 for row in measured.values())
    assert "cpu_us_per_event" in measured["gRPC stream, burst"]
    assert "ratio_to_floor" in measured["gRPC unary"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "--only", "direct", "--json", str(tmp_path / "bench.json")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "round 1" in process.stderr.readline()
        started = family(process.pid)[1:]
        assert len(started) == 3
        process.send_signal(number)
        assert process.wait(timeout=20) == 130
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
