"""Servers that are processes of their own, on one database and one Redis: one dies, and what it knew is not all lost."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis import Redis

from gateway_core.redis_store.script import SINCE
from tests.faults.callers import reason_of
from tests.faults.test_resume import SAID, asked, id_of, resumed, some, stub_at
from tests.faults.test_shared_limits import ROOT_KEY
from tests.headgate_cli.program import Serving, serving
from tests.headgate_cli.supervised import FREE, supervised
from tests.support.openai_vendor import streamed
from tests.support.redis import RunningRedis, redis_server
from tests.support.upstream import Upstream, Wait, json_answer, reached, sse_answer

__all__ = ["redis_server"]

METADATA = (("authorization", f"Bearer {ROOT_KEY}"),)
PATH = "/v1/chat/completions"
ROUTED = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
DEATH_SECONDS = 15
CIRCUIT_SECONDS = 2


class Servers:
    """Starts them."""

    def __init__(self, stack: AsyncExitStack, home: Path) -> None:
        self._stack = stack
        self._home = home

    async def start(self) -> Serving:
        variables = {"HEADGATE_ROOT_KEY": ROOT_KEY}
        arguments = ("--config", str(self._home / "headgate.yaml"))
        return await self._stack.enter_async_context(serving(*arguments, home=self._home, variables=variables))


@pytest.fixture
async def servers(redis_server: RunningRedis, upstream: Upstream, tmp_path: Path) -> AsyncIterator[Servers]:
    with redis_server.client() as client:
        client.set(SINCE, 0)
    config: dict[str, Any] = {
        "redis_url": redis_server.url,
        "listen": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
        "log": {"level": "error"},
        "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
        "models": {
            "small": {"targets": [{"provider": "lab", "model": "tiny"}, {"provider": "echo", "model": "echo"}]},
            "alone": {"targets": [{"provider": "lab", "model": "tiny"}]},
        },
    }
    (tmp_path / "headgate.yaml").write_text(yaml.safe_dump(config))
    async with AsyncExitStack() as stack:
        yield Servers(stack, tmp_path)


def copied(redis: RunningRedis) -> int:
    """The position of the last chunk that was copied."""
    with Redis(port=redis.port, password=redis.password) as client:
        keys: Any = client.keys("headgate:{streams}:entries:*")
        entries: Any = client.xrevrange(keys[0], count=1) if keys else None
        return int(entries[0][0].partition(b"-")[0]) if entries else 0


async def read_into(chunks: list[Any], call: Any) -> None:
    """All of a call."""
    while (response := await call.read()) is not aio.EOF:
        chunks += [response.chunk] if response.HasField("chunk") else []


async def test_what_a_server_that_was_killed_had_of_an_answer_is_told_elsewhere_and_that_it_is_not_whole(
    servers: Servers, upstream: Upstream
) -> None:
    one, other = await servers.start(), await servers.start()
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:6], Wait(asyncio.Event())]))
    async with stub_at(one.grpc) as stub, stub_at(other.grpc) as other_stub:
        request = asked()
        request.spec.model = "lab/tiny"
        call = stub.StreamChatCompletion(request, metadata=METADATA)
        identity = await id_of(call)
        before = await some(call, 6)
        # One caller reads elsewhere while the server dies, one comes later.
        reading = other_stub.ResumeChatCompletion(resumed(identity, 0), metadata=METADATA)
        found = await some(reading, 7)
        assert [each.chunk for each in found[1:]] == [each.chunk for each in before]
        one.process.kill()
        for again in (reading, other_stub.ResumeChatCompletion(resumed(identity, 2), metadata=METADATA)):
            later: list[Any] = []
            with pytest.raises(aio.AioRpcError) as caught:
                await asyncio.wait_for(read_into(later, again), DEATH_SECONDS)
            assert (caught.value.code(), reason_of(caught.value)) == (StatusCode.UNAVAILABLE, "provider_broken")
            assert again is reading or later == [each.chunk for each in before[2:]]
        headers = {"authorization": f"Bearer {ROOT_KEY}", "last-event-id": f"{identity}.2"}
        async with httpx.AsyncClient(base_url=other.url, trust_env=False, timeout=DEATH_SECONDS) as client:
            answer = await client.get(f"{PATH}/{identity}/stream", headers=headers)
        assert answer.status_code == 200
        *documents, last = [json.loads(each) for each in re.findall(r"^data: (\{.*)$", answer.text, re.MULTILINE)]
        text = "".join(each["delta"].get("content") or "" for one in documents for each in one["choices"])
        assert text == "".join(SAID[1:5])
        assert last["error"]["code"] == "provider_broken"
        assert "[DONE]" not in answer.text


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers need Linux")
@pytest.mark.usefixtures("servers")
async def test_what_a_worker_that_was_killed_had_of_an_answer_is_told_by_another(
    upstream: Upstream, redis_server: RunningRedis, tmp_path: Path
) -> None:
    config = tmp_path / "headgate.yaml"
    config.write_text(config.read_text().replace("level: error", "level: info"))
    events: list[Any] = streamed(*SAID)
    upstream.script(sse_answer([*events[:6], Wait(asyncio.Event())]))
    body = {**ROUTED, "model": "lab/tiny", "stream": True}
    headers = {"authorization": f"Bearer {ROOT_KEY}", "x-headgate-detach": "60s"}
    variables = {"HEADGATE_ROOT_KEY": ROOT_KEY}
    async with supervised(*FREE, home=tmp_path, variables=variables) as program:
        async with (
            httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as client,
            client.stream("POST", PATH, json=body, headers=headers) as answer,
        ):
            identity = answer.headers["x-headgate-stream-id"]
            async for line in answer.aiter_lines():
                if " there" in line:
                    break
        await reached(lambda: copied(redis_server) >= 6)
        program.kill(int(identity.split("-")[1].partition("w")[0]))
        again = {**headers, "last-event-id": f"{identity}.2"}
        async with httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=DEATH_SECONDS) as client:
            answer = await client.get(f"{PATH}/{identity}/stream", headers=again)
        assert answer.status_code == 200, answer.text
        assert '"provider_broken"' in answer.text
        assert '"Once"' not in answer.text
        assert '" upon"' in answer.text
        assert '" there"' in answer.text


async def served(server: Serving, model: str) -> Any:
    async with aio.insecure_channel(server.grpc) as channel:
        request = health_pb2.HealthCheckRequest(service=f"model/{model}")
        return (await health_pb2_grpc.HealthStub(channel).Check(request)).status


async def test_a_circuit_that_opens_at_one_server_is_open_at_the_other_within_two_seconds(
    servers: Servers, upstream: Upstream
) -> None:
    one, other = await servers.start(), await servers.start()
    upstream.script(*[json_answer({"error": {"message": "busy"}}, status=503)] * 10)
    headers = {"authorization": f"Bearer {ROOT_KEY}"}
    async with httpx.AsyncClient(trust_env=False, timeout=20, headers=headers) as client:
        assert await served(other, "alone") == health_pb2.HealthCheckResponse.SERVING
        while await served(one, "alone") == health_pb2.HealthCheckResponse.SERVING:
            answer = await client.post(f"{one.url}{PATH}", json=ROUTED)
            assert answer.status_code == 200  # the echo answers
        async with asyncio.timeout(CIRCUIT_SECONDS):
            while await served(other, "alone") == health_pb2.HealthCheckResponse.SERVING:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        asked_before = len(upstream.requests)
        answer = await client.post(f"{other.url}{PATH}", json=ROUTED)
        assert answer.headers["x-headgate-provider"] == "echo"
        assert len(upstream.requests) == asked_before
        assert 'headgate_redis_up{of="circuits"} 1.0' in (await client.get(f"{other.url}/metrics")).text
