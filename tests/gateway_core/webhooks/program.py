"""A process of its own that sends webhooks as another gateway would: `python -m … LEASE_SECONDS`, until it is told to end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from gateway_core.webhooks import courier
from gateway_core.webhooks.webhooks import Webhooks
from tests.gateway_core.identity.conftest import opened
from tests.gateway_core.webhooks.conftest import config

ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 60


def started(url: str, directory: Path, lease_seconds: float) -> "subprocess.Popen[str]":
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", __name__, str(lease_seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=directory,
        env={**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "DATABASE_URL": url, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


@asynccontextmanager
async def sending(url: str, directory: Path, lease_seconds: float) -> AsyncIterator["subprocess.Popen[str]"]:
    """Such a process, ended at the end."""
    process = started(url, directory, lease_seconds)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), WAIT_SECONDS)
        assert line == "open\n"
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.communicate)


async def main(lease_seconds: float) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    courier.LEASE_MARGIN_SECONDS = lease_seconds
    async with opened(os.environ["DATABASE_URL"], Path()) as store:
        webhooks = Webhooks(store, config(timeout_seconds=1))
        webhooks.open()
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await webhooks.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
