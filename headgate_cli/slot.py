"""The place of one worker: it is filled, refilled when its worker dies, and given to another one at a restart."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import structlog

from headgate_cli.address import Address, sharing
from headgate_cli.assignment import Ready
from headgate_cli.errors import FAILED, WRONG_USE, CommandFailed
from headgate_cli.worker_process import WorkerProcess, status_text

log = structlog.get_logger("headgate.supervisor")

QUICK_SECONDS = 10.0
"""A worker that dies younger died quickly: something is wrong that the next one will meet too."""
FIRST_TRIES = 3
BACKOFF_SECONDS = 0.5
BACKOFF_AT_MOST_SECONDS = 30.0
START_SECONDS = 120.0
"""How long a worker that is to take another one's place may take to be ready."""
AFTER_GRACE_SECONDS = 60.0
"""How much longer than its grace a worker may take to retire."""

Spawn = Callable[[socket.socket | None], Awaitable[WorkerProcess]]


class Slot:
    """Has one socket for HTTP, which its workers inherit one from the other.

    Each slot has its own in one group (SO_REUSEPORT): measured with two workers and 64 connections, one socket for all
    gave 5 connections to one worker and 60 to the other, since whoever wakes first takes all there are; with a socket
    each they got 32 and 33. The supervisor holds it, so that nothing is reset in its queue while workers change: Linux
    resets what is in the queue of a socket that is closed.
    """

    def __init__(self, spawn: Spawn, http: Address | None) -> None:
        """Takes what starts a worker, and the address for HTTP."""
        self._spawn = spawn
        self._address = http
        self._socket: socket.socket | None = None
        self._turn = asyncio.Lock()
        self._quick_deaths = 0
        self._worker: WorkerProcess | None = None

    async def fill(self) -> Ready:
        """Starts the first worker; raises WorkerFailed where none can be started."""
        for attempt in range(1, FIRST_TRIES + 1):
            worker = await self._started()
            ready = await worker.ready()
            if ready is not None:
                self._take(worker)
                return ready
            code = await seen_off(worker)
            # It has told what is wrong, and the next one would tell the same.
            if code in (FAILED, WRONG_USE) or attempt == FIRST_TRIES:
                raise WorkerFailed(code)
            await asyncio.sleep(backoff_seconds(attempt))
        raise AssertionError

    async def keep(self) -> None:
        """Replaces workers that die, until it is cancelled."""
        while True:
            worker = self._current
            await worker.ended()
            async with self._turn:
                if worker is self._worker:
                    await seen_off(worker)
                    await self._replace(worker.age_seconds)

    async def renew(self) -> bool:
        """Has another worker take over, with the configuration of now; returns False where it cannot be started.

        The one before then goes on. Returns once that one has ended.
        """
        async with self._turn:
            before = self._current
            worker = await self._tried()
            if worker is None:
                return False
            self._take(worker)
            before.retire()
        try:
            async with asyncio.timeout(before.grace_seconds + AFTER_GRACE_SECONDS):
                await before.ended()
        except TimeoutError:
            before.kill()
        await seen_off(before)
        return True

    def close(self) -> None:
        """Lets go of the socket: connections go to others, and are refused where there are none."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def _current(self) -> WorkerProcess:
        assert self._worker is not None, "fill comes first"
        return self._worker

    async def _started(self) -> WorkerProcess:
        if self._socket is None and self._address is not None:
            self._socket = sharing(self._address)
        return await self._spawn(self._socket)

    def _take(self, worker: WorkerProcess) -> None:
        self._worker = worker
        log.info("worker_ready", worker=worker.number, pid=worker.pid)

    async def _replace(self, age_seconds: float) -> None:
        while True:
            self._quick_deaths = self._quick_deaths + 1 if age_seconds < QUICK_SECONDS else 0
            if self._quick_deaths:
                self.close()  # so that nobody waits in its queue for a worker that may not come
                await asyncio.sleep(backoff_seconds(self._quick_deaths))
            worker = await self._tried()
            if worker is not None:
                self._take(worker)
                return
            age_seconds = 0

    async def _tried(self) -> WorkerProcess | None:
        """A worker that serves. None: it could not be started, which was told."""
        try:
            worker = await self._started()
        except OSError as error:  # no more processes, memory or files: it may pass
            log.error("worker_not_started", message=str(error))
            return None
        if await is_ready(worker):
            return worker
        await seen_off(worker)
        return None


class WorkerFailed(CommandFailed):
    """No worker could be started. It has said why itself."""

    def __init__(self, code: int) -> None:
        """Takes the exit status of the last one."""
        super().__init__(f"no worker could be started: {status_text(code)}")
        self.exit_code = 128 - code if code < 0 else code or FAILED


async def seen_off(worker: WorkerProcess) -> int:
    """Waits until a worker has ended, tells of it, and returns its exit status."""
    code = await worker.ended()
    worker.close()
    tell = log.info if code == 0 else log.error
    tell("worker_ended", worker=worker.number, pid=worker.pid, message=status_text(code))
    return code


async def is_ready(worker: WorkerProcess) -> bool:
    """Waits until a worker serves. False: it has ended instead, or took too long and is ended."""
    try:
        async with asyncio.timeout(START_SECONDS):
            ready = await worker.ready()
    except TimeoutError:
        ready = None
        worker.kill()
    return ready is not None


def backoff_seconds(deaths: int) -> float:
    """How long to wait after so many quick deaths in a row, at least one."""
    seconds: float = BACKOFF_SECONDS * 2 ** min(deaths - 1, 16)
    return min(seconds, BACKOFF_AT_MOST_SECONDS)
