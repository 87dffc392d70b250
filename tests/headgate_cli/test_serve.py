import asyncio
import json
import shlex
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest, StreamChatCompletionResponse
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from headgate.v1.model_service_pb2 import ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub

from tests.headgate_cli.program import Serving, ended, serving
from tests.support.upstream import Silence, Upstream, Wait, json_answer, sse_answer

FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
ASKED = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}


def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}


def configured(home: Path, upstream: Upstream, more: str = "") -> tuple[str, ...]:
    (home / "headgate.yaml").write_text(
        f"providers: {{lab: {{kind: openai, base_url: {upstream.base_url}, lists_models: false}}}}\n"
        f"authentication: optional\n{more}"
    )
    return FREE


def request(model: str) -> StreamChatCompletionRequest:
    spec = {"model": model, "messages": [{"role": ROLE_USER, "text": "Hello"}]}
    return StreamChatCompletionRequest(spec=cast(Any, spec))


async def words(program: Serving, model: str = "echo/echo") -> str:
    async with aio.insecure_channel(program.grpc) as channel:
        call = ChatCompletionServiceStub(channel).StreamChatCompletion(request(model), timeout=20)
        events = cast(AsyncIterator[StreamChatCompletionResponse], call)
        return "".join([choice.delta.content async for event in events for choice in event.chunk.choices])


async def content(program: Serving, model: str = "echo/echo") -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        response = await client.post(
            f"{program.url}/v1/chat/completions", json={**ASKED, "model": model, "stream": False}
        )
    return cast(str, response.json()["choices"][0]["message"]["content"])


async def test_it_answers_over_rest_and_grpc_on_the_ports_that_it_prints(tmp_path: Path) -> None:
    async with serving(*FREE, home=tmp_path) as program:
        assert await content(program) == "Hello"
        assert await words(program) == "Hello"
        assert "echo/echo" in program.text
        assert f"{program.url}/metrics" in program.text
        program.terminate()
        assert await program.code() == 0


async def test_the_curl_line_works_as_it_stands(tmp_path: Path) -> None:
    async with serving(*FREE, home=tmp_path) as program:
        _, url, _, header, _, body = shlex.split(program.lines[-1])
        name, _, value = header.partition(": ")
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(url, content=body, headers={name: value})
        assert response.json()["choices"][0]["message"]["content"] == json.loads(body)["messages"][0]["content"]


async def test_keys_of_the_environment_are_told_by_the_name_of_their_variable_only(tmp_path: Path) -> None:
    async with serving(*FREE, home=tmp_path, variables={"OPENAI_API_KEY": "sk-secret"}) as program:
        assert "openai: from OPENAI_API_KEY" in program.text
        assert "secret" not in program.text


async def test_the_file_in_the_data_directory_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "headgate.yaml").write_text(
        "providers: {lab: {kind: openai, base_url: 'http://127.0.0.1:9/v1', lists_models: false}}"
    )
    async with serving(*FREE, home=tmp_path) as program:
        assert f"configuration: {tmp_path}/data/headgate.yaml" in program.text
        assert "lab: http://127.0.0.1:9/v1" in program.text


async def test_a_provider_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "headgate.yaml").write_text(
        "providers: {lab: {kind: openai, base_url: 'http://me:secret@127.0.0.1:9/v1'}}"
    )
    result = await ended("serve", *FREE, home=tmp_path)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert "providers.lab.base_url" in line
    assert "secret" not in line


async def test_the_root_key_is_told_at_the_first_start_only_and_needed_where_there_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "headgate.yaml").write_text("log: {level: info}")
    async with serving(*FREE, home=tmp_path) as program:
        (line,) = [line for line in program.lines if "root key" in line]
        key = line.split()[2]
        async with httpx.AsyncClient(trust_env=False, base_url=program.url) as client:
            without = await client.get("/v1/models")
            with_it = await client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        assert (without.status_code, with_it.status_code) == (401, 200)
        listed = await ended("models", "--url", program.url, home=tmp_path, variables={"HEADGATE_API_KEY": key})
        assert listed.code == 0
        over_grpc = await ended("models", "--grpc", program.grpc, home=tmp_path, variables={"HEADGATE_API_KEY": key})
        assert over_grpc.code == 0
        program.terminate()
        assert await program.code() == 0
    async with serving(*FREE, home=tmp_path) as program:
        assert "sk-hg-" not in program.text


async def test_the_root_key_of_the_environment_is_not_told(tmp_path: Path) -> None:
    key = "sk-hg-" + "a1" * 22
    async with serving(*FREE, home=tmp_path, variables={"HEADGATE_ROOT_KEY": key}) as program:
        assert key not in program.text
        assert "nobody needs a key" in program.text
        async with httpx.AsyncClient(trust_env=False, base_url=program.url) as client:
            for given, status in ((key, 200), (key + "x", 401), ("none-yet", 200)):
                response = await client.get("/v1/models", headers={"authorization": f"Bearer {given}"})
                assert response.status_code == status
    result = await ended("serve", *FREE, home=tmp_path, variables={"HEADGATE_ROOT_KEY": "secret"})
    assert result.code == 1
    assert "HEADGATE_ROOT_KEY" in result.err
    assert "secret" not in result.err


async def test_core_and_bridge_run_apart(tmp_path: Path) -> None:
    async with (
        serving("core", "--grpc", "127.0.0.1:0", home=tmp_path, last="gRPC") as core,
        serving("bridge", "--core", core.grpc, "--http", "127.0.0.1:0", home=tmp_path) as bridge,
    ):
        assert f"the core answers at {core.grpc}" in bridge.text
        assert await content(bridge) == "Hello"
        bridge.terminate()
        core.terminate()
        assert await bridge.code() == 0
        assert await core.code() == 0


async def test_a_core_alone_shows_its_health_and_metrics_where_it_is_told_to(tmp_path: Path) -> None:
    options = ("core", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
    async with serving(*options, home=tmp_path, last="metrics") as core:
        assert "OpenAI SDK" not in core.text
        assert await words(core) == "Hello"
        metrics = core.lines[-1].split()[-1]
        async with httpx.AsyncClient(trust_env=False) as client:
            shown = await client.get(metrics)
            healthy = await client.get(metrics.replace("/metrics", "/healthz"))
            nothing = await client.get(metrics.replace("/metrics", "/v1/models"))
        assert 'headgate_calls_total{dialect="grpc",operation="chat",status="ok"} 1.0' in shown.text
        assert (healthy.status_code, nothing.status_code) == (200, 404)


async def test_a_bridge_starts_before_its_core(tmp_path: Path) -> None:
    async with serving("bridge", "--core", "127.0.0.1:9", "--http", "127.0.0.1:0", home=tmp_path) as bridge:
        assert "does not answer yet" in bridge.text
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.get(f"{bridge.url}/healthz")
        assert response.status_code == 503


async def asked(program: Serving) -> grpc.StatusCode:
    """What becomes of a call over a connection of its own."""
    alone = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(program.grpc, options=alone) as channel:
        call: Any = ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=5)
        return await call.code()  # type: ignore[no-any-return]


async def drained(program: Serving, watch: AsyncIterator[HealthCheckResponse]) -> None:
    """Sends SIGTERM and sees that nothing new is taken."""
    program.terminate()
    await program.line("draining")
    async with asyncio.timeout(10):
        assert (await anext(watch)).status == HealthCheckResponse.NOT_SERVING
    async with asyncio.timeout(10):
        # The health is told first, and the port is closed after that.
        while (code := await asked(program)) is grpc.StatusCode.OK:
            pass
    assert code is grpc.StatusCode.UNAVAILABLE
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{program.url}/healthz")


async def test_an_open_rest_stream_finishes_after_sigterm(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([chunk("Hel"), Wait(go_on), chunk("lo", "stop")]))
    async with (
        serving(*configured(tmp_path, upstream), home=tmp_path) as program,
        aio.insecure_channel(program.grpc) as channel,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream("POST", f"{program.url}/v1/chat/completions", json={**ASKED, "model": "lab/tiny"}) as response,
    ):
        watch = aiter(HealthStub(channel).Watch(HealthCheckRequest()))
        assert (await anext(watch)).status == HealthCheckResponse.SERVING
        lines = response.aiter_lines()
        assert '"content":"Hel"' in await anext(lines)
        await drained(program, watch)
        go_on.set()
        rest = [line async for line in lines if line]
        assert '"content":"lo"' in rest[0]
        assert rest[-1] == "data: [DONE]"
        # The watch is open still: it does not hold the program for the whole of drain_seconds.
        assert await program.code() == 0


async def test_an_open_grpc_stream_finishes_after_sigterm(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.script(sse_answer([chunk("Hel"), Wait(go_on), chunk("lo", "stop")]))
    async with (
        serving(*configured(tmp_path, upstream), home=tmp_path) as program,
        aio.insecure_channel(program.grpc) as channel,
        aio.insecure_channel(program.grpc) as watching,
    ):
        watch = aiter(HealthStub(watching).Watch(HealthCheckRequest()))
        assert (await anext(watch)).status == HealthCheckResponse.SERVING
        call = ChatCompletionServiceStub(channel).StreamChatCompletion(request("lab/tiny"), timeout=20)
        events = cast(AsyncIterator[StreamChatCompletionResponse], aiter(cast(Any, call)))
        assert (await anext(events)).chunk.choices[0].delta.content == "Hel"
        await drained(program, watch)
        go_on.set()
        rest = [choice.delta.content async for event in events for choice in event.chunk.choices]
        assert "".join(rest) == "lo"
        assert await call.code() is grpc.StatusCode.OK
        assert await program.code() == 0


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer([chunk("Hel"), Silence()]))
    async with (
        serving(*configured(tmp_path, upstream), home=tmp_path) as program,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream("POST", f"{program.url}/v1/chat/completions", json={**ASKED, "model": "lab/tiny"}) as response,
    ):
        await anext(response.aiter_lines())
        program.terminate()
        await program.line("draining")
        program.terminate()
        assert await program.code() == 128 + 15


@pytest.mark.parametrize("option", ["--http", "--grpc"])
async def test_an_address_in_use_is_told_in_one_line(tmp_path: Path, option: str) -> None:
    other = "--grpc" if option == "--http" else "--http"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = await ended("serve", option, address, other, "127.0.0.1:0", home=tmp_path)
    assert result.code == 1
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith(f"headgate: {address} is in use")
    assert f"{option} 127.0.0.1:0" in line


async def test_a_discovered_server_is_asked(tmp_path: Path, upstream: Upstream) -> None:
    models = json_answer({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "library"}]})
    upstream.script(
        lambda received: json_answer({}, 404) if received.path != "/v1/models" else models,
    )
    variables = {"OLLAMA_HOST": f"127.0.0.1:{upstream.port}"}
    async with serving(*FREE, home=tmp_path, variables=variables) as program:
        assert f"answers at 127.0.0.1:{upstream.port}, 1 model" in program.text
        assert f'"model": "local-{upstream.port}/tiny"' in program.lines[-1]
