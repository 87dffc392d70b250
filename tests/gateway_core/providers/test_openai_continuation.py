"""Chunks that continue the one before are read as if they stood alone."""

from copy import deepcopy
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.providers.openai.chunk import chunk
from gateway_core.providers.openai.continuation import Continuation

Document = dict[str, Any]

TOOL_CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}, "x": 1}
LOGPROBS = {"content": [{"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": []}], "refusal": None}


def document(*deltas: Any, **fields: Any) -> Document:
    """A chunk with a choice for each delta."""
    choices = [
        {"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for index, delta in enumerate(deltas)
    ]
    return {"id": "1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices, **fields}


def with_choice(delta: Any, **fields: Any) -> Document:
    changed = document(delta)
    changed["choices"][0].update(fields)
    return changed


def read(documents: list[Document]) -> tuple[list[ChatCompletionChunk], int]:
    """What a stream's chunks say, and how many of them continued the one before."""
    continuation = Continuation()
    events: list[ChatCompletionChunk] = []
    continued = 0
    for each in documents:
        event = continuation.event(each)
        if event is None:
            event = chunk(each)
            continuation.keep(each, event)
        else:
            continued += 1
        events.append(event)
    return events, continued


@pytest.mark.parametrize(
    ("documents", "continued"),
    [
        ([document({"content": text}) for text in "abc"], 2),
        ([document({"role": "assistant", "content": ""}), document({"content": "a"}), document({})], 2),
        ([document({"content": "a"}), document({"reasoning": "b", "x": 1}), document({"content": "c"})], 2),
        ([document({"content": "a"}), document({"tool_calls": [TOOL_CALL]}), document({"refusal": "No"})], 2),
        ([document({"content": text}, provider="p", x={"y": [1, None]}) for text in "ab"], 1),
        ([document({"content": text}, obfuscation=text) for text in "ab"], 0),
        ([document({"content": "a"}), document({"content": "a"}, model="n"), document({"content": "a"})], 0),
        ([document({"content": "a"}), with_choice({}, finish_reason="stop"), document({"content": "a"})], 0),
        ([with_choice({"content": "a"}, logprobs=LOGPROBS), with_choice({"content": "a"}, logprobs=LOGPROBS)], 1),
        ([with_choice({"content": "a"}, logprobs=LOGPROBS), document({"content": "a"})], 0),
        ([document({"content": "a"}), document(usage={"total_tokens": 3}), document({"content": "a"})], 0),
        ([document({"content": "a"}, {"content": "b"}), document({"content": "a"}, {"content": "c"})], 0),
        ([with_choice({"content": text}, index=index) for index in (0, 1) for text in "ab"], 2),
        ([with_choice({"content": text}, message={"content": "x", "refusal": "y"}) for text in "ab"], 0),
        ([with_choice(None), with_choice("a"), with_choice(None), {"choices": []}, {"choices": [{}]}, {}], 0),
        ([with_choice({"content": "a"}), with_choice(None), with_choice({"content": "b"})], 0),
        ([document({"content": text}, created="soon", id=None) for text in "ab"], 1),
    ],
)
def test_each_chunk_says_what_it_would_say_alone(documents: list[Document], continued: int) -> None:
    alone = [chunk(deepcopy(each)) for each in documents]
    assert read(documents) == (alone, continued)


def test_what_was_handed_over_stays_as_it_was() -> None:
    continuation = Continuation()
    first = document({"content": "a", "x": 1})
    event = chunk(first)
    before = event.SerializeToString()
    continuation.keep(first, event)
    second = continuation.event(document({"content": "b"}))
    assert second is not None
    assert (second.choices[0].delta.content, second.choices[0].delta.extra_json) == ("b", "")
    assert event.SerializeToString() == before
