"""`headgate serve --workers N` as a process, with the lines of its log as they come."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.headgate_cli.program import Serving, started
from tests.support.upstream import reached

FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
LOG_SECONDS = 40


@dataclass(slots=True)
class Supervised(Serving):
    """The supervisor, and what it and its workers have logged."""

    logged: list[dict[str, Any]] = field(default_factory=list)
    """Lines that are JSON."""
    said: list[str] = field(default_factory=list)
    """Those that are not."""

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.logged if line["event"] == event]

    async def log(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Waits until an event was logged so often."""
        await reached(
            lambda: len(self.events(event)) >= count or self.process.returncode is not None, within=LOG_SECONDS
        )
        found = self.events(event)
        assert len(found) >= count, (event, self.logged, self.said)
        return found

    def workers(self) -> dict[int, int]:
        """The process ids of the workers that run, by their numbers."""
        ended = {line["worker"] for line in self.events("worker_ended")}
        return {line["worker"]: line["pid"] for line in self.events("worker_started") if line["worker"] not in ended}

    def kill(self, number: int) -> None:
        """Ends a worker as the system would that has no memory left."""
        os.kill(self.workers()[number], signal.SIGKILL)

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    async def restarted(self) -> None:
        """Has all workers restarted, one after another."""
        count = len(self.events("restart_ended"))
        self.hang_up()
        await self.log("restart_ended", count + 1)

    async def _errors(self) -> str:
        return f"{self.said} {self.logged}"

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            text = line.decode()
            if text.startswith("{"):
                self.logged.append(json.loads(text))
            else:
                self.said.append(text)


@asynccontextmanager
async def supervised(
    *arguments: str, home: Path, workers: int | None = 2, last: str = "curl", variables: Mapping[str, str] | None = None
) -> AsyncIterator[Supervised]:
    """`headgate serve --workers N` with arguments; `last` begins the last of its start-up lines."""
    command = ("serve", *(() if workers is None else ("--workers", str(workers))), *arguments)
    process = await started(*command, home=home, variables={"TMPDIR": str(home), **(variables or {})})
    program = Supervised(process, [])
    reading = asyncio.create_task(program.read_log())
    try:
        if last:
            await program.line(last)
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await gone(*program.workers().values())
        await reading


async def gone(*pids: int) -> None:
    """Waits until processes are no more; they notice by themselves that their supervisor is not."""
    await reached(lambda: not any(map(runs, pids)), within=LOG_SECONDS)


def runs(pid: int) -> bool:
    """Whether a process runs, which need not be a child of this one."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (OSError, ProcessLookupError):
        return False
    return state != "Z"
