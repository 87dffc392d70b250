"""What a vendor of Anthropic's Messages API says: whole answers, the events of streamed ones, refusals, its models.

The shapes are those of https://platform.claude.com/docs/en/api/messages/create,
https://platform.claude.com/docs/en/build-with-claude/streaming and https://platform.claude.com/docs/en/api/errors.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tests.support.upstream import Answer, Step, answer, json_answer

Document = dict[str, Any]

USAGE: Document = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 300,
    "output_tokens": 4,
    "service_tier": "standard",
}

HEADERS = {"request-id": "req_018EeWyXxfu5pfWkrYcMdjWG"}


def text(said: str) -> Document:
    """A block of text."""
    return {"type": "text", "text": said}


def thinking(thought: str, signature: str) -> Document:
    """A block of signed reasoning."""
    return {"type": "thinking", "thinking": thought, "signature": signature}


def redacted(data: str) -> Document:
    """A block of reasoning that nobody else can read."""
    return {"type": "redacted_thinking", "data": data}


def tool_use(identity: str, name: str, **arguments: Any) -> Document:
    """A call of a tool."""
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def message(*content: Document, stop_reason: str = "end_turn", **fields: Any) -> Document:
    """A whole answer."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": "claude-opus-4-8",
        "content": list(content), "stop_reason": stop_reason, "stop_sequence": None, "usage": USAGE, **fields,
    }  # fmt: skip


def events(said: Document) -> Iterator[Document]:
    """The events of a streamed answer that says the same as a whole one."""
    begun = {**said["usage"], "output_tokens": 1}
    yield {"type": "message_start", "message": {**said, "content": [], "stop_reason": None, "usage": begun}}
    for index, block in enumerate(said["content"]):
        bare, deltas = pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": bare}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {name: said[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in said}
    used = {name: count for name, count in said["usage"].items() if name.endswith("_tokens")}
    yield {"type": "message_delta", "delta": ended, "usage": used}
    yield {"type": "message_stop"}


def pieces(block: Document) -> tuple[Document, list[Document]]:
    """A block as it begins, and what is added to it."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in cut(block["text"])]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in cut(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*thoughts, signed]
        case "tool_use":
            written = orjson.dumps(block["input"]).decode() if block["input"] else ""
            parts = ["", *cut(written)]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in parts]
    return block, []


def cut(said: str) -> list[str]:
    """A text in two pieces, none of them empty."""
    middle = (len(said) + 1) // 2
    return [piece for piece in (said[:middle], said[middle:]) if piece]


def line(event: Document) -> bytes:
    """An event as it is sent."""
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def whole_answer(said: Document) -> Answer:
    """A whole answer as it is sent."""
    return json_answer(said, headers=HEADERS)


def streamed_answer(said: Document | Sequence[Document | Step], *, together: int = 4) -> Answer:
    """A streamed answer as it is sent: of a whole one the first events in one write, then one by one."""
    steps = list(events(said)) if isinstance(said, dict) else list(said)
    written = [line(step) if isinstance(step, Mapping) else step for step in steps]
    if isinstance(said, dict):
        first = b"".join(each for each in written[:together] if isinstance(each, bytes))
        written = [first, *written[together:]]
    return answer(written, headers={"content-type": "text/event-stream; charset=utf-8", **HEADERS}, framing="chunked")


def error(kind: str, said: str) -> Document:
    """An error, as an answer or as an event."""
    return {"type": "error", "error": {"type": kind, "message": said}, "request_id": HEADERS["request-id"]}


def refused(status: int, kind: str, said: str, **headers: str) -> Answer:
    """A refusal as it is sent."""
    return json_answer(error(kind, said), status, {**HEADERS, **headers})
