"""What the mock upstream answers, and whether an answer that came through a gateway is right."""

from typing import Any

import orjson

TEXT = (
    "A gateway stands between those who ask and those who answer: it keeps the keys, counts the tokens, "
    "picks the way, and lets each word pass the moment it comes."
)
PIECES = tuple(word if place == 0 else f" {word}" for place, word in enumerate(TEXT.split()))
EVENT_COUNT = len(PIECES) + 4
"""Events of a stream: the role, the pieces of the text, the finish, the usage and [DONE]; 34 in all."""

SYSTEM_PROMPT = "You are a terse assistant. Answer in one sentence."
QUESTION = "What does a gateway do?"
TOTAL_TOKENS = 57

_USAGE = {
    "prompt_tokens": 27,
    "completion_tokens": 30,
    "total_tokens": TOTAL_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def request_body(model: str, stream: bool) -> bytes:
    """A request for a chat completion, as the OpenAI SDK writes it."""
    body: dict[str, Any] = {
        "messages": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": QUESTION}],
        "model": model,
        "temperature": 0.7,
        "max_tokens": 128,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(body)


def completion() -> bytes:
    """The answer that is not streamed, in the shape of OpenAI's `chat.completion` object."""
    message: dict[str, Any] = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return orjson.dumps(_envelope("chat.completion") | {"choices": [choice], "usage": _USAGE})


def stream_events(include_usage: bool) -> list[bytes]:
    """The events of the streamed answer, in the shape of OpenAI's `chat.completion.chunk` objects.

    As there, the usage has an event of its own when it is asked for, and is null in the others.
    """
    envelope = _envelope("chat.completion.chunk") | ({"usage": None} if include_usage else {})
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": "", "refusal": None}, None)]
    deltas += [({"content": piece}, None) for piece in PIECES]
    deltas.append(({}, "stop"))
    chunks = [
        envelope | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in deltas
    ]
    if include_usage:
        chunks.append(envelope | {"choices": [], "usage": _USAGE})
    return [b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks] + [b"data: [DONE]\n\n"]


def _envelope(kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-BvL3bXw0mJqW2nTgYcUe7RkZ5hSdA",
        "object": kind,
        "created": 1_760_000_000,
        "model": "tiny",
        "service_tier": "default",
        "system_fingerprint": "fp_headgate_bench",
    }


def chat_flaw(text: str, finish_reason: str | None, total_tokens: int | None) -> str | None:
    """What is wrong with what was answered, or None."""
    if text != TEXT:
        return f"the text differs: {text[:200]!r}"
    if finish_reason != "stop":
        return f'finish_reason is {finish_reason!r} instead of "stop"'
    if total_tokens != TOTAL_TOKENS:
        return f"total_tokens is {total_tokens} instead of {TOTAL_TOKENS}"
    return None


def completion_flaw(body: bytes) -> str | None:
    """What is wrong with the body of an answer that is not streamed, or None."""
    try:
        answer = orjson.loads(body)
        choice = answer["choices"][0]
        return chat_flaw(choice["message"]["content"], choice["finish_reason"], answer["usage"]["total_tokens"])
    except (ValueError, LookupError, TypeError) as error:
        return f"not a chat completion ({error!r}): {body[:200]!r}"


def stream_flaw(body: bytes) -> str | None:
    """What is wrong with the body of a streamed answer, or None. A stream has all its 34 events; comments are none."""
    events = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        return f"the stream does not end with [DONE]: {body[-200:]!r}"
    if len(events) != EVENT_COUNT:
        return f"{len(events)} events instead of {EVENT_COUNT}"
    try:
        chunks = [orjson.loads(event) for event in events[:-1]]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        finish_reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
        totals = [chunk["usage"]["total_tokens"] for chunk in chunks if chunk.get("usage")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"not a stream of chat completion chunks ({error!r}): {body[:200]!r}"
    return chat_flaw(text, finish_reasons[-1] if finish_reasons else None, totals[-1] if totals else None)
