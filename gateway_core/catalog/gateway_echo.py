"""An answer with its beginning, which the caller wants back and the model only continues."""

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Events, Given

STARTED = ChatCompletionChunk()


async def echoed(events: Events, beginning: str) -> Events:
    """The events, in which each answer begins with a text."""
    begun: set[int] = set()
    if isinstance(events, Given):
        return Given(*[with_beginning(event, beginning, begun) for event in events.events])
    watched = _watched(events, beginning, begun)
    # Closing a generator that has not run yet runs none of it: so it runs as far as its `try` now.
    await anext(watched)
    return watched


async def _watched(events: Events, beginning: str, begun: set[int]) -> Events:
    try:
        yield STARTED
        async for event in events:
            yield with_beginning(event, beginning, begun)
    finally:
        await events.aclose()


def with_beginning(event: ChatCompletionChunk, beginning: str, begun: set[int]) -> ChatCompletionChunk:
    """The event, or a copy of it in which the answers that begin with it begin with the text."""
    if all(choice.index in begun for choice in event.choices):
        return event
    copy = ChatCompletionChunk()
    copy.CopyFrom(event)
    for choice in copy.choices:
        # Reasoning comes before what is said; the text begins with the first word, or with the end where none comes.
        says = choice.delta.HasField("content") or bool(choice.finish_reason)
        if choice.index not in begun and says:
            begun.add(choice.index)
            choice.delta.content = beginning + choice.delta.content
            if copy.piece_lengths:
                copy.piece_lengths[0] += len(beginning)
    return copy
