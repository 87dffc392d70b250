"""Chunks that differ from the one before in their delta only, as nearly all of a stream do: read in half the time."""

from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.providers.openai.answer import MESSAGE
from gateway_core.providers.openai.reading import read


class Continuation:
    """The last chunk of a stream, and those that continue it."""

    def __init__(self) -> None:
        """Begins before the first chunk."""
        self._document: Any = None  # the last that was read in full, without its delta
        self._event: ChatCompletionChunk | None = None  # what it was read into
        self._is_bare = False  # whether that is a copy of our own without what its delta said

    def event(self, document: Any) -> ChatCompletionChunk | None:
        """What a chunk says that continues the last one; None where any other has to be read, and given to `keep`."""
        choice = lone_choice(document)
        if choice is None or self._event is None:
            return None
        delta, choice["delta"] = choice["delta"], None
        if document != self._document:
            choice["delta"] = delta
            return None
        if not self._is_bare:
            self._event = bare(self._event)
            self._is_bare = True
        event = ChatCompletionChunk()
        event.CopyFrom(self._event)
        read(delta, event.choices[0].delta, MESSAGE)
        return event

    def keep(self, document: Any, event: ChatCompletionChunk) -> None:
        """Takes what a chunk was read into, for those that continue it."""
        choice = lone_choice(document)
        self._event = None
        if choice is not None:
            choice["delta"] = None
            self._document, self._event, self._is_bare = document, event, False


def lone_choice(document: Any) -> dict[str, Any] | None:
    """The only choice of a decoded chunk, which says something by its delta alone; None where there is no such one."""
    choices = document.get("choices") if type(document) is dict else None
    if type(choices) is not list or len(choices) != 1:
        return None
    choice = choices[0]
    if type(choice) is not dict or type(choice.get("delta")) is not dict or "message" in choice:
        return None
    return choice


def bare(event: ChatCompletionChunk) -> ChatCompletionChunk:
    """A chunk without what its delta says."""
    copy = ChatCompletionChunk()
    copy.CopyFrom(event)
    copy.choices[0].ClearField("delta")
    copy.choices[0].delta.SetInParent()
    return copy
