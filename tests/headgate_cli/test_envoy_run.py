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

from gateway_core.config import Config
from headgate_cli.address import Address
from headgate_cli.envoy.ready import lines
from tests.support.envoy import answered, needs_envoy
from tests.support.upstream import reached

pytestmark = needs_envoy


def free_ports(count: int) -> tuple[int, ...]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(each.getsockname()[1] for each in held)
    for each in held:
        each.close()
    return ports


def configured(directory: Path, more: str = "") -> tuple[Path, tuple[int, ...]]:
    http, grpc, front, admin = ports = free_ports(4)
    config = directory / "headgate.yaml"
    config.write_text(
        f"listen: {{http: '127.0.0.1:{http}', grpc: '127.0.0.1:{grpc}'}}\nauthentication: optional\n"
        f"data_directory: {directory}\nenvoy: {{listen: ['127.0.0.1:{front}'], admin: '127.0.0.1:{admin}'{more}}}\n"
    )
    return config, ports


async def started(config: Path) -> asyncio.subprocess.Process:
    files = config.parent / "files"
    files.mkdir(exist_ok=True)
    with (config.parent / "said").open("wb") as said:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headgate_cli", "envoy", "run", "--config", config),
            stdout=said,
            stderr=said,
            env={**os.environ, "TMPDIR": str(files)},
        )


@asynccontextmanager
async def both(directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    config, (_, _, front, _) = configured(directory)
    process = await started(config)
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


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


async def ended(pids: list[int]) -> bool:
    return not any(map(is_running, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
async def test_nothing_is_left_of_one_that_was_killed(tmp_path: Path) -> None:
    async with both(tmp_path) as (process, url):
        await answered(lambda: serving(url, process), within=60)
        await reached(lambda: "try it: curl" in told(tmp_path))
        pids = children(process)
        process.kill()
        await process.wait()
        await answered(lambda: ended(pids), within=60)
    assert not list((tmp_path / "files").iterdir())


def told(directory: Path) -> str:
    return (directory / "said").read_text().partition("call there, not past it:")[2]


async def test_where_to_call_is_told_last_and_once_there_is_an_answer(tmp_path: Path) -> None:
    async with both(tmp_path) as (_, url):
        await reached(lambda: "try it: curl" in told(tmp_path), within=60)
        assert f"base_url {url}/v1" in told(tmp_path)
        assert f"gRPC        address  {url.removeprefix('http://')}" in told(tmp_path)
        line = told(tmp_path).splitlines()[-1]
        assert line == f"  try it: curl {url}/v1/models"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(line.split()[-1])).status_code == 200


def test_a_call_over_tls_with_a_key_is_told_so() -> None:
    tls = {"certificate": "/c.pem", "private_key": "/k.pem"}
    config = Config.model_validate({"envoy": {"tls": tls}})
    *_, line = lines(config, [Address("0.0.0.0", 443), Address("::", 443)], needs_keys=True)
    said = "curl https://127.0.0.1:443/v1/models --cacert YOUR_AUTHORITY -H 'authorization: Bearer YOUR_KEY'"
    assert line == f"  try it: {said}"


@pytest.mark.parametrize(
    ("which", "key"), [(0, "listen.http"), (1, "listen.grpc"), (2, "envoy.listen"), (3, "envoy.admin")]
)
async def test_an_address_that_is_taken_is_told_by_its_key(tmp_path: Path, which: int, key: str) -> None:
    config, ports = configured(tmp_path)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another Envoy does
        other.bind(("127.0.0.1", ports[which]))
        other.listen()
        process = await started(config)
        assert await asyncio.wait_for(process.wait(), 30) == 1
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert f"{key}: cannot listen on 127.0.0.1:{ports[which]}" in line
    assert "--http" not in line


async def test_a_file_that_is_missing_is_told_before_anything_starts(tmp_path: Path) -> None:
    config, _ = configured(tmp_path, ", tls: {certificate: /nowhere/c.pem, private_key: /nowhere/k.pem}")
    process = await started(config)
    assert await asyncio.wait_for(process.wait(), 30) == 1
    said = (tmp_path / "said").read_text()
    assert "envoy.tls.certificate: /nowhere/c.pem cannot be read: No such file or directory" in said
    assert "envoy.tls.private_key: /nowhere/k.pem cannot be read" in said
    assert "starting" not in said
