"""What answers and models become in Ollama's JSON, beside the golden files."""

from datetime import UTC, datetime

import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice
from headgate.v1.message_pb2 import CustomToolCall, FunctionCall, ToolCall
from headgate.v1.model_pb2 import Model, ModelTarget
from ollama import ChatResponse, GenerateResponse, ListResponse, ShowResponse

from rest_bridge.dialects.ollama.model import model_entry, show_document
from rest_bridge.dialects.ollama.response import (
    ChatWriter,
    GenerateWriter,
    Timing,
    UnreadableToolCall,
    completion_document,
    timestamp,
)

NOW_NS = 1_764_000_000_000_000_001
TIMING = Timing(total_ns=10, first_ns=4)


def chunk(delta: AnswerMessage, finish_reason: str | None = None) -> ChatCompletionChunk:
    return ChatCompletionChunk(choices=[ChunkChoice(delta=delta, finish_reason=finish_reason)])


def calling(arguments: str) -> AnswerMessage:
    return AnswerMessage(tool_calls=[ToolCall(id="call_1", function=FunctionCall(name="f", arguments=arguments))])


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "null", "nonsense", '{"a": NaN}'])
def test_arguments_that_are_no_object_end_the_answer_with_an_error(arguments: str) -> None:
    writer = ChatWriter("small")
    assert writer.write(chunk(calling(arguments), "tool_calls"), NOW_NS) == []
    with pytest.raises(UnreadableToolCall, match="'f'"):
        writer.finish(TIMING, NOW_NS)


def test_a_custom_tool_call_ends_the_answer_with_an_error() -> None:
    writer = ChatWriter("small")
    writer.write(chunk(AnswerMessage(tool_calls=[ToolCall(custom=CustomToolCall(name="g", input="x"))])), NOW_NS)
    with pytest.raises(UnreadableToolCall, match="'g'"):
        writer.finish(TIMING, NOW_NS)


def test_the_last_line_alone_is_done() -> None:
    writer = ChatWriter("small")
    lines = [
        *writer.write(chunk(AnswerMessage(content="a")), NOW_NS),
        *writer.write(chunk(calling("{}"), "tool_calls"), NOW_NS),
    ]
    lines += writer.finish(TIMING, NOW_NS)
    assert [line["done"] for line in lines] == [False, False, True]
    assert lines[-1]["done_reason"] == "stop"


def test_without_usage_there_are_no_counts() -> None:
    last = ChatWriter("small").finish(TIMING, NOW_NS)[-1]
    assert "eval_count" not in last
    assert "prompt_eval_count" not in last


def test_an_answer_that_came_at_once_counts_its_whole_time() -> None:
    choices = [Choice(message=AnswerMessage(content="a"), finish_reason="stop")]
    document = completion_document(ChatWriter("small"), ChatCompletion(choices=choices), Timing(10), NOW_NS)
    assert document["eval_duration"] == document["total_duration"] == 10
    assert "prompt_eval_duration" not in document


def test_the_model_is_the_one_that_was_asked_for() -> None:
    answered = ChatCompletionChunk(model="tiny-2026-01-01", choices=[ChunkChoice(delta=AnswerMessage(content="a"))])
    assert ChatWriter("small").write(answered, NOW_NS)[0]["model"] == "small"


def test_loading_says_nothing_and_is_done() -> None:
    line = GenerateWriter("small").loaded("load", NOW_NS)
    assert (line["response"], line["done"], line["done_reason"]) == ("", True, "load")


def test_the_sdk_reads_the_lines() -> None:
    chat, generate = ChatWriter("small"), GenerateWriter("small")
    for event in (chunk(AnswerMessage(content="a", reasoning="b")), chunk(calling('{"x": 1}'), "tool_calls")):
        for line in chat.write(event, NOW_NS):
            ChatResponse(**line)
        for line in generate.write(event, NOW_NS):
            GenerateResponse(**line)
    called, last = (ChatResponse(**line) for line in chat.finish(TIMING, NOW_NS))
    assert called.message.tool_calls
    assert called.message.tool_calls[0].function.arguments == {"x": 1}
    assert last.total_duration == 10


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (NOW_NS, "2025-11-24T16:00:00.000000001Z"),
        (999_999_999, "1970-01-01T00:00:00.999999999Z"),
    ],
)
def test_a_time_has_nine_digits_of_a_second(ns: int, text: str) -> None:
    assert timestamp(ns) == text


def test_the_sdk_reads_a_model() -> None:
    model = Model(
        id="small", created=1_700_000_000, owned_by="lab", context_length=8192, input_modalities=["text", "image"]
    )
    listed = ListResponse.model_validate({"models": [model_entry(model)]}).models[0]
    assert (listed.model, listed.size) == ("small", 0)
    assert listed.modified_at == datetime.fromtimestamp(1_700_000_000, UTC)
    shown = ShowResponse(**show_document(model))
    assert shown.capabilities == ["completion", "tools", "vision"]
    assert shown.modelinfo
    assert shown.modelinfo[f"{shown.modelinfo['general.architecture']}.context_length"] == 8192


def test_an_entry_tells_models_apart_and_stays_the_same() -> None:
    first, again, other = (model_entry(Model(id=name)) for name in ("a", "a", "b"))
    assert first == again
    assert first["digest"] != other["digest"]
    assert len(first["digest"]) == 64


@pytest.mark.parametrize("created", [-1, 0, 2**62])
def test_a_time_that_makes_no_sense_is_not_told(created: int) -> None:
    assert model_entry(Model(id="a", created=created))["modified_at"].startswith("1970-01-01")


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("", {"completion", "tools"}),
        ('{"supported_parameters": ["temperature"]}', {"completion"}),
        ('{"supported_parameters": ["tools", "reasoning"]}', {"completion", "tools", "thinking"}),
        ('{"supported_parameters": 7}', {"completion", "tools"}),
    ],
)
def test_capabilities_are_what_the_provider_states(stated: str, found: set[str]) -> None:
    model = Model(id="a", targets=[ModelTarget(provider="lab", model="a")], extra_json=stated)
    assert set(model_entry(model)["capabilities"]) == found
