"""`headgate envoy run`: one command, two programs, and neither is left."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.envoy import answered, needs_envoy

pytestmark = needs_envoy


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@asynccontextmanager
async def both(directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    http, grpc, front, admin = free_ports(4)
    config = directory / "headgate.yaml"
    config.write_text(
        f"listen: {{http: '127.0.0.1:{http}', grpc: '127.0.0.1:{grpc}'}}\nauthentication: optional\n"
        f"data_directory: {directory}\nenvoy: {{listen: ['127.0.0.1:{front}'], admin: '127.0.0.1:{admin}'}}\n"
    )
    with (directory / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headgate_cli", "envoy", "run", "--config", config), stdout=said, stderr=said
        )
    try:
        yield process, f"http://127.0.0.1:{front}"
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


def children(process: asyncio.subprocess.Process) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def serving(url: str, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{url}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_both(tmp_path: Path, ending: signal.Signals) -> None:
    async with both(tmp_path) as (process, url):
        await answered(lambda: serving(url, process), within=60)
        pids = children(process)
        assert len(pids) == 2
        process.send_signal(ending)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("which", [0, 1])
async def test_when_one_dies_the_other_ends(tmp_path: Path, which: int) -> None:
    async with both(tmp_path) as (process, url):
        await answered(lambda: serving(url, process), within=60)
        pids = children(process)
        os.kill(pids[which], signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 60) == 1
    assert not any(map(is_running, pids))
    assert "has ended, and so does the other" in (tmp_path / "said").read_text()
