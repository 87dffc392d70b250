"""What an Ollama says: whole answers, the lines of streamed ones, and its lists. Source: https://docs.ollama.com/api/chat"""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.upstream import Answer, Step, answer

Document = dict[str, Any]

AT = "2026-11-20T09:12:33.123456789Z"


def line(content: str = "", *, thinking: str = "", calls: Sequence[Document] = ()) -> Document:
    """A line of a streamed answer."""
    message: Document = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = list(calls)
    return {"model": "qwen3:8b", "created_at": AT, "message": message, "done": False}


def ended(document: Document | None = None, reason: str = "stop", prompt: int = 9, completion: int = 4) -> Document:
    """A line that ends an answer; a whole answer where it says something."""
    return {
        **(document or line()), "done": True, "done_reason": reason, "total_duration": 4883583458, "load_duration": 1334875,
        "prompt_eval_count": prompt, "prompt_eval_duration": 342546000, "eval_count": completion, "eval_duration": 4535599,
    }  # fmt: skip


def called(name: str, identity: str = "", **arguments: Any) -> Document:
    """A call of a tool; older servers give no id."""
    call: Document = {"id": identity} if identity else {}
    return {**call, "function": {"name": name, "arguments": arguments}}


def whole_answer(document: Document, status: int = 200) -> Answer:
    """An answer that is not streamed, or a refusal."""
    body = json.dumps(document).encode()
    return answer([body], status=status, headers={"content-type": "application/json; charset=utf-8"})


def streamed_answer(lines: Sequence[Document | Step]) -> Answer:
    """A streamed answer, a line at a time; steps may stand between the lines."""
    body = [each if isinstance(each, Step) else json.dumps(each).encode() + b"\n" for each in lines]
    return answer(body, headers={"content-type": "application/x-ndjson"}, framing="chunked")
