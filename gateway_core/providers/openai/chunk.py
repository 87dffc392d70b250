"""Answers of an OpenAI-compatible host, whole or in chunks, become the contract's chunks."""

from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk, ChunkChoice

from gateway_core.providers.openai.answer import LOGPROBS, MESSAGE
from gateway_core.providers.openai.reading import Fields, objects, part, read, skip, small, words
from gateway_core.providers.openai.usage import USAGE


def said(choice: ChunkChoice, value: Any) -> bool:
    """What a choice says: its delta, or its whole message."""
    if type(value) is not dict:
        return False
    delta = choice.delta
    delta.SetInParent()
    read(value, delta, MESSAGE)
    return True


CHOICE: Fields = {
    "index": small("index"),
    "delta": said,
    "message": said,
    "finish_reason": words("finish_reason"),
    "logprobs": part("logprobs", LOGPROBS),
}


def choices(event: ChatCompletionChunk, value: Any) -> bool:
    """What is added to each answer; a choice without an index is at its position in the list."""
    if not objects(value):
        raise ValueError("its choices are not a list of objects")
    for position, document in enumerate(value):
        choice = event.choices.add()
        if position:
            choice.index = position
        read(document, choice, CHOICE)
    return True


CHUNK: Fields = {
    "id": str,
    "object": skip,
    "created": int,
    "model": str,
    "choices": choices,
    "usage": part("usage", USAGE),
    "service_tier": str,
    "system_fingerprint": str,
}


def chunk(document: Any) -> ChatCompletionChunk:
    """A decoded answer, whole or one chunk of it. Source: OpenAI's ChatCompletion and ChatCompletionChunk.

    Null is as absent. What the contract has no place for, or what has a type of its own, is kept as JSON at its level.
    Raises ValueError where the document is no answer at all.
    """
    if type(document) is not dict:
        raise ValueError("it is not a JSON object")
    event = ChatCompletionChunk()
    read(document, event, CHUNK)
    return event
