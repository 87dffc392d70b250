"""What is told of calls that have not ended when the time to drain is over: to their callers, the log and the ledger."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest, StreamChatCompletionResponse
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from tests.headgate_cli.program import Serving, serving
from tests.headgate_cli.test_serve import chunk
from tests.support.upstream import Silence, Upstream, sse_answer

FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
SAID = [{"role": "user", "content": "Hello"}]
WORDS = "The server ends, and the call with it: its time to finish is over."
OF_OPENAI = {"message": WORDS, "type": "server_error", "param": None, "code": "shutting_down"}
SECONDS = 20


def configured(home: Path, upstream: Upstream, more: str = "drain_seconds: 0.5\n") -> tuple[str, ...]:
    (home / "headgate.yaml").write_text(
        f"providers: {{lab: {{kind: openai, base_url: {upstream.base_url}, lists_models: false}}}}\n"
        "models: {small: {targets: [{provider: lab, model: tiny}],"
        " price: {input_per_million: 1, output_per_million: 1000}}}\n"
        f"authentication: optional\n{more}"
    )
    return FREE


@asynccontextmanager
async def asked(program: Serving, path: str, headers: dict[str, str] | None = None) -> AsyncIterator[httpx.Response]:
    """A stream that has begun to be answered."""
    body = {"model": "small", "messages": SAID, "stream": True}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client,
        client.stream("POST", program.url + path, json=body, headers=headers) as response,
    ):
        assert response.status_code == 200
        yield response


async def rest(program: Serving, lines: AsyncIterator[str]) -> list[str]:
    """What comes until the body is complete, with SIGTERM behind its first line."""
    await anext(lines)
    program.terminate()
    return [line async for line in lines if line]


async def calls(program: Serving) -> list[dict[str, Any]]:
    """The lines of the log that tell of calls, of a program that has ended."""
    assert program.errors is not None
    lines = [json.loads(line) for line in (await program.errors).decode().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "call"]


def records(home: Path, columns: str, table: str = "ledger_requests") -> list[Any]:
    with sqlite3.connect(home / "data/headgate.db") as connection:
        return connection.execute(f"SELECT {columns} FROM {table}").fetchall()


@pytest.mark.parametrize("detach", [{}, {"x-headgate-detach": "60s"}], ids=["plain", "resumable"])
async def test_a_stream_of_openai_ends_with_an_error_and_without_done(
    tmp_path: Path, upstream: Upstream, detach: dict[str, str]
) -> None:
    upstream.script(sse_answer([chunk("Hel"), Silence()]))
    async with serving(*configured(tmp_path, upstream), home=tmp_path) as program:
        async with asked(program, "/v1/chat/completions", detach) as response:
            (last,) = [
                line for line in await rest(program, response.aiter_lines()) if line[:4] == "data" and "Hel" not in line
            ]
            assert json.loads(last.removeprefix("data: ")) == {"error": {**OF_OPENAI, "partial": True}}
        assert await program.code() == 0
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        (line,) = await calls(program)
    assert (line["status"], line["level"], line["dialect"]) == ("interrupted", "warning", "openai")
    # What was delivered is charged: the three letters count as one token, and the prompt as it is estimated.
    ((status, delivered, prompt, cost, charged, microseconds),) = records(
        tmp_path, "status, delivered_tokens, estimated_prompt_tokens, cost_pico_usd, charged_pico_usd, duration_us"
    )
    assert (status, delivered, cost) == ("interrupted", 1, prompt * 10**6 + 10**9)
    assert charged == cost > 0
    assert microseconds > 0
    assert records(tmp_path, "status, cost_pico_usd", "ledger_attempts") == [("interrupted", cost)]


async def test_a_stream_of_ollama_ends_with_an_error_and_is_not_done(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer([chunk("Hel"), Silence()]))
    async with serving(*configured(tmp_path, upstream), home=tmp_path) as program:
        async with asked(program, "/api/chat") as response:
            assert [json.loads(line) for line in await rest(program, response.aiter_lines())] == [{"error": WORDS}]
        assert await program.code() == 0
    assert records(tmp_path, "status") == [("interrupted",)]


async def test_requests_behind_a_cut_one_on_its_connection_are_not_begun(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script([Silence()])
    async with serving(*configured(tmp_path, upstream), home=tmp_path) as program:
        body = json.dumps({"model": "small", "messages": SAID}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        url = httpx.URL(program.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write((head + body) * 3)
        await upstream.received(1)
        program.terminate()
        async with asyncio.timeout(SECONDS):
            told = await reader.read()
        writer.close()
        assert told.startswith(b"HTTP/1.1 503 ")
        assert told.count(b"HTTP/1.1 ") == 1
        assert await program.code() == 0
        assert [line["status"] for line in await calls(program)] == ["interrupted"]
    assert len(upstream.requests) == 1
    assert records(tmp_path, "status, charged_pico_usd") == [("interrupted", 0)]


async def test_whole_answers_become_503_and_are_free(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script([Silence()])
    async with (
        serving(*configured(tmp_path, upstream), home=tmp_path) as program,
        httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client,
    ):
        body = {"model": "small", "messages": SAID, "stream": False}
        of_openai = asyncio.create_task(client.post(f"{program.url}/v1/chat/completions", json=body))
        of_ollama = asyncio.create_task(client.post(f"{program.url}/api/chat", json=body))
        await upstream.received(2)
        program.terminate()
        assert ((await of_openai).status_code, (await of_openai).json()) == (503, {"error": OF_OPENAI})
        assert ((await of_ollama).status_code, (await of_ollama).json()) == (503, {"error": WORDS})
        assert (await of_openai).headers["connection"] == "close"
        assert await program.code() == 0
        assert {line["status"] for line in await calls(program)} == {"interrupted"}
    assert records(tmp_path, "status, charged_pico_usd") == [("interrupted", 0)] * 2


@pytest.mark.parametrize("server", ["native", "grpcio"])
async def test_a_grpc_call_is_interrupted_too(tmp_path: Path, upstream: Upstream, server: str) -> None:
    upstream.script(sse_answer([chunk("Hel"), Silence()]))
    options = configured(tmp_path, upstream, f"drain_seconds: 0.5\nlisten: {{grpc_server: {server}}}\n")
    async with serving(*options, home=tmp_path) as program, aio.insecure_channel(program.grpc) as channel:
        spec = {"model": "small", "messages": [{"role": ROLE_USER, "text": "Hello"}]}
        request = StreamChatCompletionRequest(spec=cast(Any, spec))
        call = ChatCompletionServiceStub(channel).StreamChatCompletion(request, timeout=SECONDS)
        await anext(cast(AsyncIterator[StreamChatCompletionResponse], aiter(cast(Any, call))))
        program.terminate()
        assert await call.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
        assert await program.code() == 0
        assert [line["status"] for line in await calls(program)] == ["interrupted"]
    assert records(tmp_path, "status") == [("interrupted",)]


async def test_a_caller_that_leaves_while_the_server_drains_has_cancelled(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer([chunk("Hel"), Silence()]))
    async with serving(*configured(tmp_path, upstream, "drain_seconds: 30\n"), home=tmp_path) as program:
        async with asked(program, "/v1/chat/completions") as response:
            await anext(response.aiter_lines())
            program.terminate()
            await program.line("draining")
        assert await program.code() == 0
    assert records(tmp_path, "status") == [("cancelled",)]


async def test_a_bridge_apart_that_ends_tells_its_callers_as_well(tmp_path: Path, upstream: Upstream) -> None:
    options = configured(tmp_path, upstream)
    upstream.script(sse_answer([chunk("Hel"), Silence()]), [Silence()])
    async with (
        serving("core", *options[2:], home=tmp_path, last="gRPC") as core,
        serving("bridge", "--core", core.grpc, *options[:2], home=tmp_path) as bridge,
        httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client,
        asked(bridge, "/v1/chat/completions") as response,
    ):
        whole = client.post(f"{bridge.url}/v1/chat/completions", json={"model": "small", "messages": SAID})
        waiting = asyncio.create_task(whole)
        await upstream.received(2)
        (last,) = [line for line in await rest(bridge, response.aiter_lines()) if "Hel" not in line]
        assert json.loads(last.removeprefix("data: ")) == {"error": {**OF_OPENAI, "partial": True}}
        assert ((await waiting).status_code, (await waiting).json()) == (503, {"error": OF_OPENAI})
        assert await bridge.code() == 0


async def test_a_bridge_apart_passes_on_that_its_core_ends(tmp_path: Path, upstream: Upstream) -> None:
    options = configured(tmp_path, upstream)
    upstream.script(sse_answer([chunk("Hel"), Silence()]))
    async with (
        serving("core", *options[2:], home=tmp_path, last="gRPC") as core,
        serving("bridge", "--core", core.grpc, *options[:2], home=tmp_path) as bridge,
        asked(bridge, "/v1/chat/completions") as response,
    ):
        (last,) = [line for line in await rest(core, response.aiter_lines()) if "Hel" not in line]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert await core.code() == 0


async def test_a_request_that_is_still_arriving_becomes_503(tmp_path: Path, upstream: Upstream) -> None:
    async with serving(*configured(tmp_path, upstream), home=tmp_path) as program:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(program.url.rpartition(":")[2]))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        program.terminate()
        async with asyncio.timeout(SECONDS):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"shutting_down"' in answer
        assert await program.code() == 0
