"""What a vendor of OpenAI's format says: whole answers, the events of streamed ones, and refusals."""

from collections.abc import Sequence
from typing import Any

Document = dict[str, Any]

USAGE: Document = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 3, "x_tier": "hot"},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def completion(message: Document, finish_reason: str = "stop", **fields: Any) -> Document:
    """A whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "tiny-2026",
        "choices": [choice], "usage": USAGE, **fields,
    }  # fmt: skip


def event(delta: Document, finish_reason: str | None = None, *, index: int = 0, **fields: Any) -> Document:
    """One event of a streamed answer."""
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "tiny-2026",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}], **fields,
    }  # fmt: skip


def streamed(*texts: str, finish_reason: str = "stop") -> list[Document]:
    """The events of an answer that says some texts, with its usage at the end."""
    said = [event({"role": "assistant", "content": ""}), *(event({"content": text}) for text in texts)]
    return [*said, event({}, finish_reason), usage_event()]


def usage_event() -> Document:
    """The event that tells the usage, as OpenAI writes it."""
    return {**event({}), "choices": [], "usage": USAGE}


def called(name: str, arguments: str, identity: str = "call_1") -> Document:
    """A call of a function."""
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def refusal(message: str, **fields: Any) -> Document:
    """The document of an error."""
    return {"error": {"message": message, **fields}}


def texts(events: Sequence[Any]) -> str:
    """What the chunks of OpenAI's SDK say together."""
    return "".join(choice.delta.content or "" for event in events for choice in event.choices)
