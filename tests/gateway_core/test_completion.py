"""The fold: what chunks add up to."""

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from headgate.v1.chat_completion_pb2 import (
    AnswerAudio,
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Logprobs,
    TokenLogprob,
    TokenLogprobs,
)
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_TOOL, FunctionCall, ReasoningDetail, ToolCall
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.completion import Fold, fold


def chunk(delta: AnswerMessage | None = None, index: int = 0, **choice: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk(choices=[ChunkChoice(index=index, delta=delta, **choice)])


def message(*deltas: AnswerMessage) -> AnswerMessage:
    return fold(chunk(delta) for delta in deltas).choices[0].message


def test_nothing_folds_into_nothing() -> None:
    assert fold([]) == ChatCompletion()


def test_texts_are_joined_and_the_last_finish_reason_counts() -> None:
    folded = fold(
        [
            chunk(AnswerMessage(content="a", reasoning="x")),
            chunk(AnswerMessage(content="b", reasoning="y", refusal="z"), finish_reason="stop"),
            chunk(AnswerMessage(), finish_reason="length"),
            chunk(AnswerMessage()),
        ]
    )
    said = AnswerMessage(role=ROLE_ASSISTANT, content="ab", reasoning="xy", refusal="z")
    assert folded.choices == [Choice(message=said, finish_reason="length")]


def test_a_single_chunk_is_the_answer_and_stays_as_it_was() -> None:
    event = chunk(AnswerMessage(content="", tool_calls=[ToolCall(index=0)]), finish_reason="stop")
    before = event.SerializeToString()
    folded = fold([event])
    assert folded.choices[0].message.role == ROLE_ASSISTANT
    assert not folded.choices[0].message.HasField("content")
    assert event.SerializeToString() == before


def test_choices_are_told_apart_and_put_in_order() -> None:
    folded = fold([chunk(AnswerMessage(content="b"), index=1), chunk(AnswerMessage(content="a"))])
    assert [(choice.index, choice.message.content) for choice in folded.choices] == [(0, "a"), (1, "b")]


def test_an_empty_text_is_none_beside_something_else_and_a_text_alone() -> None:
    assert message(AnswerMessage(content=""), AnswerMessage()).HasField("content")
    for other in (
        AnswerMessage(refusal="No"),
        AnswerMessage(tool_calls=[ToolCall()]),
        AnswerMessage(audio=AnswerAudio()),
    ):
        assert not message(AnswerMessage(content=""), other).HasField("content")


def test_tool_calls_are_put_together_by_their_index() -> None:
    def piece(index: int, arguments: str, **fields: Any) -> AnswerMessage:
        call = FunctionCall(arguments=arguments, name=fields.pop("name", None))
        return AnswerMessage(tool_calls=[ToolCall(index=index, function=call, **fields)])

    folded = message(
        piece(1, "", id="b", name="g"), piece(0, "{", id="a", name="f"), piece(1, "{}"), piece(0, "}", id="x", name="f")
    )
    assert folded.tool_calls == [
        ToolCall(index=0, id="a", function=FunctionCall(name="f", arguments="{}")),
        ToolCall(index=1, id="b", function=FunctionCall(name="g", arguments="{}")),
    ]


def test_reasoning_details_are_put_together_by_index_or_where_neighbours_are_of_one_type() -> None:
    def piece(**fields: Any) -> AnswerMessage:
        return AnswerMessage(reasoning_details=[ReasoningDetail(**fields)])

    folded = message(
        piece(type="t", index=0, text="a"),
        piece(type="t", index=1, text="b"),
        piece(type="t", index=0, signature="s"),
        piece(type="e", data="d"),
        piece(type="t", text="c"),
        piece(type="t", text="d"),
        piece(type="t", id="1", text="e"),
        piece(type="t", id="2", text="f"),
    )
    assert folded.reasoning_details == [
        ReasoningDetail(type="t", index=0, text="a", signature="s"),
        ReasoningDetail(type="t", index=1, text="b"),
        ReasoningDetail(type="e", data="d"),
        ReasoningDetail(type="t", id="1", text="cde"),
        ReasoningDetail(type="t", id="2", text="f"),
    ]


def test_sound_and_its_words_are_joined() -> None:
    folded = message(
        AnswerMessage(audio=AnswerAudio(id="a", transcript="Ye")),
        AnswerMessage(audio=AnswerAudio(data="AAAA")),
        AnswerMessage(audio=AnswerAudio(data="AAAB", transcript="s", expires_at=7)),
    )
    assert folded.audio == AnswerAudio(id="a", data="AAAAAAAB", transcript="Yes", expires_at=7)


def test_log_probabilities_are_appended() -> None:
    def some(*tokens: str) -> Logprobs:
        return Logprobs(content=TokenLogprobs(tokens=[TokenLogprob(token=token) for token in tokens]))

    folded = fold([chunk(logprobs=some("a")), chunk(), chunk(logprobs=some("b", "c"))])
    assert folded.choices[0].logprobs == some("a", "b", "c")
    assert not folded.choices[0].logprobs.HasField("refusal")


def test_the_last_usage_counts_and_the_first_id() -> None:
    folded = fold(
        [
            ChatCompletionChunk(),
            ChatCompletionChunk(id="1", created=1, model="m", usage=TokenUsage(total_tokens=1)),
            ChatCompletionChunk(id="2", created=2, model="n", usage=TokenUsage(total_tokens=2), service_tier="flex"),
        ]
    )
    expected = ChatCompletion(id="1", created=1, model="m", usage=TokenUsage(total_tokens=2), service_tier="flex")
    assert folded == expected


def test_unknown_fields_are_merged() -> None:
    def event(top: Any, choice: Any, delta: Any) -> ChatCompletionChunk:
        texts = [orjson.dumps(value).decode() for value in (top, choice, delta)]
        piece = ChunkChoice(delta=AnswerMessage(extra_json=texts[2]), extra_json=texts[1])
        return ChatCompletionChunk(choices=[piece], extra_json=texts[0])

    folded = fold(
        [
            event({"a": {"b": 1}, "obfuscation": "x", "n": None}, {"r": "x"}, {"thought": "He", "list": [1], "n": 1}),
            event({"a": {"c": 2}, "d": "e"}, {"r": "y"}, {"thought": "llo", "list": [2], "n": None}),
        ]
    )
    assert orjson.loads(folded.extra_json) == {"a": {"b": 1, "c": 2}, "d": "e", "n": None}
    assert orjson.loads(folded.choices[0].extra_json) == {"r": "y"}
    assert orjson.loads(folded.choices[0].message.extra_json) == {"thought": "Hello", "list": [2], "n": 1}


def test_a_fold_can_be_read_at_any_time() -> None:
    growing = Fold()
    growing.add(chunk(AnswerMessage(content="a")))
    assert growing.completion().choices[0].message.content == "a"
    growing.add(chunk(AnswerMessage(content="b")))
    assert growing.completion().choices[0].message.content == "ab"


PIECES = ChatCompletionChunk.DESCRIPTOR.fields_by_name["piece_lengths"].number


def fields(message: type[Message]) -> set[tuple[Any, ...]]:
    """The fields of a message as their bytes tell them apart."""
    return {
        (field.number, field.type, field.is_repeated, field.has_presence, field.message_type)
        for field in message.DESCRIPTOR.fields
        if field.name != "choices"
    }


def test_a_chunk_and_a_whole_answer_have_the_same_bytes() -> None:
    assert {field for field in fields(ChatCompletionChunk) if field[0] != PIECES} == fields(ChatCompletion)
    assert fields(ChunkChoice) == fields(Choice)
    numbers = [message.DESCRIPTOR.fields_by_name["choices"].number for message in (ChatCompletionChunk, ChatCompletion)]
    assert numbers[0] == numbers[1]


USAGE = TokenUsage(total_tokens=3, extra_json='{"cost":1}')


@pytest.mark.parametrize(
    "event",
    [
        ChatCompletionChunk(),
        ChatCompletionChunk(id="1", created=2, model="m", usage=USAGE, service_tier="", system_fingerprint="f"),
        ChatCompletionChunk(extra_json='{ "obfuscation":"x","a":null}'),
        ChatCompletionChunk(choices=[ChunkChoice(delta=AnswerMessage(content="ab"))], piece_lengths=[1, 1]),
        chunk(),
        chunk(AnswerMessage(content=""), finish_reason=""),
        chunk(AnswerMessage(content="", refusal="No"), finish_reason="stop", extra_json='{"r": 1}'),
        chunk(AnswerMessage(role=ROLE_TOOL, content="x"), logprobs=Logprobs(content=TokenLogprobs())),
        ChatCompletionChunk(choices=[ChunkChoice(index=0), ChunkChoice(index=2, finish_reason="length")]),
        ChatCompletionChunk(choices=[ChunkChoice(index=2), ChunkChoice(index=1, finish_reason="length")]),
        ChatCompletionChunk(choices=[ChunkChoice(delta=AnswerMessage(content=text)) for text in ("a", "b")]),
        ChatCompletionChunk(choices=[ChunkChoice(index=-1, delta=AnswerMessage(content="a"))]),
    ],
    ids=str,
)
def test_an_event_alone_folds_into_what_it_folds_into_in_general(event: ChatCompletionChunk) -> None:
    in_general = Fold()
    in_general.add(event)
    assert fold([event]) == in_general.completion()
