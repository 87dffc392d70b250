"""What the Gemini API says: whole answers, the events of streamed ones, lists, and refusals.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures,
https://ai.google.dev/api/models.
"""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.upstream import Answer, Step, answer, json_answer

Document = dict[str, Any]

MODEL = "gemini-3-flash-preview"

USAGE: Document = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 4,
    "totalTokenCount": 45,
    "thoughtsTokenCount": 32,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
}


def said(text: str, **fields: Any) -> Document:
    """A part with text."""
    return {"text": text, **fields}


def thought(text: str) -> Document:
    """A part with a summary of thoughts."""
    return {"text": text, "thought": True}


def called(name: str, identity: str = "", signature: str = "", **arguments: Any) -> Document:
    """A part that calls a function; of calls that are made at once only the first is signed."""
    call: Document = {"id": identity} if identity else {}
    part: Document = {"functionCall": {**call, "name": name, "args": arguments}}
    return {**part, "thoughtSignature": signature} if signature else part


def document(*parts: Document, finish: str | None = None, index: int = 0, **fields: Any) -> Document:
    """A whole answer, or an event of a streamed one: they have one form. With why it ended it tells the usage."""
    candidate: Document = {"content": {"parts": list(parts), "role": "model"}, "index": index}
    told: Document = {"promptTokenCount": 9, "totalTokenCount": 9}
    if finish is not None:
        candidate["finishReason"] = finish
        told = USAGE
    head = {"candidates": [candidate], "usageMetadata": told, "modelVersion": MODEL, "responseId": "resp-1"}
    return {**head, **fields}


def status(code: int, word: str, message: str, *details: Document) -> Document:
    """The document of an error: google.rpc.Status."""
    return {"error": {"code": code, "message": message, "status": word, "details": list(details)}}


def detail(kind: str, **fields: Any) -> Document:
    """A detail of an error."""
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


def whole_answer(answered: Document, http_status: int = 200) -> Answer:
    """An answer that is not streamed, or a refusal."""
    return json_answer(answered, http_status, {"content-type": "application/json; charset=UTF-8"})


def streamed_answer(events: Sequence[Document | Step]) -> Answer:
    """A streamed answer, an event at a time, its lines ended as Google ends them; nothing says that it is over."""
    body = [each if isinstance(each, Step) else event(each) for each in events]
    return answer(body, headers={"content-type": "text/event-stream"}, framing="chunked")


def event(each: Document) -> bytes:
    """One event."""
    line = json.dumps(each, ensure_ascii=False).encode()
    return b"data: " + line + b"\r\n\r\n"


def listed(*names: str, next_page: str = "") -> Document:
    """A page of the list of models."""
    models = [
        {
            "name": f"models/{name}", "displayName": name, "inputTokenLimit": 1048576, "outputTokenLimit": 65536,
            "supportedGenerationMethods": ["generateContent", "countTokens"], "thinking": True,
        }
        for name in names
    ]  # fmt: skip
    return {"models": models, **({"nextPageToken": next_page} if next_page else {})}
