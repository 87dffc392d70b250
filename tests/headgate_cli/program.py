"""The program `headgate` as a process of its own, with nothing of the developer's environment."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30
END_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


def environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "HEADGATE_DATA": str(home / "data"), "PYTHONUNBUFFERED": "1", **variables}


async def started(
    *arguments: str, home: Path, variables: Mapping[str, str] | None = None, stdin: int | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headgate_cli", *arguments,
        cwd=home, env=environment(home, **(variables or {})),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(*arguments: str, home: Path, said: str = "", variables: Mapping[str, str] | None = None) -> Ended:
    """Runs the program to its end; `said` is its standard input."""
    process = await started(*arguments, home=home, variables=variables, stdin=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(said.encode()), START_SECONDS)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@dataclass(slots=True)
class Serving:
    """`headgate serve`, once it has said where it listens."""

    process: asyncio.subprocess.Process
    lines: list[str]
    errors: asyncio.Task[bytes] | None = None
    """What it writes to its standard error until its end."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def url(self) -> str:
        return self._match(r"OpenAI SDK +base_url (https?://\S+)/v1")

    @property
    def grpc(self) -> str:
        return self._match(r"gRPC +address +(\S+)")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def line(self, beginning: str) -> str:
        """Reads lines until one that begins so."""
        assert self.process.stdout is not None
        while True:
            read = await asyncio.wait_for(self.process.stdout.readline(), START_SECONDS)
            assert read, f"the program ended before it said {beginning!r}: {self.text} {await self._errors()}"
            self.lines.append(read.decode().rstrip("\n"))
            if self.lines[-1].strip().startswith(beginning):
                return self.lines[-1].strip()

    async def code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), END_SECONDS)

    async def _errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    def _match(self, pattern: str) -> str:
        found = re.search(pattern, self.text)
        assert found, self.text
        return found[1]


@asynccontextmanager
async def serving(
    *arguments: str, home: Path, last: str = "curl", variables: Mapping[str, str] | None = None
) -> AsyncIterator[Serving]:
    """`headgate serve` with arguments; `last` begins the last of its start-up lines."""
    process = await started("serve", *arguments, home=home, variables=variables)
    program = Serving(process, [])
    reading: asyncio.Task[bytes] | None = None
    try:
        await program.line(last)
        assert process.stderr is not None
        reading = asyncio.create_task(process.stderr.read())  # so that a full pipe does not hold the program
        program.errors = reading
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading
