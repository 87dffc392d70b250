"""Requests that are read in one pass are read as those that are read field by field."""

import math
from typing import Any

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from rest_bridge.body import Fields, InvalidBody
from rest_bridge.dialects.openai.message import chat_message
from rest_bridge.dialects.openai.plain import plain_message, put_plain_spec
from rest_bridge.dialects.openai.request import any_spec
from rest_bridge.dialects.openai.scalar import SCALARS
from tests.support.openai_documents import documented_requests, json_values, requests

HELLO = {"role": "user", "content": "Hello"}

odd: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2,
        -1,
        -2,
        128,
        2**31,
        2**63,
        10**400,
        0.5,
        -0.0,
        1.0,
        2.5,
        "",
        "x",
        "ü",
        "\ud800",
        [],
        {},
    ]
)
texts = st.text(max_size=5) | odd
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"]) | odd, "content": texts},
        optional={"name": texts},
    )
    | json_values,
    max_size=3,
)
bodies = st.fixed_dictionaries(
    {"model": st.just("tiny") | odd, "messages": st.just([HELLO]) | messages | odd},
    optional={
        **{name: odd | st.floats(-2, 2) for name in SCALARS},
        "stream": st.booleans() | odd,
        "stream_options": st.fixed_dictionaries({"include_usage": st.booleans() | odd}) | json_values,
        "stop": texts,
        "unknown": json_values,
    },
)


def plain_spec(body: Any) -> ChatCompletionSpec | None:
    spec = ChatCompletionSpec()
    return spec if put_plain_spec(body, spec) else None


@settings(max_examples=500)
@given(body=bodies | requests | documented_requests)
def test_what_is_read_in_one_pass_is_what_is_read_field_by_field(body: dict[str, Any]) -> None:
    spec = plain_spec(body)
    if spec is not None:
        assert spec == any_spec(body)


@settings(max_examples=300)
@given(document=messages)
def test_a_message_is_the_same_to_all_three_readers(document: list[Any]) -> None:
    for each in document:
        plain = plain_message(each)
        spec = plain_spec({"model": "tiny", "messages": [each]})
        assert (plain is None) == (spec is None)
        if plain is not None and spec is not None:
            assert spec.messages[0] == plain == chat_message(Fields(each, "messages[0]"))


def test_the_bounds_of_each_option_are_those_of_the_other_reader() -> None:
    for name, scalar in SCALARS.items():
        values: list[Any] = [scalar.low, scalar.high, "x", True]
        values += [kind(each) for each in (0, 1, 2**31, 2**63, -1, 10**400, -(10**400)) for kind in (int, str)]
        values += [each for bound in values[:2] if abs(bound) < math.inf for each in (bound + 1, bound - 1, -bound)]
        values += [math.nextafter(bound, way) for bound in values[:2] for way in (-math.inf, math.inf)]
        for value in values:
            body = {"model": "tiny", "messages": [HELLO], name: value}
            try:
                expected = any_spec(body)
            except InvalidBody:
                expected = None
            assert plain_spec(body) == expected, (name, value)


def test_the_usual_request_is_read_in_one_pass() -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be nice."}, HELLO],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1,
        "max_tokens": 100,
        "user": None,
        **{name: next(iter(scalar.types))(1) for name, scalar in SCALARS.items()},
    }
    spec = plain_spec(body)
    assert spec is not None
    assert spec == any_spec(body)
    assert [message.text for message in spec.messages] == ["Be nice.", "Hello"]
    assert spec.stream_options.include_usage


@pytest.mark.parametrize(
    "message",
    [
        {**HELLO, "name": "me"},
        {"role": "user"},
        {"role": "nobody", "content": "x"},
        {"role": ["user"], "content": "x"},
        {"role": "user", "content": "\ud800"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None},
        "Hello",
    ],
)
def test_a_message_of_another_shape_is_left_to_the_other_reader(message: Any) -> None:
    assert plain_message(message) is None
    assert plain_spec({"model": "tiny", "messages": [HELLO, message]}) is None
