"""Processes of their own that use a database as another gateway would: `python -m … WHAT ARGUMENT…`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Self

import structlog
from pydantic import SecretStr
from sqlalchemy import update

from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.lease import LeaseRequest, taken
from gateway_core.storage.location import location
from gateway_core.storage.tables.coordination import settings
from gateway_core.storage.tables.metering import balances
from tests.gateway_core.storage.rows import ledger_request

ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 60


class Program:
    """Starts such processes, and ends those that still run."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, what: str, *arguments: str) -> "subprocess.Popen[str]":
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", __name__, what, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._directory,
            env={**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "DATABASE_URL": self._url, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


async def line(process: "subprocess.Popen[str]") -> str:
    """The next line that a process says."""
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), WAIT_SECONDS)).strip()


def go(processes: Iterable["subprocess.Popen[str]"]) -> None:
    """Tells processes to go on, all at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


async def rest(process: "subprocess.Popen[str]", said: str = "\n") -> str:
    """What a process says from now to its end, which is a good one, once it has been told something."""
    out, _ = await asyncio.to_thread(process.communicate, said, WAIT_SECONDS)
    assert process.returncode == 0
    return out


async def migrate(database: Database) -> None:
    """Opens the database when it is told to."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with database:
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def listen(database: Database, topic: str) -> None:
    """Says each change of a topic, until it is told to end."""
    async with database:

        def heard(change: Change) -> None:
            print(f"{change.topic} {change.key}", flush=True)

        database.changes.subscribe(topic, heard)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def take(database: Database, scope: str, limit: str, units: str) -> None:
    """Takes leases until there is nothing to take; says how many units it got."""
    total = 0
    async with database:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        got = 1
        while got:
            request = LeaseRequest(scope, 0, int(limit), int(units), database.process_id, 1)
            async with database.transaction() as connection:
                got = await taken(connection, request)
            total += got
    print(total)


async def write(database: Database, account_id: str) -> None:
    """Charges an account and writes a record for it, in one transaction each, for ever; says each that is committed."""
    async with database:
        number = 0
        while True:
            number += 1
            async with database.transaction() as connection:
                await connection.execute(ledger_request(id=new_id(), account_id=account_id, charged_pico_usd=number))
                await connection.execute(
                    update(balances)
                    .where(balances.c.account_id == account_id)
                    .values(settled_pico_usd=balances.c.settled_pico_usd - number, updated_us=now_us())
                )
                await connection.execute(settings.insert().values(name=f"n{new_id()}", value=b"x" * 3000, updated_us=0))
            print(number, flush=True)


PROGRAMS: dict[str, Callable[..., Awaitable[None]]] = {
    "migrate": migrate,
    "listen": listen,
    "take": take,
    "write": write,
}


async def main(what: str, *arguments: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    database = Database(location(SecretStr(os.environ["DATABASE_URL"]), Path()))
    await PROGRAMS[what](database, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
