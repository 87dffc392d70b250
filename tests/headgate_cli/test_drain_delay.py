"""What `drain_delay_seconds` is for: whoever watches the health is told first, and refused later."""

import asyncio
from pathlib import Path

import httpx
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.headgate_cli.program import Serving, serving

ADDRESSES = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
NEVER = 3600
"""Seconds that no test lasts."""


def delayed(home: Path, seconds: float) -> tuple[str, ...]:
    (home / "headgate.yaml").write_text(f"authentication: optional\ndrain_delay_seconds: {seconds}\n")
    return ADDRESSES


async def over_http(program: Serving) -> int:
    """The status of the answer to a call over a new connection."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}
        return (await client.post(f"{program.url}/v1/chat/completions", json=body)).status_code


async def health_over_http(program: Serving) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        answer = await client.get(f"{program.url}/healthz")
    return answer.status_code, answer.json()["status"]


async def health_over_grpc(program: Serving) -> int:
    """Asked over a new connection."""
    async with aio.insecure_channel(program.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        response: HealthCheckResponse = await HealthStub(channel).Check(HealthCheckRequest(), timeout=20)
    return int(response.status)


async def test_after_sigterm_the_health_says_no_and_calls_are_answered_until_the_delay_is_over(tmp_path: Path) -> None:
    async with serving(*delayed(tmp_path, NEVER), home=tmp_path) as program:
        assert await health_over_http(program) == (200, "serving")
        program.terminate()
        assert "3600 s more" in await program.line("leaving")
        async with asyncio.timeout(20):
            while await health_over_http(program) != (503, "not_serving"):
                pass
        assert await health_over_grpc(program) == HealthCheckResponse.NOT_SERVING
        assert await over_http(program) == 200
        program.terminate()
        assert await program.code() == 128 + 15


async def test_when_the_delay_is_over_it_drains_and_ends(tmp_path: Path) -> None:
    async with serving(*delayed(tmp_path, 0.2), home=tmp_path) as program:
        program.terminate()
        await program.line("leaving")
        await program.line("draining")
        assert await program.code() == 0
        with pytest.raises(httpx.ConnectError):
            await over_http(program)


async def test_a_bridge_apart_tells_of_itself_whatever_its_core_says(tmp_path: Path) -> None:
    config = delayed(tmp_path, NEVER)
    async with (
        serving("core", *config[2:], home=tmp_path, last="gRPC") as core,
        serving("bridge", "--core", core.grpc, *config[:2], home=tmp_path) as bridge,
    ):
        bridge.terminate()
        await bridge.line("leaving")
        assert await health_over_http(bridge) == (503, "not_serving")
        assert await over_http(bridge) == 200
        assert await health_over_grpc(core) == HealthCheckResponse.SERVING


async def test_workers_tell_it_all_and_are_given_the_time(tmp_path: Path) -> None:
    async with serving(*delayed(tmp_path, NEVER), "--workers", "2", home=tmp_path) as program:
        program.terminate()
        await program.line("draining")
        async with asyncio.timeout(20):
            # Linux chooses the worker for each connection, and both have been told once no answer is another.
            streak = 0
            while streak < 20:
                streak = streak + 1 if await health_over_http(program) == (503, "not_serving") else 0
        assert await health_over_grpc(program) == HealthCheckResponse.NOT_SERVING
        assert await over_http(program) == 200
        program.terminate()
        assert await program.code() == 128 + 15
