"""Two processes and two accounts at one limit each; `python -m tests.faults.test_shared_limits` is such a process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import structlog
from pydantic import SecretStr

from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.window import SECOND_US
from gateway_core.storage.database import Database
from gateway_core.storage.location import location
from tests.gateway_core.storage.conftest import database_url, postgres_server

__all__ = ["database_url", "postgres_server"]

ROOT = Path(__file__).parents[2]
NOW = 6_000 * SECOND_US
ACCOUNTS = ("first", "second")
LIMIT = 400
ASKED = 600
TASKS = 20
LEASE = LIMIT // 20
PROCESSES = 2
WAIT_SECONDS = 60


async def admitted(limits: SharedLimits, account: str) -> int:
    """How many of ASKED calls of an account are admitted, TASKS at a time."""
    limit = limits.limit(f"account:{account}:requests", LIMIT, 1_000_000)
    limit.turn(NOW)

    async def hammer() -> int:
        return sum([await limit.acquire(1, NOW) for _ in range(ASKED // TASKS)])

    return sum(await asyncio.gather(*(hammer() for _ in range(TASKS))))


async def main() -> None:
    """Says how many calls of each account were admitted, once it has been told to begin."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with Database(location(SecretStr(os.environ["DATABASE_URL"]), Path())) as database:
        limits = SharedLimits(database, lambda: NOW)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(*await asyncio.gather(*(admitted(limits, account) for account in ACCOUNTS)))
        await limits.close()


def started(url: str, directory: Path) -> "subprocess.Popen[str]":
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    env = {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "DATABASE_URL": url}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", __name__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=directory, env=env,
    )  # fmt: skip


async def test_two_processes_admit_no_more_than_the_limit_and_their_leases(database_url: str, tmp_path: Path) -> None:
    processes = [started(database_url, tmp_path) for _ in range(PROCESSES)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        said = await asyncio.gather(
            *(asyncio.to_thread(process.communicate, "\n", WAIT_SECONDS) for process in processes)
        )
        assert [process.returncode for process in processes] == [0] * PROCESSES
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    counts = [[int(count) for count in out.split()] for out, _ in said]
    totals = [sum(of_account) for of_account in zip(*counts, strict=True)]
    assert all(LIMIT - PROCESSES * LEASE <= total <= LIMIT + PROCESSES * LEASE for total in totals), counts
    # They are even less: a lease is taken from the limit before it is used.
    assert all(total <= LIMIT for total in totals), counts


if __name__ == "__main__":
    asyncio.run(main())
