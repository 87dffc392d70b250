"""Whole answers that are read in one pass are read as those that are read field by field."""

import copy
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.completion import fold
from gateway_core.providers.openai.chunk import chunk
from gateway_core.providers.openai.plain import plain_answer, plain_chunk, plain_json
from rest_bridge.dialects.openai.response import completion_document
from tests.support.json_mutation import mutate
from tests.support.openai_documents import answers, chunks

USUAL: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 1,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": None,
}


def assert_same_json(document: dict[str, Any]) -> None:
    """What is written at once says what the bridge writes of the typed answer."""
    event = plain_answer(document)
    written = plain_json(document) if event is not None else None
    if event is not None and written is not None:
        assert orjson.loads(written) == orjson.loads(orjson.dumps(completion_document(fold([event]))))


def test_a_usual_answer_is_written_at_once() -> None:
    event = plain_answer(USUAL)
    assert event is not None
    assert plain_json(USUAL) == orjson.dumps(completion_document(fold([event])))


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": None},
        {"usage": {"prompt_tokens": 1}},
        {"usage": {**USUAL["usage"], "prompt_tokens_details": None}},
    ],
)
def test_what_the_bridge_would_fill_in_is_left_to_it(change: dict[str, Any]) -> None:
    document = {**USUAL, **change}
    assert plain_answer(document) is not None
    assert plain_json(document) is None


def test_a_usual_answer_is_read_in_one_pass() -> None:
    event = plain_answer(USUAL)
    assert event is not None
    assert event == chunk(USUAL)
    assert event.choices[0].delta.content == "Hello"
    assert event.usage.total_tokens == 10


@pytest.mark.parametrize("seed", range(20))
def test_answers_to_which_something_was_done_are_read_as_field_by_field_or_not_in_one_pass(seed: int) -> None:
    random = Random(seed)
    read = 0
    for _ in range(200):
        document = copy.deepcopy(USUAL)
        for _ in range(random.randint(1, 2)):
            mutate(document, random)
        event = plain_answer(document)
        if event is not None:
            read += 1
            assert event == chunk(document), document
            assert_same_json(document)
    assert read


@given(answers | st.just(USUAL))
@settings(deadline=None)
def test_documented_answers_are_read_as_field_by_field_or_not_in_one_pass(document: dict[str, Any]) -> None:
    event = plain_answer(document)
    assert event is None or event == chunk(document)
    assert_same_json(document)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"created": 0},
        {"choices": []},
        {"choices": USUAL["choices"] * 2},
        {"choices": [{**USUAL["choices"][0], "finish_reason": "error"}]},
        {"choices": [{**USUAL["choices"][0], "finish_reason": None}]},
        {"choices": [{"index": 0, "finish_reason": "stop"}]},
        {"unknown": 1},
    ],
)
def test_what_needs_a_second_look_is_left_to_the_other_reader(change: dict[str, Any]) -> None:
    assert plain_answer({**USUAL, **change}) is None


AROUND = {name: USUAL[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
CHUNKS: list[dict[str, Any]] = [
    {**AROUND, "object": "chat.completion.chunk", "choices": choices, **usage}
    for choices, usage in (
        ([{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None}, "finish_reason": None}], {}),
        ([{"index": 0, "delta": {"content": "a"}, "logprobs": None, "finish_reason": None}], {"usage": None}),
        ([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], {}),
        ([], {"usage": USUAL["usage"]}),
    )
]


@pytest.mark.parametrize("document", CHUNKS)
def test_a_usual_chunk_is_read_in_one_pass(document: dict[str, Any]) -> None:
    event = plain_chunk(document)
    assert event is not None
    assert event == chunk(document)


@pytest.mark.parametrize("seed", range(20))
def test_chunks_to_which_something_was_done_are_read_as_field_by_field_or_not_in_one_pass(seed: int) -> None:
    random = Random(seed)
    read = 0
    for _ in range(200):
        document = copy.deepcopy(random.choice(CHUNKS))
        for _ in range(random.randint(1, 2)):
            mutate(document, random)
        event = plain_chunk(document)
        if event is not None:
            read += 1
            assert event == chunk(document), document
    assert read


@given(chunks)
@settings(deadline=None)
def test_documented_chunks_are_read_as_field_by_field_or_not_in_one_pass(document: dict[str, Any]) -> None:
    event = plain_chunk(document)
    assert event is None or event == chunk(document)
