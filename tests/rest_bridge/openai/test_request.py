"""Requests in OpenAI's JSON: what is accepted, and what is refused, and where."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from headgate.v1 import message_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.openai.request import chat_completion_spec, includes_usage, is_stream
from tests.support.openai_documents import json_values, requests

USER = {"role": "user", "content": "Hi"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [USER], **fields}


def asking(message: Any) -> dict[str, Any]:
    return body(messages=[USER, message])


def part(document: Any) -> dict[str, Any]:
    return asking({"role": "user", "content": [document]})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": "small"}, "messages"),
    (body(model=""), "model"),
    (body(model=7), "model"),
    (body(model=None), "model"),
    (body(model=["small"]), "model"),
    (body(messages=None), "messages"),
    (body(messages=[]), "messages"),
    (body(messages="Hi"), "messages"),
    (body(messages={"role": "user"}), "messages"),
    (body(messages=["Hi"]), "messages[0]"),
    (body(messages=[None]), "messages[0]"),
    (body(messages=[USER, {"content": "Hi"}]), "messages[1].role"),
    (asking({"role": "robot", "content": "Hi"}), "messages[1].role"),
    (asking({"role": 1, "content": "Hi"}), "messages[1].role"),
    (asking({"role": "user"}), "messages[1].content"),
    (asking({"role": "user", "content": None}), "messages[1].content"),
    (asking({"role": "user", "content": 1}), "messages[1].content"),
    (asking({"role": "user", "content": {"type": "text", "text": "Hi"}}), "messages[1].content"),
    (asking({"role": "user", "content": "\ud800"}), "messages[1].content"),
    (asking({"role": "user", "content": "Hi", "name": 1}), "messages[1].name"),
    (asking({"role": "tool", "content": "1", "tool_call_id": 1}), "messages[1].tool_call_id"),
    (asking({"role": "assistant", "tool_calls": {}}), "messages[1].tool_calls"),
    (asking({"role": "assistant", "tool_calls": [1]}), "messages[1].tool_calls[0]"),
    (asking({"role": "assistant", "tool_calls": [{}]}), "messages[1].tool_calls[0].type"),
    (asking({"role": "assistant", "tool_calls": [{"type": "function"}]}), "messages[1].tool_calls[0].function"),
    (
        asking({"role": "assistant", "tool_calls": [{"type": "function", "function": {}}]}),
        "messages[1].tool_calls[0].function.name",
    ),
    (
        asking({"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}),
        "messages[1].tool_calls[0].function.arguments",
    ),
    (asking({"role": "assistant", "function_call": "f"}), "messages[1].function_call"),
    (asking({"role": "assistant", "audio": {"id": 1}}), "messages[1].audio.id"),
    (asking({"role": "assistant", "reasoning_content": 1}), "messages[1].reasoning_content"),
    (
        asking({"role": "assistant", "reasoning_details": [{"type": "t", "index": 2**31}]}),
        "messages[1].reasoning_details[0].index",
    ),
    (part("Hi"), "messages[1].content[0]"),
    (part({"text": "Hi"}), "messages[1].content[0].type"),
    (part({"type": 1}), "messages[1].content[0].type"),
    (part({"type": "text"}), "messages[1].content[0].text"),
    (part({"type": "text", "text": ["Hi"]}), "messages[1].content[0].text"),
    (part({"type": "image_url", "image_url": "https://example.com"}), "messages[1].content[0].image_url"),
    (part({"type": "image_url", "image_url": {"url": 7}}), "messages[1].content[0].image_url.url"),
    (part({"type": "image_url", "image_url": {"url": "u", "detail": 1}}), "messages[1].content[0].image_url.detail"),
    (part({"type": "input_audio", "input_audio": {}}), "messages[1].content[0].input_audio.data"),
    (part({"type": "file", "file": []}), "messages[1].content[0].file"),
    (
        part({"type": "text", "text": "Hi", "prompt_cache_breakpoint": {}}),
        "messages[1].content[0].prompt_cache_breakpoint.mode",
    ),
    (body(temperature="hot"), "temperature"),
    (body(temperature=True), "temperature"),
    (body(temperature=-0.1), "temperature"),
    (body(temperature=float("nan")), "temperature"),
    (body(temperature=10**400), "temperature"),
    (body(top_p=-0.1), "top_p"),
    (body(top_p=float("inf")), "top_p"),
    (body(min_p=2), "min_p"),
    (body(n=0), "n"),
    (body(n=1.0), "n"),
    (body(n=True), "n"),
    (body(n=129), "n"),
    (body(seed=2**63), "seed"),
    (body(seed=10**5000), "seed"),
    (body(seed=1.5), "seed"),
    (body(top_k=2**31), "top_k"),
    (body(max_tokens=-2), "max_tokens"),
    (body(max_tokens="10"), "max_tokens"),
    (body(max_completion_tokens=-2), "max_completion_tokens"),
    (body(presence_penalty="x"), "presence_penalty"),
    (body(frequency_penalty=True), "frequency_penalty"),
    (body(top_logprobs=-1), "top_logprobs"),
    (body(logprobs=1), "logprobs"),
    (body(logit_bias=[1]), "logit_bias"),
    (body(logit_bias={"1": "x"}), "logit_bias.1"),
    (body(logit_bias={"1": 101}), "logit_bias.1"),
    (body(stop=1), "stop"),
    (body(stop=["a", 1]), "stop[1]"),
    (body(metadata={"a": 1}), "metadata.a"),
    (body(metadata="a"), "metadata"),
    (body(user=1), "user"),
    (body(store="yes"), "store"),
    (body(modalities="audio"), "modalities"),
    (body(audio={"voice": 1, "format": "wav"}), "audio.voice"),
    (body(audio={"voice": {}, "format": "wav"}), "audio.voice.id"),
    (body(prediction={"type": "content"}), "prediction.content"),
    (body(prediction={"type": "content", "content": [{"type": "text"}]}), "prediction.content[0].text"),
    (body(response_format="json"), "response_format"),
    (body(response_format={}), "response_format.type"),
    (body(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (body(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name"),
    (
        body(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": []}}),
        "response_format.json_schema.schema",
    ),
    (body(tools={}), "tools"),
    (body(tools=["f"]), "tools[0]"),
    (body(tools=[{}]), "tools[0].type"),
    (body(tools=[{"type": "function"}]), "tools[0].function"),
    (body(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    (
        body(tools=[{"type": "function", "function": {"name": "f", "parameters": "{}"}}]),
        "tools[0].function.parameters",
    ),
    (body(tools=[{"type": "function", "function": {"name": "f", "strict": 1}}]), "tools[0].function.strict"),
    (
        body(tools=[{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "grammar": {}}}}]),
        "tools[0].custom.format.grammar.definition",
    ),
    (body(tool_choice=1), "tool_choice"),
    (body(tool_choice={}), "tool_choice.type"),
    (body(tool_choice={"type": "function"}), "tool_choice.function"),
    (body(tool_choice={"type": "function", "function": {}}), "tool_choice.function.name"),
    (
        body(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ["f"]}}),
        "tool_choice.allowed_tools.tools[0]",
    ),
    (body(functions=[{}]), "functions[0].name"),
    (body(function_call=1), "function_call"),
    (body(function_call={}), "function_call.name"),
    (body(parallel_tool_calls="no"), "parallel_tool_calls"),
    (body(stream_options=1), "stream_options"),
    (body(stream_options={"include_usage": 1}), "stream_options.include_usage"),
    (body(web_search_options={"user_location": {"approximate": {}}}), "web_search_options.user_location.type"),
    (body(moderation={}), "moderation.model"),
    (body(moderation={"model": "m", "policy": {"input": {}}}), "moderation.policy.input.mode"),
    (body(prefill=1), "prefill"),
    (body(x_vendor=2**64), "x_vendor"),
    (body(x_vendor="\udfff"), "x_vendor"),
    (body(**{"\udfff": 1}), ""),
    ({"model": "small", "prompt": 1}, "prompt"),
]


@pytest.mark.parametrize(("document", "param"), REFUSED, ids=range(len(REFUSED)))
def test_a_wrong_body_is_refused_with_the_path_of_what_is_wrong(document: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        chat_completion_spec(document)
    assert refused.value.param == param
    assert param in refused.value.message


@pytest.mark.parametrize("document", [None, [], "Hi", 1, True], ids=str)
def test_a_body_that_is_no_object_is_refused(document: Any) -> None:
    with pytest.raises(InvalidBody, match="expected an object"):
        chat_completion_spec(document)


def test_a_message_that_quotes_the_body_is_short() -> None:
    with pytest.raises(InvalidBody) as refused:
        chat_completion_spec(body(metadata={"k" * 100_000: 1}))
    assert len(refused.value.message) < 600
    assert len(refused.value.param) < 600


def test_what_is_nested_too_deeply_to_carry_is_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"a": nested}
    with pytest.raises(InvalidBody) as refused:
        chat_completion_spec(body(x_vendor=nested))
    assert refused.value.param == "x_vendor"


def test_a_prompt_is_one_user_message() -> None:
    spec = chat_completion_spec({"model": "small", "prompt": "Hi"})
    assert spec.messages == [message_pb2.ChatMessage(role=message_pb2.ROLE_USER, text="Hi")]


def test_a_prompt_beside_messages_is_an_unknown_field() -> None:
    assert orjson.loads(chat_completion_spec(body(prompt="Ho")).extra_json) == {"prompt": "Ho"}


def test_text_and_parts_are_kept_apart() -> None:
    as_text, as_parts = chat_completion_spec(
        body(messages=[USER, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    ).messages
    assert as_text.WhichOneof("content") == "text"
    assert as_parts.WhichOneof("content") == "parts"


def test_a_part_of_an_unknown_type_is_carried_whole() -> None:
    document = {"type": "hologram", "hologram": {"url": "u"}, "prompt_cache_breakpoint": {"mode": "explicit"}}
    spec = chat_completion_spec(part(document))
    assert orjson.loads(spec.messages[1].parts.parts[0].other_json) == document


@pytest.mark.parametrize("word", ["reasoning", "reasoning_content"])
def test_both_words_for_reasoning_are_accepted(word: str) -> None:
    message = chat_completion_spec(asking({"role": "assistant", "content": "4", word: "2+2"})).messages[1]
    assert message.reasoning == "2+2"
    assert message.extra_json == ""


def test_a_vendors_null_is_carried() -> None:
    assert chat_completion_spec(body(guided_json=None)).extra_json == '{"guided_json":null}'


def test_prefill_is_headgates_own() -> None:
    assert chat_completion_spec(body(prefill="Once")).prefill == "Once"


@pytest.mark.parametrize(("value", "found"), [(True, True), (False, False), (None, False)])
def test_stream_is_a_boolean_or_absent(value: bool | None, found: bool) -> None:
    assert is_stream(body(stream=value)) is found
    assert is_stream(body()) is False


@pytest.mark.parametrize("value", [1, "true", []])
def test_a_stream_that_is_no_boolean_is_refused(value: Any) -> None:
    with pytest.raises(InvalidBody) as refused:
        is_stream(body(stream=value))
    assert refused.value.param == "stream"


def test_usage_is_asked_for_by_the_options_of_the_stream() -> None:
    assert includes_usage(body(stream_options={"include_usage": True}))
    assert not includes_usage(body(stream_options={}))
    assert not includes_usage(body())


def paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    keys = document.keys() if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    return [path, *(found for key in keys for found in paths(document[key], (*path, key)))]


@given(requests, st.data())
@settings(deadline=None, max_examples=300)
def test_a_request_with_any_value_in_any_place_is_taken_or_refused(document: Any, data: st.DataObject) -> None:
    document = orjson.loads(orjson.dumps(document))
    *way, last = data.draw(st.sampled_from(paths(document)[1:]))
    inner = document
    for step in way:
        inner = inner[step]
    inner[last] = data.draw(json_values)
    with suppress(InvalidBody):
        chat_completion_spec(document).SerializeToString()
