"""Chunks of the shape that most have, read in one pass: they add to one text at most.

Their names are compared as sets. Types and bounds are left to the contract's own messages, which refuse what does not
fit: that takes half of what asking for each value takes.
"""

from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.message_pb2 import ROLE_ASSISTANT

from gateway_core.providers.openai.usage import COMPLETION_DETAILS, PROMPT_DETAILS, USAGE

CHUNK = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"})
USED, PROMPT, COMPLETION = (frozenset(fields) for fields in (USAGE, PROMPT_DETAILS, COMPLETION_DETAILS))
"""Names that objects of such chunks have, and no others."""

ABSENT = frozenset({"finish_reason", "logprobs"})
"""Of a choice: null says nothing."""


def plain_chunk(document: Any) -> ChatCompletionChunk | None:
    """What a decoded chunk says; None for one of any other shape, be it right or wrong.

    Whatever is told here is what `chunk` would tell, which is asked for everything else.
    """
    if type(document) is not dict or not CHUNK.issuperset(document):
        return None
    choices, used = document.get("choices", []), document.get("usage")
    if type(choices) is not list or len(choices) > 1:
        return None
    try:
        if used is not None and not _is_known(used):
            return None
        event = ChatCompletionChunk(
            id=document.get("id"),
            created=document.get("created"),
            model=document.get("model"),
            usage=used,
            service_tier=document.get("service_tier"),
            system_fingerprint=document.get("system_fingerprint"),
        )
        return event if not choices or _is_piece(event, choices[0]) else None
    except (TypeError, ValueError):  # something does not fit, or is half of a surrogate pair
        return None


def _is_known(used: Any) -> bool:
    """Whether a usage has known names only. Raises TypeError."""
    return (
        type(used) is dict
        and USED.issuperset(used)
        and PROMPT.issuperset(used.get("prompt_tokens_details") or ())
        and COMPLETION.issuperset(used.get("completion_tokens_details") or ())
    )


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
            delta.role = ROLE_ASSISTANT
        elif name != "refusal" or value is not None:
            return False
    return True
