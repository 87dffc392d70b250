"""Answers of the shape that most have, read in one pass: one text, ended, with its usage; and the chunks of such."""

from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.providers.openai.reading import INT64
from gateway_core.providers.openai.usage import COMPLETION_DETAILS, PROMPT_DETAILS

TEXTS = frozenset({"id", "model", "service_tier", "system_fingerprint"})
COUNTS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
DETAILS = {"prompt_tokens_details": PROMPT_DETAILS, "completion_tokens_details": COMPLETION_DETAILS}
ABSENT = frozenset({"finish_reason", "logprobs"})
"""Of a choice: null says nothing."""
EMPTY_LISTS = frozenset({"annotations", "tool_calls"})
FAILED = frozenset({"error", "abort"})


def plain_answer(document: Any) -> ChatCompletionChunk | None:
    """What a decoded answer says; None for one of any other shape, be it right or wrong.

    Whatever is told here is what `chunk` would tell, which is asked for everything else. Such an answer has an id, a
    time, and one choice that ended well.
    """
    if type(document) is not dict or not (document.get("id") and document.get("created") and document.get("choices")):
        return None
    event = ChatCompletionChunk()
    try:
        for name, value in document.items():
            if not _is_set(event, name, value):
                return None
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return event


def plain_chunk(document: Any) -> ChatCompletionChunk | None:
    """What a decoded chunk says that adds to one text at most; None for one of any other shape, be it right or wrong.

    Likewise.
    """
    if type(document) is not dict:
        return None
    event = ChatCompletionChunk()
    try:
        for name, value in document.items():
            if name == "choices":
                if type(value) is not list or len(value) > 1 or not (not value or _is_piece(event, value[0])):
                    return None
            elif (name != "usage" or value is not None) and not _is_set(event, name, value):
                return None
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return event


def plain_json(document: dict[str, Any]) -> bytes | None:
    """An answer that `plain_answer` has read, as JSON in OpenAI's own form; None where something would be filled in.

    It is what the bridge would write of the typed answer. Source: OpenAI's ChatCompletion.
    """
    model, used = document.get("model"), document.get("usage")
    if not model:
        return None
    (choice,) = document["choices"]
    written = {
        "id": document["id"],
        "object": "chat.completion",
        "created": document["created"],
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": choice["message"]["content"],
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": choice["finish_reason"],
            }
        ],
    }
    if used is not None:
        if None in used.values() or not used.keys() >= COUNTS:
            return None
        written["usage"] = used
    for name in ("service_tier", "system_fingerprint"):
        told = document.get(name)
        if told is not None:
            written[name] = told
    return orjson.dumps(written)


def _is_set(event: ChatCompletionChunk, name: str, value: Any) -> bool:
    """Sets a field of an event where it is as most have it; whether it was. Raises UnicodeEncodeError."""
    if name in TEXTS:
        if type(value) is str:
            setattr(event, name, value)
            return True
        return value is None
    if name == "choices":
        return type(value) is list and len(value) == 1 and _is_choice(event, value[0])
    if name == "usage":
        return type(value) is dict and _is_usage(event.usage, value)
    if name == "created":
        if type(value) is not int or not 0 < value < INT64:
            return False
        event.created = value
        return True
    return name == "object"


def _is_choice(event: ChatCompletionChunk, choice: Any) -> bool:
    """Fills the one choice of an event where it is a plain one; whether it was."""
    if type(choice) is not dict:
        return False
    added = event.choices.add()
    ended = said = False
    for name, value in choice.items():
        if name == "message":
            said = type(value) is dict and _is_message(added.delta, value)
            if not said:
                return False
        elif name == "finish_reason":
            ended = type(value) is str and value not in FAILED and bool(value)
            if not ended:
                return False
            added.finish_reason = value
        elif name == "index":
            if value != 0 or type(value) is not int:
                return False
            added.index = 0
        elif name != "logprobs" or value is not None:
            return False
    return said and ended


def _is_piece(event: ChatCompletionChunk, choice: Any) -> bool:
    """Fills the one choice of a chunk where it is a plain one; whether it was."""
    if type(choice) is not dict:
        return False
    added = event.choices.add()
    for name, value in choice.items():
        if name == "delta":
            if type(value) is not dict or not _is_delta(added.delta, value):
                return False
        elif name == "index":
            if value != 0 or type(value) is not int:
                return False
            added.index = 0
        elif value is None:
            if name not in ABSENT:
                return False
        elif name == "finish_reason" and type(value) is str and value:
            added.finish_reason = value
        else:
            return False
    return True


def _is_delta(delta: Any, said: dict[str, Any]) -> bool:
    """Fills a delta where it has an assistant's text, or nothing; whether it was."""
    delta.SetInParent()
    for name, value in said.items():
        if name == "content":
            if type(value) is str:
                delta.content = value
            elif value is not None:
                return False
        elif name == "role" and value == "assistant":
            delta.role = message_pb2.ROLE_ASSISTANT
        elif name != "refusal" or value is not None:
            return False
    return True


def _is_message(delta: Any, message: dict[str, Any]) -> bool:
    """Fills a delta where the message is an assistant's text; whether it was."""
    text = message.get("content")
    if type(text) is not str or message.get("role") != "assistant":
        return False
    for name, value in message.items():
        if name in EMPTY_LISTS:
            if value is not None and value != []:
                return False
        elif name != "content" and name != "role" and (name != "refusal" or value is not None):
            return False
    delta.role = message_pb2.ROLE_ASSISTANT
    delta.content = text
    return True


def _is_usage(usage: Any, document: dict[str, Any]) -> bool:
    """Fills the usage where it is numbers that are known; whether it was."""
    usage.SetInParent()
    for name, value in document.items():
        if name in COUNTS:
            if type(value) is not int or not -INT64 <= value < INT64:
                return False
            setattr(usage, name, value)
            continue
        known = DETAILS.get(name)
        if known is None:
            return False
        if value is None:
            continue
        if type(value) is not dict:
            return False
        details = getattr(usage, name)
        details.SetInParent()
        for kind, count in value.items():
            if kind not in known or type(count) is not int or not -INT64 <= count < INT64:
                return False
            setattr(details, kind, count)
    return True
