"""What is read in one pass, whole answers and chunks, is read as what is read field by field."""

import copy
import json
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.completion import fold
from gateway_core.providers.openai.chunk import chunk
from gateway_core.providers.openai.plain import plain_answer
from gateway_core.providers.openai.plain_chunk import plain_chunk
from gateway_core.said import said_of
from rest_bridge.dialects.openai.response import completion_document
from tests.support.json_mutation import mutate
from tests.support.openai_documents import answers, chunks

MESSAGE: dict[str, Any] = {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []}
USUAL: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": MESSAGE,
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


def is_read_alike(data: bytes) -> bool:
    """Whether an answer is read in one pass: if so, as field by field, and written as the bridge writes what was read.

    The field by field reader takes what the house's usual JSON reader has read, which knows what is valid.
    """
    answer = plain_answer(data)
    if answer is None:
        return False
    event = answer.event()
    assert event == chunk(orjson.loads(data)), data
    assert answer.said() == said_of([event]), data
    assert orjson.loads(answer.json()) == orjson.loads(orjson.dumps(completion_document(fold([event])))), data
    return True


def test_a_usual_answer_is_read_and_written_in_one_pass() -> None:
    answer = plain_answer(orjson.dumps(USUAL))
    assert answer is not None
    event = answer.event()
    assert event == chunk(USUAL)
    assert event.choices[0].delta.content == "Hello"
    assert event.usage.total_tokens == 10
    assert answer.json() == orjson.dumps(completion_document(fold([event])))


@pytest.mark.parametrize(
    "change",
    [
        {"usage": None},
        {"usage": {**USUAL["usage"], "prompt_tokens_details": None}},
        {"usage": {**USUAL["usage"], "prompt_tokens_details": {}}},
        {"usage": {**USUAL["usage"], "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": 0}}},
        {"usage": {**USUAL["usage"], "completion_tokens_details": dict.fromkeys(("reasoning_tokens", "text_tokens"))}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 10**9, "total_tokens": 1}},
        {"service_tier": None, "system_fingerprint": ""},
        {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "a word of the host's own"}]},
        {"choices": [{**USUAL["choices"][0], "message": {**MESSAGE, "annotations": None, "tool_calls": []}}]},
        {"choices": [{**USUAL["choices"][0], "message": {**MESSAGE, "tool_calls": None}}]},
        {"choices": [{**USUAL["choices"][0], "message": {**MESSAGE, "content": "\x00\x1f\x7f\u2028\ud83d\ude00 </é"}}]},
    ],
)
def test_an_answer_that_tells_less_or_more_is_read_in_one_pass(change: dict[str, Any]) -> None:
    assert is_read_alike(json.dumps({**USUAL, **change}).encode())


@pytest.mark.parametrize("number", [-1, 10**9 + 1, 2**63 - 1, -(2**63)])
def test_numbers_of_tokens_that_cannot_be_meant_are_not_read_in_one_pass(number: int) -> None:
    assert not is_read_alike(orjson.dumps({**USUAL, "usage": {**USUAL["usage"], "completion_tokens": number}}))


@pytest.mark.parametrize("seed", range(20))
def test_answers_to_which_something_was_done_are_read_as_field_by_field_or_not_in_one_pass(seed: int) -> None:
    random = Random(seed)
    read = 0
    for _ in range(200):
        document = copy.deepcopy(USUAL)
        for _ in range(random.randint(1, 2)):
            mutate(document, random)
        read += is_read_alike(json.dumps(document).encode())
    assert read


@given(answers | st.just(USUAL))
@settings(deadline=None)
def test_documented_answers_are_read_as_field_by_field_or_not_in_one_pass(document: dict[str, Any]) -> None:
    is_read_alike(orjson.dumps(document))


ODD_TEXTS = (
    b",", b"null", b"-0", b"1.0", b"1e3", b"01", b"NaN", b"Infinity", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551616", b"true", b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b"\x00", b"\xff", b"\xc3", b"\n", b"\t ",
    b"\xef\xbb\xbf", b"{}", b"[]", b"}", b"]", b'"', b"\\", b"/*a*/", b'"id":"b",', b'"usage":null,', b'"role":"user",',
    b'"prompt_tokens":1,', b'"prompt_tokens":"1",', b'"choices":[],', b'"finish_reason":"error",', b'"\\u0069d":"b",',
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_texts_to_which_something_was_done_are_read_alike_or_not_in_one_pass(seed: int) -> None:
    random = Random(seed)
    text, read = orjson.dumps(USUAL), 0
    for _ in range(400):
        start = random.randrange(len(text) + 1)
        end = min(start + random.choice((0, 0, 1, 2, 5)), len(text))
        if random.random() < 0.5:  # where a value begins, or a name
            start = random.choice([place for place in range(1, len(text)) if text[place - 1] in b":{,["])
            end = random.choice((start, max(start, text.find(b",", start))))
        read += is_read_alike(text[:start] + random.choice(ODD_TEXTS) + text[end:])
    assert read


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b"{}", orjson.dumps(USUAL) + b"x", orjson.dumps(USUAL)[:-1],
        orjson.dumps(USUAL).replace(b"Hello", b"\xff"), orjson.dumps(USUAL).replace(b"Hello", b"\xed\xa0\x80"),
        orjson.dumps(USUAL).replace(b"Hello", b"\\ud800"), orjson.dumps(USUAL).replace(b"Hello", b"\n"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_answer_is_not_read(text: bytes) -> None:
    assert plain_answer(text) is None


def test_of_a_name_that_comes_twice_the_last_counts_as_everywhere() -> None:
    text = orjson.dumps(USUAL)[:-1] + b', "id": "last", "id": "the very last"}'
    answer = plain_answer(text)
    assert answer is not None
    assert answer.id == orjson.loads(text)["id"] == "the very last"
    assert is_read_alike(text)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"created": 0},
        {"created": 2**63},
        {"model": ""},
        {"model": None},
        {"usage": {"prompt_tokens": 1}},
        {"usage": {**USUAL["usage"], "total_tokens": 2**63}},
        {"usage": {**USUAL["usage"], "cost_usd": "1"}},
        {"choices": []},
        {"choices": USUAL["choices"] * 2},
        {"choices": [{**USUAL["choices"][0], "index": 1}]},
        {"choices": [{**USUAL["choices"][0], "finish_reason": "error"}]},
        {"choices": [{**USUAL["choices"][0], "finish_reason": None}]},
        {"choices": [{"index": 0, "finish_reason": "stop"}]},
        {"error": None},
        {"unknown": 1},
    ],
)
def test_what_needs_a_second_look_is_left_to_the_other_reader(change: dict[str, Any]) -> None:
    assert plain_answer(orjson.dumps({**USUAL, **change})) is None


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
