"""How far a call has got when something happens to it: what the vendor does until then, and the caller."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.callers import Caller
from tests.support.openai_vendor import event
from tests.support.upstream import (
    Answer,
    Received,
    Silence,
    Upstream,
    chunk,
    head,
    never_accepting,
    reached,
    sse_answer,
    sse_event,
)

JSON_HEAD = head(200, {"content-type": "application/json", "content-length": "1000"})
SSE_HEAD = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
SAID = [event({"role": "assistant", "content": "He"}), event({"content": "llo"}), event({"content": "!"})]


def endless(characters: int) -> Answer:
    """As good as endless: 160 MB in events that say so many characters each."""
    said = sse_event(event({"content": "x" * characters}))
    return [SSE_HEAD, *[chunk(said * (8000 // len(said)))] * 20_000]


ENDLESS = endless(900)
TOKENS = endless(4)


# Of a connection in the system's table (proc(5), /proc/net/tcp): begun, and not accepted yet.
SYN_SENT = "02"

SETTLED_SECONDS = 0.02
STANDS_STILL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a call."""

    name: str
    answer: Answer | None
    """None: the vendor does not even accept the connection."""
    stream: bool = True
    reads: bool = False
    """Whether the caller has read an event."""
    is_slow: bool = False
    """Whether it reads no more, though there is more."""

    def __str__(self) -> str:
        return self.name


CONNECTING = Phase("connecting", None)
SLOW = Phase("read slowly", ENDLESS, reads=True, is_slow=True)
PHASES = (
    CONNECTING,
    Phase("silent before the headers", [Silence()]),
    Phase("silent before the first event", sse_answer([Silence()])),
    Phase("streaming", sse_answer([*SAID, Silence()]), reads=True),
    SLOW,
    Phase("unary, connecting", None, stream=False),
    Phase("unary, silent before the headers", [Silence()], stream=False),
    Phase("unary, in the body", [JSON_HEAD, b'{"id": "chatcmpl-1", ', Silence()], stream=False),
)


class Vendor:
    """The vendor's side of a call, from which its end is seen."""

    def __init__(self, base_url: str, upstream: Upstream | None) -> None:
        """Takes where it is; None: it accepts no connection."""
        self.base_url = base_url
        self._upstream = upstream

    async def asked(self) -> None:
        """Waits until it is asked, or at least a connection to it is begun."""
        if self._upstream is None:
            await reached(self._is_being_connected)
        else:
            await self._upstream.received()

    async def reached(self, phase: Phase, caller: Caller) -> None:
        """Waits until a call has got as far as a phase."""
        await self.asked()
        if phase.reads:
            await caller.read_event()
        if phase.is_slow:
            assert self._upstream is not None
            await standing_still(self._upstream.requests[0])
        else:
            # Nobody can see from outside that the gateway has taken what was sent last.
            await asyncio.sleep(SETTLED_SECONDS)

    async def closed_at(self) -> float:
        """Waits until the gateway's connection is gone; the loop's time of it."""
        if self._upstream is not None:
            received = self._upstream.requests[0]
            await asyncio.wait_for(received.closed.wait(), 2)
            assert received.closed_at is not None
            return received.closed_at
        looks: list[float] = []

        def is_gone() -> bool:
            looks.append(asyncio.get_running_loop().time())
            return not self._is_being_connected()

        await reached(is_gone, within=2)
        return looks[-1]

    def _is_being_connected(self) -> bool:
        port = int(self.base_url.removesuffix("/v1").rpartition(":")[2])
        host = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
        # The table can be long, and is looked at often: no line is taken apart.
        return f" {host}:{port:04X} {SYN_SENT} " in Path("/proc/net/tcp").read_text(encoding="ascii")


@asynccontextmanager
async def vendor_in(phase: Phase) -> AsyncIterator[Vendor]:
    """A vendor that lets a call get as far as a phase."""
    if phase.answer is None:
        with never_accepting() as base_url:
            yield Vendor(base_url, None)
        return
    async with Upstream() as upstream:
        upstream.script(phase.answer)
        yield Vendor(upstream.base_url, upstream)


async def standing_still(received: Received, within: float = 10) -> int:
    """Waits until the gateway takes no more of an answer; how many bytes it and the system took."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    before, since = -1, loop.time()
    while loop.time() < since + STANDS_STILL_SECONDS:
        assert loop.time() < end, "the answer is read on and on"
        if received.bytes_written != before:
            before, since = received.bytes_written, loop.time()
        await asyncio.sleep(0.005)
    return before
