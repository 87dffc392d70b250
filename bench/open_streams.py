"""Opens many streams that begin and then idle, tells what memory of the server they take, and has them all finished.

`python -m bench.open_streams` reads one job from stdin, as JSON, and writes what it found to stdout.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import uvloop

from bench.grpc_load import ChatClient, ChatPlace
from bench.http_load import HttpClient, HttpPlace
from bench.process import Ended, resident_bytes, settle
from bench.scenario import Wire
from bench.wrong_answer import WrongAnswer

WARMING_STREAMS = 100
OPENING_AT_ONCE = 64
CALLERS_PER_CONNECTION = 1000
"""Streams on one HTTP/2 connection, over gRPC."""
FINISH_SECONDS = 120.0
"""How long the streams may take to open, and to be finished once they are released."""
SETTLE_SECONDS = 10.0
"""How long is waited for a server that has nothing more to do."""


@dataclass(frozen=True)
class StreamsJob:
    """Which streams are opened, where, and by whom they are finished."""

    wire: Wire
    port: int
    mock_port: int
    server_pid: int
    model: str
    streams: int
    path: str = ""
    key: str = "bench"


@dataclass(frozen=True)
class OpenStreams:
    """What was seen: counts, resident bytes of the server, seconds."""

    streams: int = 0
    """That were open at the same time, each with something received."""
    whole: int = 0
    """That were whole and right in the end."""
    bytes_before: int = 0
    bytes_open: int = 0
    bytes_after: int = 0
    open_seconds: float = 0
    finish_seconds: float = 0
    flaw: str | None = None
    """The first thing that was wrong."""


Ask = Callable[[asyncio.Event], Awaitable[None]]


class Group:
    """Streams that are opened together and finished together."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._begun: list[asyncio.Event] = []
        self._calls: list[asyncio.Task[None]] = []

    async def open(self, count: int) -> None:
        """Opens so many, a few at a time; raises WrongAnswer where one ends instead of beginning."""
        opening = asyncio.Semaphore(OPENING_AT_ONCE)

        async def one() -> None:
            async with opening:
                begun = asyncio.Event()
                call = asyncio.ensure_future(self._ask(begun))
                self._calls.append(call)
                begins = asyncio.ensure_future(begun.wait())
                await asyncio.wait({begins, call}, return_when=asyncio.FIRST_COMPLETED)
                if not begun.is_set():
                    begins.cancel()
                    await call
                    raise WrongAnswer("a stream ended before anything of it came")

        async with asyncio.timeout(FINISH_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())

    async def finish(self, mock_port: int) -> list[BaseException]:
        """Releases them at the mock upstream; what was wrong, one for each that did not end whole and right."""
        await released(mock_port)
        async with asyncio.timeout(FINISH_SECONDS):
            ends = await asyncio.gather(*self._calls, return_exceptions=True)
        return [end for end in ends if end is not None]

    async def close(self) -> None:
        """Ends what is still open."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


async def released(mock_port: int) -> None:
    """Has the mock upstream finish all streams that it holds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mock_port)
    writer.write(b"GET /release HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()


async def settled(pid: int) -> int:
    """Resident bytes of a server once it has nothing more to do."""
    await asyncio.to_thread(settle, pid, SETTLE_SECONDS)
    return resident_bytes(pid)


async def opened(job: StreamsJob, ask: Ask) -> OpenStreams:
    """Warms the server up with a few streams, then opens and finishes all."""
    clock = time.perf_counter
    warming, group = Group(ask), Group(ask)
    try:
        await warming.open(min(WARMING_STREAMS, job.streams))
        warming_flaws = await warming.finish(job.mock_port)
        before = await settled(job.server_pid)
        begun = clock()
        await group.open(job.streams)
        all_open = clock()
        held = await settled(job.server_pid)
        released_at = clock()
        flaws = await group.finish(job.mock_port)
        finished = clock()
    finally:
        await warming.close()
        await group.close()
    return OpenStreams(
        streams=job.streams,
        whole=job.streams - len(flaws),
        bytes_before=before,
        bytes_open=held,
        bytes_after=await settled(job.server_pid),
        open_seconds=all_open - begun,
        finish_seconds=finished - released_at,
        flaw=next((repr(flaw) for flaw in (*flaws, *warming_flaws)), None),
    )


async def found(job: StreamsJob) -> OpenStreams:
    """What a job found, or its flaw."""
    client: HttpClient | ChatClient
    if job.wire == "http":
        client = HttpClient(HttpPlace(job.port, job.path, job.key), job.model, stream=True)
    else:
        place = ChatPlace(job.port, job.key, job.streams, CALLERS_PER_CONNECTION, 4 * FINISH_SECONDS)
        client = ChatClient(place, job.model, stream=True)
    try:
        return await opened(job, client.ask)
    except* (WrongAnswer, Ended, OSError, TimeoutError) as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        flaw = repr(cause)
    finally:
        await client.close()
    return OpenStreams(flaw=flaw)


def main() -> None:
    """One job of stdin."""
    job = StreamsJob(**json.loads(sys.stdin.readline()))
    print(json.dumps(asdict(uvloop.run(found(job)))), flush=True)


if __name__ == "__main__":
    main()
