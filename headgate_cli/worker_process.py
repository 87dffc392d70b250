"""One worker, as its supervisor sees it: a process that was started, is ready, is told to end, and has ended."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from gateway_core.resume.worker import Worker
from headgate_cli.address import Address
from headgate_cli.assignment import OPTION, Assignment, Ready
from headgate_cli.orders import RETIRE
from headgate_cli.serve_options import ServeOptions

READY_BYTES = 1 << 20
"""Most of the line in which a worker says that it is ready."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all workers of a server have in common."""

    options: ServeOptions
    count: int
    process: str
    directory: str
    grpc: Address | None
    notes: tuple[str, ...]

    def command(self) -> list[str]:
        """The command line of a worker, but for its assignment."""
        options = self.options
        given = (("--config", options.config), ("--data", options.data), ("--core", options.core))
        parts = [] if options.part is None else [options.part]
        named = [text for name, value in given if value is not None for text in (name, str(value))]
        return [sys.executable, "-m", "headgate_cli", "serve", *parts, *named]

    def assignment(self, number: int, control: socket.socket, http: socket.socket | None) -> Assignment:
        """What a worker is told."""
        return Assignment(
            number=number,
            count=self.count,
            process=self.process,
            directory=self.directory,
            control=control.fileno(),
            http=None if http is None else http.fileno(),
            grpc=None if self.grpc is None else str(self.grpc),
            notes=self.notes,
        )


class WorkerProcess:
    """A process, and the socket over which it is spoken to. That it is closed tells a worker that nobody is left."""

    def __init__(
        self,
        worker: Worker,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Takes what `spawned` has made."""
        self.number = number = worker.number
        self.grace_seconds = 0.0
        """How long it takes to drain, at most, as it says once it is ready."""
        self._worker = worker
        self._process = process
        self._reader, self._writer = streams
        self._started = time.monotonic()
        self._ended = asyncio.create_task(process.wait(), name=f"waiting for worker {number}")

    @classmethod
    async def spawned(cls, plan: Plan, number: int, http: socket.socket | None) -> Self:
        """Starts a worker, which inherits the socket for HTTP.

        By exec, in a process group of its own: the Ctrl-C of a terminal is the supervisor's, which then drains.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            assignment = plan.assignment(number, theirs, http)
            inherited = [theirs.fileno()] if http is None else [theirs.fileno(), http.fileno()]
            process = await asyncio.create_subprocess_exec(
                *plan.command(), OPTION, assignment.text(),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=inherited, process_group=0,
            )  # fmt: skip
        return cls(assignment.worker, process, await asyncio.open_connection(sock=ours, limit=READY_BYTES))

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def age_seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started

    async def ready(self) -> Ready | None:
        """Waits until it serves. None: it has ended instead, or is about to."""
        try:
            line = await self._reader.readline()
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        ready = Ready.of(line)
        self.grace_seconds = ready.grace_seconds
        return ready

    async def ended(self) -> int:
        """Waits until it has ended, and returns its exit status; that of signal 9 is -9."""
        return await asyncio.shield(self._ended)

    @property
    def has_ended(self) -> bool:
        """Whether it has."""
        return self._ended.done()

    def retire(self) -> None:
        """Tells it to end once it has nothing to do, because another one takes what is new."""
        self._writer.write(RETIRE)

    def drain(self) -> None:
        """Tells it to end within its grace."""
        self._send(self._process.terminate)

    def kill(self) -> None:
        """Ends it."""
        self._send(self._process.kill)

    def close(self) -> None:
        """Lets go of the sockets; one that was killed leaves that for other workers behind."""
        self._writer.close()
        self._worker.socket(self.number).unlink(missing_ok=True)

    def _send(self, send: Callable[[], None]) -> None:
        if not self.has_ended:
            send()


def status_text(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
