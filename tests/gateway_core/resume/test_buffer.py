import tracemalloc

import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk, ChunkChoice
from headgate.v1.message_pb2 import ROLE_ASSISTANT, FunctionCall, ToolCall
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.resume.buffer import Buffer


def chunk(text: str = "", finish_reason: str | None = None, index: int = 0, **more: object) -> ChatCompletionChunk:
    delta = AnswerMessage(content=text, **more)  # type: ignore[arg-type]
    choice = ChunkChoice(index=index, delta=delta, finish_reason=finish_reason)
    return ChatCompletionChunk(id="answer", created=1, model="tiny", choices=[choice])


def filled(*chunks: ChatCompletionChunk) -> Buffer:
    buffer = Buffer()
    for each in chunks:
        buffer.append(each)
    return buffer


def test_chunks_are_found_by_their_positions() -> None:
    chunks = [chunk(str(number)) for number in range(1, 200)]
    buffer = filled(*chunks)
    assert (buffer.first, buffer.last) == (1, 199)
    assert [buffer.chunk(position) for position in range(1, 200)] == chunks


def test_the_oldest_are_forgotten_and_none_that_was_not_sent() -> None:
    buffer = filled(*[chunk("x" * 100) for _ in range(10)])
    each = buffer.size // 10
    buffer.forget(up_to=4, size=0)
    assert (buffer.first, buffer.last, buffer.size) == (5, 10, 6 * each)
    buffer.forget(up_to=10, size=2 * each)
    assert (buffer.first, buffer.last, buffer.size) == (9, 10, 2 * each)
    buffer.forget(up_to=10, size=0)
    assert (buffer.first, buffer.last, buffer.size) == (11, 10, 0)
    buffer.append(chunk("y"))
    assert buffer.chunk(11) == chunk("y")


@pytest.mark.parametrize("characters", [4, 40, 4000])
def test_the_size_is_that_of_the_memory_taken(characters: int) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        buffer = Buffer()
        while buffer.size < 1 << 20:
            buffer.append(chunk("x" * characters))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * taken < buffer.size < 1.2 * taken


def test_what_was_begun_is_the_same_whatever_was_forgotten() -> None:
    call = ToolCall(index=2, id="call_1", function=FunctionCall(name="look", arguments="{"))
    chunks = [
        chunk("He", role=ROLE_ASSISTANT),
        chunk(tool_calls=[call], index=1),
        chunk("llo", "stop"),
        ChatCompletionChunk(id="answer", created=1, model="tiny", usage=TokenUsage(prompt_tokens=3)),
        chunk(finish_reason="tool_calls", index=1),
    ]
    for forgotten in range(len(chunks) + 1):
        buffer = filled(*chunks)
        buffer.forget(up_to=forgotten, size=0)
        begun = buffer.begun(up_to=5)
        assert (begun.id, begun.created, begun.model, begun.usage.prompt_tokens) == ("answer", 1, "tiny", 3)
        first, second = begun.choices
        assert first == ChunkChoice(index=0, delta=AnswerMessage(role=ROLE_ASSISTANT))
        assert second == ChunkChoice(
            index=1, delta=AnswerMessage(tool_calls=[ToolCall(index=2)]), finish_reason="tool_calls"
        )
        if forgotten <= 3:
            assert [each.finish_reason for each in buffer.begun(up_to=3).choices] == ["stop", ""]
