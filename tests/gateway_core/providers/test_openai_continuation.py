"""Chunks that continue the one before are read as if they stood alone."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import orjson
import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.errors import ProviderError
from gateway_core.providers.openai.chunk import chunk
from gateway_core.providers.openai.continuation import CHARACTERS_AT_MOST, Continuation
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event

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
            if isinstance(event, str):
                event = continuation.chunk(event)
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
        ([document({"content": text}, obfuscation=text) for text in "abc"], 2),
        ([document({"content": text}, x=1, obfuscation=text) for text in "abc"], 2),
        ([document({"content": "a"}), document({"content": "b"}, obfuscation=7)], 0),
        ([document({"content": "a"}, obfuscation="o"), document({"reasoning": "b"}), document({"content": "c"})], 2),
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
    assert read(deepcopy(documents)) == (alone, continued)


def decoder() -> Decoder:
    return Decoder(Refusals("lab", ProviderConfig(kind="openai", base_url="http://host/v1")), "r", 1)


def events(documents: Iterable[Document | bytes]) -> list[Event]:
    return [Event("message", each if isinstance(each, bytes) else orjson.dumps(each)) for each in documents]


def together(*documents: Document | bytes) -> list[ChatCompletionChunk]:
    return list(decoder().together(events(documents)))


TEXTS = [document({"content": text}) for text in ("a", "b", "c")]
STOP = with_choice({}, finish_reason="stop")


def test_pieces_of_a_text_that_arrive_together_are_one() -> None:
    begun = document({"role": "assistant", "content": ""})
    told = together(begun, *TEXTS, STOP, b"[DONE]")
    assert [each.choices[0].delta.content for each in told] == ["", "abc", ""]
    assert [list(each.piece_lengths) for each in told] == [[], [1, 1, 1], []]
    assert told[2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "other",
    [
        document({"reasoning": "x"}),
        document({"tool_calls": [TOOL_CALL]}),
        document({"content": "x"}, model="another"),
        document({"content": "x", "y": 1}),
        with_choice({"content": "x"}, logprobs=LOGPROBS),
        with_choice({"content": "x"}, token_ids=[1]),
        with_choice({"content": "x"}, index=1),
        document(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
    ],
)
def test_what_says_anything_else_stands_alone_and_in_its_place(other: Document) -> None:
    expected = [chunk(deepcopy(each)) for each in (*TEXTS, other, other, *TEXTS)]
    merged = together(*deepcopy(TEXTS), deepcopy(other), deepcopy(other), *deepcopy(TEXTS), STOP)
    assert len(merged) < len(expected)
    by_one = decoder()
    alone = [by_one.event(event) for event in events([*TEXTS, other, other, *TEXTS, STOP])]
    assert fold(merged) == fold([each for each in alone if each is not None])
    of_tokens = [each for each in merged if each.choices and each.choices[0].HasField("logprobs")]
    assert len(of_tokens) == sum(each.choices[0].HasField("logprobs") for each in expected if each.choices)
    with_ids = [each for each in merged if each.choices and "token_ids" in each.choices[0].extra_json]
    assert len(with_ids) == sum("token_ids" in each.choices[0].extra_json for each in expected if each.choices)


def test_the_paddings_of_pieces_that_are_put_together_are_kept() -> None:
    (first, merged) = together(*(document({"content": text}, obfuscation=f"-{text}") for text in "abc"))
    assert (first.extra_json, merged.extra_json) == ('{"obfuscation":"-a"}', '{"obfuscation":"-b -c"}')
    assert merged.choices[0].delta.content == "bc"


@pytest.mark.parametrize("padding", ["a b", " ", "\u00fc", '"', "\\", None, 7])
def test_a_padding_that_could_not_be_told_from_others_again_keeps_its_piece_alone(padding: Any) -> None:
    documents = [document({"content": text}, obfuscation=padding) for text in "abcd"]
    documents[2]["obfuscation"] = "x"
    assert together(*deepcopy(documents)) == [chunk(each) for each in documents]


def test_pieces_with_a_padding_are_not_put_together_with_those_without() -> None:
    documents = [*[document({"content": "a"})] * 3, *[document({"content": "b"}, obfuscation="x")] * 3]
    told = together(*deepcopy(documents + documents[:3]))
    assert [each.choices[0].delta.content for each in told] == ["a", "aa", "b", "bb", "a", "aa"]
    assert [each.extra_json.count("x") for each in told] == [0, 0, 1, 2, 0, 0]


def test_what_arrived_before_a_fault_is_handed_out_before_it() -> None:
    told = decoder().together(events([*TEXTS, b"{"]))
    assert next(told).choices[0].delta.content + next(told).choices[0].delta.content == "abc"
    with pytest.raises(ProviderError):
        next(told)


@given(st.lists(st.sampled_from([*TEXTS, STOP, document({"reasoning": "r"}), document({"refusal": "n"})])), st.data())
def test_wherever_a_stream_is_cut_its_answer_is_the_same(documents: list[Document], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(documents)))
    by_one, in_parts = decoder(), decoder()
    alone = [said for event in events(documents) if (said := by_one.event(event)) is not None]
    parts = [*in_parts.together(events(documents[:cut])), *in_parts.together(events(documents[cut:]))]
    assert fold(parts) == fold(alone)
    assert len(parts) <= len(alone)


def test_what_was_handed_over_stays_as_it_was() -> None:
    continuation = Continuation()
    first = document({"content": "a", "x": 1})
    event = chunk(first)
    before = event.SerializeToString()
    continuation.keep(first, event)
    text = continuation.event(document({"content": "b"}))
    assert text == "b"
    second = continuation.chunk(text)
    assert (second.choices[0].delta.content, second.choices[0].delta.extra_json) == ("b", "")
    assert event.SerializeToString() == before


def test_no_more_is_put_together_than_a_slow_reader_may_hold() -> None:
    told = together(*(document({"content": "x" * 100}) for _ in range(100)))
    assert max(len(each.choices[0].delta.content) for each in told) < CHARACTERS_AT_MOST + 100
    assert sum(len(each.piece_lengths) or 1 for each in told) == 100
    assert len(told) < 10
