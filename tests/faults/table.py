"""The table of faults: what the first of two targets does, what the caller sees of it, what the targets see, and how long it takes.

`python -m tests.faults.table` is `make fault-table`; what must be in it the tests beside it hold.
"""

import asyncio
import io
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import openai

from gateway_core.config import CircuitConfig, LogConfig, RoutingConfig
from gateway_core.telemetry.log import configure_log
from tests.faults import test_failover as midst
from tests.faults.test_routing import CASES, FINAL, NAMES, SAID, answered, client, config, nowhere, well
from tests.support.gateway import running
from tests.support.openai_vendor import event, streamed, texts
from tests.support.upstream import Answer, Delay, Route, Upstream, gaps, sse_answer

WIDTHS = (44, 66, 8, 7, 5)
HEADINGS = ("the first target", "the caller", "requests", "gaps, s", "s")
RECOVERED_SECONDS = 30.0
SLOW = sse_answer([event({"role": "assistant"}), *[Delay(0.1), b": wait\n\n"] * 40, *streamed(SAID)])


class Row(NamedTuple):
    """What came of one fault."""

    name: str
    seen: str
    asked: str
    """Requests that came to the first and to the second target."""
    gaps: str
    """Seconds between the requests that came to the first."""
    seconds: float
    is_right: bool
    """Whether the answer was whole and exact, or the failure that of the vendor, where nobody else may be asked."""


async def one(
    name: str, script: Sequence[Answer | Route], *, stream: bool, final: tuple[int, str] | None = None
) -> Row:
    """Fails before the first word."""
    async with Upstream() as first, Upstream() as second:
        first.script(*script)
        second.script(well)
        return await seen(name, first.base_url, first, second, stream=stream, final=final)


async def seen(
    name: str, url: str, first: Upstream | None, second: Upstream, *, stream: bool, final: tuple[int, str] | None = None
) -> Row:
    loop = asyncio.get_running_loop()
    async with (
        running(config(url, second.base_url, first_token_seconds=2.0)) as gateway,
        client(gateway) as sdk,
    ):
        began = loop.time()
        try:
            said, attempts = await answered(sdk, stream=stream)
            told, is_right = f"whole, {attempts or 'first attempt'}", said == SAID and final is None
        except openai.APIStatusError as error:
            told = f"{error.status_code} {error.code or ''}: {error.body['message'] if isinstance(error.body, dict) else ''}"
            is_right = final is not None and error.status_code == final[0]
        took = loop.time() - began
    requests = first.requests if first is not None else []
    between = " ".join(f"{gap:.2f}" for gap in gaps(requests))
    return Row(name, told, f"{len(requests)} + {len(second.requests)}", between, took, is_right)


async def broken(name: str, at: int) -> Row:
    """Fails in the midst of a stream."""
    loop = asyncio.get_running_loop()
    async with Upstream() as first, Upstream() as second:
        first.script(midst.broken(at, midst.BREAKS[name]))
        second.script(sse_answer(midst.WHOLE))
        async with running(midst.config(first, second)) as gateway, midst.client(gateway) as sdk:
            began = loop.time()
            chunks = await midst.read(sdk)
            took = loop.time() - began
        said = texts(chunks)
        finish = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
        told = f"{len(said)} of {len(midst.SAID)} characters, {' '.join(finish)}, {chunks[-1].usage.completion_tokens} tokens"
        is_right = said == midst.SAID and finish == ["stop"]
        return Row(
            f"{name}, after event {at}", told, f"{len(first.requests)} + {len(second.requests)}", "", took, is_right
        )


async def recovery() -> Row:
    """A first target that was away, and is well again: how long until it is used."""
    loop = asyncio.get_running_loop()
    async with Upstream() as first, Upstream() as second:
        for upstream in (first, second):
            upstream.script(well)
        routing = RoutingConfig(circuit=CircuitConfig())
        async with (
            running(config(first.base_url, second.base_url, routing)) as gateway,
            client(gateway) as sdk,
        ):
            await first.go()
            said = {(await answered(sdk, stream=True))[0] for _ in range(8)}
            await first.come()
            began = loop.time()
            while not first.requests and loop.time() < began + RECOVERED_SECONDS:
                said.add((await answered(sdk, stream=True))[0])
                await asyncio.sleep(0.05)
            took = loop.time() - began
        requests = f"{len(first.requests)} + {len(second.requests)}"
        return Row(
            "away, and well again",
            "all whole; the first is used again",
            requests,
            "",
            took,
            said == {SAID} and took < RECOVERED_SECONDS,
        )


async def rows() -> Any:
    """All rows, one after the other."""
    for name, (fault, stream) in zip(NAMES, CASES, strict=True):
        yield await one(name, fault.script, stream=stream)
    yield await one("a first token that is late", [SLOW], stream=True)
    for name, (answer, status, code) in FINAL.items():
        yield await one(name, [answer], stream=True, final=(status, code))
    for kind in ("refused", "never accepted"):
        with nowhere(kind) as url:
            async with Upstream() as second:
                second.script(well)
                yield await seen(f"connection {kind}", url, None, second, stream=True)
    for name in midst.BREAKS:
        for at in (2, 7, len(midst.WHOLE) - 2):
            yield await broken(name, at)
    yield await recovery()


def line(cells: Sequence[str]) -> str:
    return "  ".join(cell[:width].ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


async def main() -> int:
    configure_log(LogConfig(level="error"), io.BytesIO())
    print(line(HEADINGS))
    wrong = 0
    async for row in rows():
        wrong += not row.is_right
        print(line((*row[:4], f"{row.seconds:.2f}")) + ("" if row.is_right else "  WRONG"), flush=True)
    print(f"wrong: {wrong}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
