"""Workers are restarted and die under load: no call fails but those whose own worker died."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.restart_load import TEXT, Callers
from tests.headgate_cli.supervised import FREE, Supervised, supervised
from tests.support.openai_vendor import streamed
from tests.support.upstream import Delay, Upstream, reached, sse_answer

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers need Linux")

DRAIN_SECONDS = 5
CALLERS_OF_A_KIND = 3
KINDS = ("rest, kept", "rest, new", "rest, streams", "grpc, kept", "grpc, new", "grpc, streams")


def configured(home: Path, upstream: Upstream) -> Path:
    path = home / "headgate.yaml"
    path.write_text(
        f"providers: {{lab: {{kind: openai, base_url: {upstream.base_url}, lists_models: false}}}}\n"
        f"authentication: optional\ndrain_seconds: {DRAIN_SECONDS}\nlog: {{level: info}}\n"
    )
    return path


def slow_stream() -> list[object]:
    """The events of a stream that takes half a second."""
    events = streamed(*(f"{word} " if word != "four" else word for word in TEXT.split()))
    return [step for event in events for step in (event, Delay(0.07))]


def calling(program: Supervised) -> tuple[Callers, list["asyncio.Task[None]"]]:
    callers = Callers(program.url, program.grpc)
    kinds = (
        callers.rest_kept, callers.rest_new, callers.rest_streams,
        callers.grpc_kept, callers.grpc_new, callers.grpc_streams,
    )  # fmt: skip
    return callers, [asyncio.create_task(kind()) for kind in kinds for _ in range(CALLERS_OF_A_KIND)]


async def test_no_call_fails_while_all_workers_are_restarted_twice(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer(slow_stream()))
    configured(tmp_path, upstream)
    async with supervised(*FREE, home=tmp_path) as program:
        callers, tasks = calling(program)
        try:
            await reached(lambda: all(callers.whole[kind] > CALLERS_OF_A_KIND for kind in KINDS), within=30)
            before = program.workers()
            for _ in range(2):
                await program.restarted()
            after = program.workers()
            counts = dict(callers.whole)
            await reached(lambda: all(callers.whole[kind] > counts[kind] for kind in KINDS), within=30)
        finally:
            await callers.stop()
            await asyncio.gather(*tasks)
        assert callers.failed == []
        assert len(after) == len(before) == 2
        assert not after.keys() & before.keys()
        ended = [line["message"] for line in program.events("worker_ended")]
        assert ended == ["exit status 0"] * 4
        assert program.said == []
        program.terminate()
        assert await program.code() == 0


async def test_the_death_of_a_worker_costs_no_more_than_the_calls_that_it_had(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.script(sse_answer(slow_stream()))
    configured(tmp_path, upstream)
    async with supervised(*FREE, home=tmp_path) as program:
        callers, tasks = calling(program)
        try:
            await reached(lambda: all(callers.whole[kind] > CALLERS_OF_A_KIND for kind in KINDS), within=30)
            program.kill(1)
            await program.log("worker_ready", 3)
            failed, counts = len(callers.failed), dict(callers.whole)
            await reached(
                lambda: all(callers.whole[kind] > counts[kind] + CALLERS_OF_A_KIND for kind in KINDS), within=30
            )
            assert len(callers.failed) == failed
        finally:
            await callers.stop()
            await asyncio.gather(*tasks)
        # Each caller had one call, and may have been about to begin another on the same connection.
        assert len(callers.failed) <= 2 * len(tasks), callers.failed
        program.terminate()
        assert await program.code() == 0
