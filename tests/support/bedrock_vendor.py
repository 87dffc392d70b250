"""What Amazon Bedrock says: whole answers, the events of streamed ones, and refusals.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and …ConverseStream.html
"""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.event_stream import event
from tests.support.upstream import Answer, Step, answer

Document = dict[str, Any]
Event = tuple[str, Document]

REQUEST_ID = "7b0a1e0e-65f5-4a2a-9c4f-4c8c2a7c2d11"

TYPES = "http://internal.amazon.com/coral/com.amazon.bedrock/"


def usage(prompt: int = 9, completion: int = 4, **fields: int) -> Document:
    """The tokens used."""
    return {"inputTokens": prompt, "outputTokens": completion, "totalTokens": prompt + completion, **fields}


def completion(*blocks: Document, stop: str = "end_turn", used: Document | None = None) -> Document:
    """A whole answer."""
    return {
        "metrics": {"latencyMs": 551},
        "output": {"message": {"role": "assistant", "content": list(blocks)}},
        "stopReason": stop,
        "usage": used or usage(),
    }


def events(*blocks: Sequence[Event], stop: str = "end_turn", used: Document | None = None) -> list[Event]:
    """The events of a streamed answer, from those of its blocks."""
    numbered = [
        (kind, {"contentBlockIndex": index, **document})
        for index, block in enumerate(blocks)
        for kind, document in [*block, ("contentBlockStop", {})]
    ]
    return [
        ("messageStart", {"role": "assistant", "p": "abcd"}),
        *numbered,
        ("messageStop", {"stopReason": stop, "p": "abcdefgh"}),
        ("metadata", {"metrics": {"latencyMs": 551}, "usage": used or usage()}),
    ]


def said(*texts: str) -> list[Event]:
    """A block of text."""
    return [("contentBlockDelta", {"delta": {"text": text}, "p": "abc"}) for text in texts]


def thought(*texts: str, signature: str = "") -> list[Event]:
    """A block of reasoning."""
    pieces: list[Document] = [{"text": text} for text in texts]
    if signature:
        pieces.append({"signature": signature})
    return [("contentBlockDelta", {"delta": {"reasoningContent": piece}}) for piece in pieces]


def called(name: str, identity: str, *arguments: str) -> list[Event]:
    """A block that calls a tool, its arguments in pieces."""
    start = ("contentBlockStart", {"start": {"toolUse": {"toolUseId": identity, "name": name}}})
    return [start, *(("contentBlockDelta", {"delta": {"toolUse": {"input": piece}}}) for piece in arguments)]


def whole_answer(document: Document) -> Answer:
    """An answer that is not streamed."""
    fields = {"content-type": "application/json", "x-amzn-requestid": REQUEST_ID}
    return answer([json.dumps(document).encode()], headers=fields)


def streamed_answer(said: Sequence[Event | Step]) -> Answer:
    """A streamed answer, an event at a time; bytes and steps may stand between the events."""
    body = [event(*each) if isinstance(each, tuple) else each for each in said]
    fields = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": REQUEST_ID}
    return answer(body, headers=fields, framing="chunked")


def refusal(status: int, kind: str, message: str, field: str = "message") -> Answer:
    """A refusal."""
    fields = {
        "content-type": "application/json",
        "x-amzn-requestid": REQUEST_ID,
        "x-amzn-errortype": f"{kind}:{TYPES}",
    }
    return answer([json.dumps({field: message}).encode()], status=status, headers=fields)
