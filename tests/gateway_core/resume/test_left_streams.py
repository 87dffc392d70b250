"""Streams that are given up leave nothing to the collector of cycles."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events
from gateway_core.config import DetachConfig
from gateway_core.resume.stream import ResumableStream
from gateway_core.resume.streams import Streams
from tests.gateway_core.telemetry.calls import new_call, text
from tests.support.upstream import reached


class Held:
    """What somebody holds while a stream runs."""


async def test_what_a_stream_held_is_free_once_it_is_given_up() -> None:
    held: list[weakref.ref[Held]] = []

    async def events() -> AsyncGenerator[ChatCompletionChunk, None]:
        own = Held()
        held.append(weakref.ref(own))
        yield text("a")
        await asyncio.Event().wait()

    async def pipeline(call: Call[Any]) -> Events:
        return events()

    async def called() -> None:
        """Who has called, leaves, and does not come back in time, while the provider is read on."""
        stream = streams.begin(new_call(), 0.01, pipeline)
        assert isinstance(stream, ResumableStream)
        with stream.listen(0) as listener:
            assert (await anext(listener))[0] == 1
            stream.is_told = True

    streams = Streams(DetachConfig())
    gc.disable()  # no cycle may keep it
    try:
        await called()
        await reached(lambda: held[0]() is None)
    finally:
        gc.enable()
        await streams.close()
