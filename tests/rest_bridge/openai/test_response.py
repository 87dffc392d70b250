"""Answers in OpenAI's JSON: the forms of a stream, and of a list of models."""

from typing import Any

import orjson
import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletion, ChatCompletionChunk, ChunkChoice
from headgate.v1.message_pb2 import FunctionCall, ToolCall
from headgate.v1.model_pb2 import Model, ModelPrice
from headgate.v1.token_usage_pb2 import TokenUsage

from rest_bridge.dialects.openai.answer import priced, usage
from rest_bridge.dialects.openai.response import ChunkWriter, completion_document, model_document, models_document

USAGE = TokenUsage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
USAGE_DOCUMENT = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(*choices: ChunkChoice, **fields: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk(id="chatcmpl-1", created=1, model="tiny", choices=choices, **fields)


def piece(content: str | None = None, *, index: int = 0, finish: str | None = None, **delta: Any) -> ChunkChoice:
    return ChunkChoice(index=index, delta=AnswerMessage(content=content, **delta), finish_reason=finish)


def written(writer: ChunkWriter, *chunks: ChatCompletionChunk) -> list[dict[str, Any]]:
    return [document for each in chunks for document in writer.write(each)] + writer.finish()


def deltas(documents: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    return [choice["delta"] for document in documents for choice in document["choices"] if choice["index"] == index]


def test_the_role_is_in_the_first_delta_of_each_choice_and_nowhere_else() -> None:
    documents = written(
        ChunkWriter(False),
        chunk(piece("", role=4)),
        chunk(piece("a", role=4), piece("b", index=1)),
        chunk(piece("c", role=4), piece("d", index=1)),
        chunk(piece(finish="stop"), piece(finish="stop", index=1)),
    )
    for index, later in ((0, 3), (1, 2)):
        assert [delta.get("role") for delta in deltas(documents, index)] == ["assistant"] + [None] * later


@pytest.mark.parametrize("silent", [piece(""), piece(), ChunkChoice(extra_json='{"stop_reason":null}'), ChunkChoice()])
def test_the_first_chunk_of_each_choice_is_sent_though_it_says_nothing(silent: ChunkChoice) -> None:
    writer = ChunkWriter(False)
    (document,) = writer.write(chunk(silent, extra_json='{"obfuscation":"abc"}'))
    assert [choice["delta"] for choice in document["choices"]] == [{"role": "assistant", "content": ""}]
    (document,) = writer.write(chunk(piece("", index=1), piece("")))
    assert [(choice["index"], choice["delta"]) for choice in document["choices"]] == [
        (1, {"role": "assistant", "content": ""})
    ]


def test_a_later_chunk_that_says_nothing_is_left_out() -> None:
    writer = ChunkWriter(False)
    assert writer.write(chunk()) == []
    assert len(writer.write(chunk(piece("")))) == 1
    assert writer.write(chunk(piece(""))) == []
    assert writer.write(chunk(ChunkChoice(extra_json='{"stop_reason":null}'))) == []
    assert writer.write(chunk(piece(""), extra_json='{"obfuscation":"abc"}')) == []
    assert writer.write(chunk()) == []


def test_an_answer_that_says_nothing_has_an_empty_text() -> None:
    first, last = written(ChunkWriter(False), chunk(piece("")), chunk(piece(finish="stop")))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["delta"] == {}


def test_the_usage_that_was_asked_for_is_in_a_last_chunk_without_choices() -> None:
    documents = written(ChunkWriter(True), chunk(piece("a")), chunk(piece(finish="stop")), chunk(usage=USAGE))
    assert [document["usage"] for document in documents] == [None, None, USAGE_DOCUMENT]
    assert documents[-1]["choices"] == []
    assert documents[-1]["id"] == "chatcmpl-1"


def test_the_usage_in_the_finish_chunk_of_the_provider_is_moved_to_a_last_chunk() -> None:
    documents = written(ChunkWriter(True), chunk(piece("a")), chunk(piece(finish="stop"), usage=USAGE))
    assert [document["usage"] for document in documents] == [None, None, USAGE_DOCUMENT]
    assert [len(document["choices"]) for document in documents] == [1, 1, 0]


@pytest.mark.parametrize("apart", [True, False])
def test_without_a_wish_the_finish_chunk_has_the_usage(apart: bool) -> None:
    finish = [chunk(piece(finish="stop")), chunk(usage=USAGE)] if apart else [chunk(piece(finish="stop"), usage=USAGE)]
    documents = written(ChunkWriter(False), chunk(piece("a")), *finish)
    assert [document.get("usage") for document in documents] == [None, USAGE_DOCUMENT]
    assert "usage" not in documents[0]
    assert documents[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_last_usage_counts() -> None:
    early = TokenUsage(prompt_tokens=3, completion_tokens=1, total_tokens=4)
    documents = written(
        ChunkWriter(True), chunk(piece("a"), usage=early), chunk(piece(finish="stop")), chunk(usage=USAGE)
    )
    assert [document["usage"] for document in documents] == [None, None, USAGE_DOCUMENT]


@pytest.mark.parametrize("include_usage", [True, False])
def test_usage_that_nobody_told_is_not_made_up(include_usage: bool) -> None:
    documents = written(ChunkWriter(include_usage), chunk(piece("a")), chunk(piece(finish="stop")))
    assert len(documents) == 2
    assert all(document.get("usage") is None for document in documents)


def test_only_the_last_of_several_finish_chunks_is_held_back() -> None:
    writer = ChunkWriter(False)
    assert writer.write(chunk(piece(finish="stop"))) == []
    assert len(writer.write(chunk(piece("b", index=1)))) == 1
    (first,) = writer.write(chunk(piece(finish="length", index=1)))
    assert first["choices"][0]["finish_reason"] == "stop"
    assert writer.write(chunk(usage=USAGE)) == []
    (last,) = writer.finish()
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"] == USAGE_DOCUMENT


def test_usage_without_a_finish_chunk_still_reaches_the_caller() -> None:
    documents = written(ChunkWriter(False), chunk(piece("a")), chunk(usage=USAGE))
    assert documents[-1]["choices"] == []
    assert documents[-1]["usage"] == USAGE_DOCUMENT


def test_unknown_fields_beside_the_usage_reach_the_caller() -> None:
    documents = written(ChunkWriter(False), chunk(piece("a", finish="stop")), chunk(usage=USAGE, extra_json='{"x":1}'))
    assert documents[-1]["x"] == 1
    assert documents[-1]["usage"] == USAGE_DOCUMENT


def test_a_chunk_of_unknown_fields_is_forwarded_before_the_finish_chunk() -> None:
    writer = ChunkWriter(False)
    assert writer.write(chunk(piece(finish="stop"))) == []
    (document,) = writer.write(chunk(extra_json='{"servertool":{"name":"web_search"}}'))
    assert document["servertool"] == {"name": "web_search"}
    assert len(writer.finish()) == 1


def test_what_is_said_with_the_finish_reason_is_sent_at_once() -> None:
    writer = ChunkWriter(False)
    (said,) = writer.write(chunk(piece("a", finish="stop")))
    assert said["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": "a"}, "logprobs": None, "finish_reason": None}
    ]
    (later,) = writer.write(chunk(piece("b")))
    assert later["choices"][0]["delta"] == {"content": "b"}
    (ended,) = writer.finish()
    assert ended["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]


def test_a_choice_that_goes_on_is_not_held_with_one_that_ends() -> None:
    writer = ChunkWriter(False)
    (said,) = writer.write(chunk(piece("a", finish="stop"), piece("x", index=1)))
    assert [(choice["index"], choice["finish_reason"]) for choice in said["choices"]] == [(0, None), (1, None)]
    (ended,) = writer.finish()
    assert [(choice["index"], choice["finish_reason"]) for choice in ended["choices"]] == [(0, "stop")]


def test_reasoning_is_written_under_both_words() -> None:
    (document,) = ChunkWriter(False).write(chunk(piece(reasoning="Hm")))
    assert document["choices"][0]["delta"] == {"role": "assistant", "reasoning": "Hm", "reasoning_content": "Hm"}


def test_the_first_delta_of_a_tool_call_has_its_type_and_all_have_its_index() -> None:
    def call(index: int, arguments: str, **fields: Any) -> ToolCall:
        return ToolCall(index=index, function=FunctionCall(arguments=arguments), **fields)

    documents = written(
        ChunkWriter(False),
        chunk(piece(tool_calls=[call(1, "", id="call_1")])),
        chunk(piece(tool_calls=[call(1, "{"), call(0, "{}", id="call_0")])),
    )
    assert [delta["tool_calls"] for delta in deltas(documents)] == [
        [{"index": 1, "id": "call_1", "type": "function", "function": {"arguments": ""}}],
        [
            {"index": 1, "function": {"arguments": "{"}},
            {"index": 0, "id": "call_0", "type": "function", "function": {"arguments": "{}"}},
        ],
    ]


def test_a_vendors_field_replaces_null_but_nothing_else() -> None:
    choice = piece("a")
    choice.extra_json = '{"logprobs":{"tokens":[1]},"index":7}'
    (document,) = ChunkWriter(False).write(chunk(choice, extra_json='{"object":"x","y":1}'))
    assert document["object"] == "chat.completion.chunk"
    assert document["y"] == 1
    assert document["choices"][0]["index"] == 0
    assert document["choices"][0]["logprobs"] == {"tokens": [1]}


def test_the_model_is_named_where_the_provider_names_none() -> None:
    (document,) = ChunkWriter(False, "small").write(ChatCompletionChunk(choices=[piece("a")]))
    assert document["model"] == "small"


def test_a_whole_answer_has_openais_form_even_where_nothing_is_said() -> None:
    completion = ChatCompletion(id="chatcmpl-1", created=1, model="tiny")
    completion.choices.add(finish_reason="stop").message.SetInParent()
    assert completion_document(completion) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }


def test_models_are_listed_in_openais_form() -> None:
    model = Model(id="lab/tiny", created=1, owned_by="lab", extra_json='{"context_window":8192,"id":"x"}')
    document = {"id": "lab/tiny", "object": "model", "created": 1, "owned_by": "lab", "context_window": 8192}
    assert model_document(model) == document
    assert models_document([model]) == {"object": "list", "data": [document]}


def test_what_is_known_of_a_model_stands_under_openrouters_names_and_counts_more_than_the_providers_word() -> None:
    price = ModelPrice(input_per_million="0.15", output_per_million="12", cached_input_per_million="0")
    extra_json = '{"context_length":1,"pricing":{"prompt":"9"},"name":"Tiny"}'
    document = model_document(Model(id="small", context_length=128_000, price=price, extra_json=extra_json))
    assert document["context_length"] == 128_000
    assert document["pricing"] == {"prompt": "0.00000015", "completion": "0.000012", "input_cache_read": "0"}
    assert document["name"] == "Tiny"


def test_a_providers_own_prices_are_carried_where_none_are_known() -> None:
    document = model_document(Model(id="lab/tiny", extra_json='{"context_length":1,"pricing":{"prompt":"9"}}'))
    assert (document["context_length"], document["pricing"]) == (1, {"prompt": "9"})


@pytest.mark.parametrize("cost", ["0", "12", "0.000000000001", "1234567.123456789012", "-0.5"])
def test_a_cost_is_a_number_of_exactly_these_digits(cost: str) -> None:
    used = TokenUsage(prompt_tokens=3, cost_usd=cost, extra_json='{"cost":7,"is_byok":false}')
    written = orjson.dumps(usage(used))
    assert f'"cost":{cost},"is_byok":false}}'.encode() in written
    assert orjson.loads(written)["cost"] == float(cost)


def test_without_a_cost_the_usage_has_none() -> None:
    assert "cost" not in usage(TokenUsage(prompt_tokens=3))


def test_an_answer_that_came_as_json_gets_its_cost() -> None:
    text = '","usage":{"prompt_tokens":9}'
    document = {"choices": [text], "usage": {"prompt_tokens": 3}, "service_tier": text}
    body = priced(orjson.dumps(document), "0.000000000001")
    assert b'"usage":{"cost":0.000000000001,"prompt_tokens":3}' in body
    assert orjson.loads(body) == {**document, "usage": {"prompt_tokens": 3, "cost": 1e-12}}


@pytest.mark.parametrize("cost", ["", "NaN", "1,"])
def test_an_answer_that_came_as_json_stays_as_it_is_where_no_cost_is_told(cost: str) -> None:
    body = b'{"usage":{"prompt_tokens":3}}'
    assert priced(body, cost) == body
    assert priced(b"{}", "1") == b"{}"
