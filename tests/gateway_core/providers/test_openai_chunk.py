"""Chunks of hosts that are not quite OpenAI's: what fits is typed, what does not is kept."""

from typing import Any

import orjson
import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk

from gateway_core.providers.openai.chunk import chunk
from gateway_core.providers.openai.place import Places


def said(delta: Any) -> AnswerMessage:
    return chunk({"choices": [{"delta": delta}]}).choices[0].delta


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", ""),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "a"}],
            "a",
            "Hm",
        ),
        ([{"type": "thinking", "thinking": "Hm"}], "", "Hm"),
    ],
)
def test_content_in_parts_of_text_is_joined(content: Any, text: str, reasoning: str) -> None:
    message = said({"content": content})
    assert (message.content, message.reasoning, message.extra_json) == (text, reasoning, "")


@pytest.mark.parametrize("content", [[{"type": "reference", "reference_ids": [1]}], [1], {"a": 1}, 7, True])
def test_content_of_another_kind_is_kept_as_it_is(content: Any) -> None:
    message = said({"content": content})
    assert not message.HasField("content")
    assert orjson.loads(message.extra_json) == {"content": content}


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "Hm"},
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm", "reasoning_content": "Hm"},
        {"reasoning_content": "Hm", "reasoning": "Hm"},
        {"reasoning": None, "reasoning_content": "Hm"},
        {"reasoning": "", "reasoning_content": "Hm"},
    ],
    ids=str,
)
def test_reasoning_has_two_words_and_is_told_once(delta: Any) -> None:
    assert said(delta) == AnswerMessage(reasoning="Hm")


@pytest.mark.parametrize("delta", [{"tool_calls": []}, {"tool_calls": None}, {"refusal": ""}, {"role": ""}], ids=str)
def test_what_is_empty_is_as_absent(delta: Any) -> None:
    assert said(delta) == AnswerMessage()


def test_numbers_with_a_point_are_whole_where_they_are_whole() -> None:
    usage = chunk({"usage": {"prompt_tokens": 12.0, "completion_tokens": 1.5, "total_tokens": None, "cost": 0.1}}).usage
    assert usage.prompt_tokens == 12
    assert usage.completion_tokens == 0
    assert orjson.loads(usage.extra_json) == {"completion_tokens": 1.5, "cost": 0.1}


@pytest.mark.parametrize("value", [2**63, -1e300, "7", True, [1]])
def test_a_number_that_does_not_fit_is_kept_as_it_is(value: Any) -> None:
    event = chunk({"created": value})
    assert event.created == 0
    assert orjson.loads(event.extra_json) == {"created": value}


@pytest.mark.parametrize("usage", [None, 7, "many", []])
def test_a_usage_that_is_none_is_not_made_one(usage: Any) -> None:
    assert not chunk({"usage": usage}).HasField("usage")


def test_arguments_that_a_host_has_decoded_are_json_text_again() -> None:
    (call,) = said({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]}).tool_calls
    assert call.function.arguments == '{"a":1}'


def test_a_tool_call_of_an_unknown_type_is_carried_whole() -> None:
    (call,) = said({"tool_calls": [{"index": 3, "id": "c", "type": "mcp", "mcp": {"a": 1}}]}).tool_calls
    assert (call.index, call.id) == (3, "c")
    assert orjson.loads(call.other_json) == {"id": "c", "type": "mcp", "mcp": {"a": 1}}


def test_a_choice_without_an_index_is_at_its_position() -> None:
    event = chunk({"choices": [{"delta": {}}, {"delta": {}}, {"index": 7, "delta": {}}]})
    assert [choice.index for choice in event.choices] == [0, 1, 7]


def test_any_word_is_a_finish_reason_but_the_empty_one() -> None:
    event = chunk({"choices": [{"finish_reason": "eos"}, {"finish_reason": ""}, {"finish_reason": 7}]})
    assert [choice.finish_reason for choice in event.choices] == ["eos", "", ""]
    assert [choice.HasField("finish_reason") for choice in event.choices] == [True, False, False]


@pytest.mark.parametrize(
    "document", [None, [], "x", 1, {"choices": {}}, {"choices": [None]}, {"choices": "x"}], ids=str
)
def test_what_is_no_answer_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"it is not|its choices"):
        chunk(document)


def test_nothing_is_lost_whatever_has_another_type() -> None:
    odd = {"audio": 1, "annotations": 1, "function_call": "f", "reasoning_details": {}, "tool_calls": "x", "refusal": 1}
    message = said(odd)
    assert orjson.loads(message.extra_json) == odd
    event = chunk({"id": 1, "model": {}, "choices": [{"logprobs": [1], "delta": [1], "index": "0"}]})
    assert orjson.loads(event.extra_json) == {"id": 1, "model": {}}
    assert orjson.loads(event.choices[0].extra_json) == {"logprobs": [1], "delta": [1], "index": "0"}
    assert event != ChatCompletionChunk()


def places(*deltas: list[Any]) -> list[list[int]]:
    """The indices that the tool calls of some deltas get."""
    known, found = Places(), []
    for calls in deltas:
        document = {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}
        known.number(document)
        found.append([call.index for call in chunk(document).choices[0].delta.tool_calls])
    return found


def call(index: int | None = None, identity: str | None = None, name: str | None = None) -> dict[str, Any]:
    fields = {"index": index, "id": identity, "function": {"name": name, "arguments": ""}}
    return {field: value for field, value in fields.items() if value is not None}


def test_numbers_of_the_host_are_kept() -> None:
    assert places([call(0, "a", "f"), call(1, "b", "g")], [call(1)], [call(0)]) == [[0, 1], [1], [0]]
    assert places([call(1, "a", "f")], [call(1)], [call(2, "b", "f")]) == [[1], [1], [2]]


def test_calls_without_numbers_are_told_by_their_ids() -> None:
    assert places([call(None, "a", "f")], [call(None, "b", "g")], [call(None, "a")], [call()]) == [[0], [1], [0], [0]]


def test_calls_without_numbers_and_ids_are_told_by_their_names() -> None:
    assert places([call(None, None, "f")], [call()], [call(None, None, "g")], [call()]) == [[0], [0], [1], [1]]
    assert places([call(None, None, "f"), call(None, None, "f")]) == [[0, 1]]


def test_calls_that_all_have_the_number_0_are_told_by_id_and_name() -> None:
    assert places([call(0, "a", "f")], [call(0)], [call(0, "b", "g")], [call(0)]) == [[0], [0], [1], [1]]


def test_an_id_that_is_new_in_every_chunk_is_no_new_call() -> None:
    assert places([call(0, "a", "f")], [call(0, "b")], [call(0, "c")]) == [[0], [0], [0]]


@pytest.mark.parametrize(
    "document", [None, 7, {}, {"choices": 7}, {"choices": [7]}, {"choices": [{"delta": {"tool_calls": [7]}}]}], ids=str
)
def test_numbering_leaves_alone_what_it_does_not_know(document: Any) -> None:
    Places().number(document)
