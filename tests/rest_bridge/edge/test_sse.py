import asyncio
from collections.abc import Sequence

import pytest

from rest_bridge import ndjson, sse
from tests.rest_bridge.edge.eventually import eventually


class Recorder:
    """A sink that keeps what it gets, and can be slow."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.told = b""
        self.status = 0
        self.is_ended = False
        self.sending = 0
        self.overlapped = False
        self.open = asyncio.Event()
        self.open.set()

    async def start_stream(self, status: int, headers: Sequence[tuple[bytes, bytes]], told: bytes) -> None:
        self.status, self.headers, self.told = status, dict(headers), told

    async def send(self, data: bytes) -> None:
        self.sending += 1
        self.overlapped |= self.sending > 1
        try:
            await self.open.wait()
            self.parts.append(data)
        finally:
            self.sending -= 1

    async def end(self, data: bytes = b"") -> None:
        self.overlapped |= self.sending > 0
        self.parts.append(data)
        self.is_ended = True


def test_a_document_is_framed_as_an_event_and_as_a_line() -> None:
    assert sse.event(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert sse.events([b"1", b"[DONE]"]) == b"data: 1\n\ndata: [DONE]\n\n"
    assert ndjson.line(b'{"a":1}') == b'{"a":1}\n'


def test_a_ping_is_a_comment() -> None:
    assert sse.PING.startswith(b":")
    assert sse.PING.endswith(b"\n\n")


async def test_a_stream_starts_writes_and_ends() -> None:
    recorder = Recorder()
    async with sse.EventStream(recorder, 15, b"x-headgate-warning: n: dropped\r\n") as stream:
        assert recorder.status == 200
        await stream.write(sse.events([b"1", b"2"]))
        await stream.end(sse.event(b"[DONE]"))
    assert recorder.parts == [b"data: 1\n\ndata: 2\n\n", b"data: [DONE]\n\n"]
    assert recorder.is_ended
    assert recorder.headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-store",
        b"x-accel-buffering": b"no",
    }
    assert recorder.told == b"x-headgate-warning: n: dropped\r\n"


async def test_silence_is_filled_with_comments_and_writing_is_no_silence() -> None:
    recorder = Recorder()
    async with sse.EventStream(recorder, 0.05) as stream:
        await eventually(lambda: recorder.parts.count(sse.PING) >= 2)
        for _ in range(20):
            await stream.write(b"data: 1\n\n")
            await asyncio.sleep(0.01)
        last = [part for part in recorder.parts if part != b"data: 1\n\n"]
        await stream.end()
    assert len(last) <= 4
    parts = list(recorder.parts)
    await asyncio.sleep(0.12)
    assert recorder.parts == parts


async def test_a_ping_is_never_sent_into_another_send() -> None:
    recorder = Recorder()
    async with sse.EventStream(recorder, 0.01) as stream:
        recorder.open.clear()
        write = asyncio.create_task(stream.write(b"data: slow\n\n"))
        await asyncio.sleep(0.05)
        assert recorder.sending == 1
        recorder.open.set()
        await write
        await eventually(lambda: sse.PING in recorder.parts)
        recorder.open.clear()
        await eventually(lambda: recorder.sending)
        write = asyncio.create_task(stream.write(b"data: after\n\n"))
        await asyncio.sleep(0.03)
        recorder.open.set()
        await write
        await stream.end()
    assert not recorder.overlapped
    assert recorder.parts[-3:] == [sse.PING, b"data: after\n\n", b""]


async def test_a_stream_that_is_left_with_a_ping_under_way_ends_at_once() -> None:
    recorder = Recorder()

    async def streams() -> None:
        async with sse.EventStream(recorder, 0.01):
            recorder.open.clear()
            await eventually(lambda: recorder.sending)
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        await asyncio.wait_for(streams(), 5)
    assert recorder.sending == 0
    assert not recorder.is_ended


async def test_cancelling_a_write_behind_a_ping_leaves_nothing_behind() -> None:
    recorder = Recorder()

    async def streams() -> None:
        async with sse.EventStream(recorder, 0.01) as stream:
            recorder.open.clear()
            await eventually(lambda: recorder.sending)
            await stream.write(b"data: never\n\n")

    task = asyncio.create_task(streams())
    await eventually(lambda: recorder.sending)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.sending == 0
    assert recorder.parts == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
