"""The load generator, in a process of its own: reads jobs from stdin, a line each, and writes what was measured.

A job is bounded in count and in time, begins with a warm-up that does not count, and ends at the first wrong answer:
a broken answer never counts as a fast one.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Protocol

import uvloop

from bench.grpc_load import ChatClient, ChatPlace, FloorClient
from bench.http_load import HttpClient, HttpPlace
from bench.process import Ended, cpu_seconds, machine_cpu_seconds, resident_bytes
from bench.scenario import Wire
from bench.wrong_answer import WrongAnswer

OVERTIME_SECONDS = 20.0
"""How long the calls that are open at the end of a phase may still take."""


class Client(Protocol):
    """One way to ask the server under test."""

    async def ask(self) -> None:
        """Asks once and checks the answer; raises WrongAnswer."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


@dataclass(frozen=True)
class Job:
    """What is measured of whom."""

    wire: Wire
    """Protocol: OpenAI's REST API, the contract's gRPC service, or the gRPC server that does nothing."""
    port: int
    stream: bool
    server_pid: int
    mock_pid: int
    model: str = ""
    path: str = ""
    key: str = "bench"
    """What callers send as theirs."""
    headers: dict[str, str] = field(default_factory=dict)
    """Beside what every HTTP request has."""
    connections: int = 16
    """Callers at the same time; each asks as soon as it was answered."""
    rate: float = 0
    """Requests per second, whether answered or not; 0: as fast as the callers are answered."""
    requests: int = 200_000
    seconds: float = 1.0
    """Most requests and longest time of the phase that counts, whichever comes first."""
    warmup_seconds: float = 0.25


@dataclass(frozen=True)
class Outcome:
    """What one job measured. CPU and time in seconds, of the phase that counts."""

    requests: int = 0
    seconds: float = 0
    server_cpu: float = 0
    mock_cpu: float = 0
    load_cpu: float = 0
    machine_cpu: float = 0
    """Of everything on the machine."""
    server_bytes: int = 0
    """Resident memory of the server after the phase."""
    latencies: list[float] = field(default_factory=list)
    """From asking until the answer was whole, in seconds, one for each request; only at a fixed rate."""
    flaw: str | None = None
    """Why nothing was measured: the first answer that was wrong."""

    @property
    def other_cores(self) -> float:
        """How many cores other programs used meanwhile: none, on a quiet machine."""
        own = self.server_cpu + self.mock_cpu + self.load_cpu
        return max(0.0, self.machine_cpu - own) / self.seconds


def client_of(job: Job) -> Client:
    """The client that a job asks for."""
    if job.wire == "http":
        return HttpClient(HttpPlace(job.port, job.path, job.key, job.headers), job.model, job.stream)
    if job.wire == "chat":
        return ChatClient(ChatPlace(job.port, job.key, job.connections), job.model, job.stream)
    return FloorClient(job.port, job.stream, job.connections)


async def closed_loop(client: Client, callers: int, requests: int, seconds: float) -> list[float]:
    """Latencies of callers that ask again as soon as they were answered."""
    latencies: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds
    left = requests

    async def call() -> None:
        nonlocal left
        while left > 0 and (begun := clock()) < end:
            left -= 1
            await client.ask()
            latencies.append(clock() - begun)

    async with asyncio.timeout(seconds + OVERTIME_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(min(callers, requests)):
            group.create_task(call())
    return latencies


async def open_loop(client: Client, rate: float, requests: int, seconds: float) -> list[float]:
    """Latencies of requests sent at a fixed rate: a slow answer holds no later request back, so none is flattered."""
    latencies: list[float] = []
    clock = time.perf_counter

    async def call() -> None:
        begun = clock()
        await client.ask()
        latencies.append(clock() - begun)

    begun = clock()
    async with asyncio.timeout(seconds + OVERTIME_SECONDS), asyncio.TaskGroup() as group:
        for place in range(min(requests, round(seconds * rate))):
            await asyncio.sleep(begun + place / rate - clock())
            group.create_task(call())
    return latencies


async def measured(job: Job, client: Client) -> Outcome:
    """Warms up, then measures."""
    await closed_loop(client, job.connections, job.requests, job.warmup_seconds)
    before = clocks(job)
    if job.rate:
        latencies = await open_loop(client, job.rate, job.requests, job.seconds)
    else:
        latencies = await closed_loop(client, job.connections, job.requests, job.seconds)
    server, mock, load, machine, seconds = (late - early for early, late in zip(before, clocks(job), strict=True))
    kept = latencies if job.rate else []
    return Outcome(len(latencies), seconds, server, mock, load, machine, resident_bytes(job.server_pid), kept)


def clocks(job: Job) -> tuple[float, float, float, float, float]:
    """CPU of the server, of the mock, of this process and of the machine, and the time; all in seconds."""
    server, mock = cpu_seconds(job.server_pid), cpu_seconds(job.mock_pid)
    return server, mock, time.process_time(), machine_cpu_seconds(), time.perf_counter()


async def outcome(job: Job) -> Outcome:
    """What a job measured, or the first flaw."""
    client = client_of(job)
    try:
        return await measured(job, client)
    except* (WrongAnswer, Ended, OSError, TimeoutError) as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        flaw = str(cause) or repr(cause)
    finally:
        await client.close()
    return Outcome(flaw=flaw)


def main() -> None:
    """Answers each line of stdin with one of stdout, until stdin ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            print(json.dumps(asdict(runner.run(outcome(Job(**json.loads(line)))))), flush=True)


if __name__ == "__main__":
    main()
