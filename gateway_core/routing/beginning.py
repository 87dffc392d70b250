"""The beginning of a streamed answer, kept back: until there is a first token, and for as long as is configured."""

import asyncio
from collections.abc import Callable, Sequence

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Events, Given

STARTED = ChatCompletionChunk()


async def begun(events: Events, hold_seconds: float, first: Callable[[], None]) -> Events:
    """The same events, once the first token is there and was kept for as long; raises what the answer fails with.

    `first` is told when the first token has come. The answer is closed where this fails or is cancelled.
    """
    if isinstance(events, Given):
        first()
        return events
    kept: list[ChatCompletionChunk] = []
    late: asyncio.Task[ChatCompletionChunk | None] | None = None
    try:
        async for event in events:
            kept.append(event)
            if says_something(event):
                break
        first()
        if hold_seconds:
            late = await _keep(events, kept, hold_seconds)
    except BaseException:
        await events.aclose()
        raise
    whole = _whole(events, kept, late)
    # Closing a generator that has not run yet runs none of it: so it runs as far as its `try` now.
    await anext(whole)
    return whole


def says_something(event: ChatCompletionChunk) -> bool:
    """Whether an event has a token, or the end of an answer: what tells the role only is neither."""
    for choice in event.choices:
        delta = choice.delta
        if choice.finish_reason or delta.content or delta.reasoning or delta.tool_calls or delta.refusal:
            return True
    return event.HasField("usage")


async def _keep(
    events: Events, kept: list[ChatCompletionChunk], seconds: float
) -> "asyncio.Task[ChatCompletionChunk | None] | None":
    """Keeps what comes in so many seconds; what is on its way then. None: nothing, the answer has ended."""
    ends_at = asyncio.get_running_loop().time() + seconds
    while True:
        coming = asyncio.create_task(_next(events), name="the next event of an answer that is held back")
        try:
            await asyncio.wait((coming,), timeout=max(0.0, ends_at - asyncio.get_running_loop().time()))
        except BaseException:
            await _stopped(coming)
            raise
        if not coming.done():
            return coming
        event = coming.result()
        if event is None:
            return None
        kept.append(event)


async def _next(events: Events) -> ChatCompletionChunk | None:
    return await anext(events, None)


async def _stopped(coming: "asyncio.Task[ChatCompletionChunk | None]") -> None:
    """Ends a task: while it reads from a generator, nobody can close that."""
    coming.cancel()
    await asyncio.wait((coming,))
    if not coming.cancelled():
        coming.exception()


async def _whole(
    events: Events, kept: Sequence[ChatCompletionChunk], late: "asyncio.Task[ChatCompletionChunk | None] | None"
) -> Events:
    try:
        yield STARTED
        for event in kept:
            yield event
        if late is not None:
            coming = await late
            late = None
            if coming is not None:
                yield coming
        async for event in events:
            yield event
    finally:
        if late is not None:
            await _stopped(late)
        await events.aclose()
