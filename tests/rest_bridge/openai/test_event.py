"""Events that are written around a piece of text are those that their documents become."""

import orjson
import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk, ChunkChoice, Logprobs
from headgate.v1.token_usage_pb2 import TokenUsage
from hypothesis import given, settings
from hypothesis import strategies as st

from rest_bridge.dialects.openai.event import EventWriter, plain_text
from rest_bridge.dialects.openai.response import ChunkWriter

# Words that are in the events themselves, so that a piece of text could be taken for what is around it.
texts = st.text(max_size=4) | st.sampled_from(['""', '"content":""', '"content":"', "\n\n", "data: ", "\u2028", '\\"'])
EXTRAS = (
    '{"z":""}',
    '{"obfuscation":""}',
    '{"obfuscation":"aB3$"}',
    '{"obfuscation":"a\\"b"}',
    '{"obfuscation":"ü"}',
    '{"obfuscation":"a","z":1}',
    '{"obfuscation":null}',
)
rarely = st.sampled_from([False, False, False, True])


@st.composite
def deltas(draw: st.DrawFn) -> AnswerMessage:
    delta = AnswerMessage(content=draw(texts)) if not draw(rarely) else AnswerMessage()
    if draw(st.booleans()):
        delta.role = draw(st.integers(0, 6))  # type: ignore[assignment]
    if draw(rarely):
        delta.reasoning = draw(texts)
    if draw(rarely):
        delta.extra_json = '{"x":""}'
    return delta


@st.composite
def choices(draw: st.DrawFn) -> ChunkChoice:
    choice = ChunkChoice(index=draw(st.integers(0, 2)), delta=None if draw(rarely) else draw(deltas()))
    if draw(rarely):
        choice.finish_reason = draw(texts)
    if draw(rarely):
        choice.logprobs.CopyFrom(Logprobs())
    if draw(rarely):
        choice.extra_json = '{"y":""}'
    return choice


@st.composite
def chunks(draw: st.DrawFn) -> ChatCompletionChunk:
    chunk = ChatCompletionChunk(
        id=draw(st.sampled_from(["", "a"]) | texts),
        created=draw(st.integers(0, 1)),
        model=draw(st.sampled_from(["", "tiny"])),
        choices=draw(st.lists(choices(), min_size=1, max_size=1) | st.lists(choices(), max_size=2)),
        service_tier=draw(st.sampled_from([None, None, "", "flex"])),
        system_fingerprint=draw(st.sampled_from([None, None, "", "fp"])),
    )
    if draw(rarely):
        chunk.usage.CopyFrom(TokenUsage(total_tokens=3))
    if draw(rarely):
        chunk.extra_json = draw(st.sampled_from(EXTRAS))
    return chunk


@settings(max_examples=500)
@given(stream=st.lists(chunks(), max_size=8), include_usage=st.booleans())
def test_an_event_is_its_document_however_it_is_written(stream: list[ChatCompletionChunk], include_usage: bool) -> None:
    writer, plain = EventWriter(ChunkWriter(include_usage, "m")), ChunkWriter(include_usage, "m")
    for chunk in stream:
        expected = [b"data: " + orjson.dumps(document) + b"\n\n" for document in plain.write(chunk)]
        assert writer.write(chunk) == b"".join(expected)
    assert writer.finish() == b"".join([b"data: " + orjson.dumps(document) + b"\n\n" for document in plain.finish()])


def test_a_piece_of_text_is_known_where_there_is_nothing_else() -> None:
    def chunk(**fields: object) -> ChatCompletionChunk:
        choice = ChunkChoice(index=1, delta=AnswerMessage(role=4, content="a"))  # type: ignore[arg-type]
        return ChatCompletionChunk(choices=[choice], **fields)  # type: ignore[arg-type]

    assert plain_text(chunk(id="x", model="tiny")) == (1, "a")
    assert plain_text(chunk(usage=TokenUsage())) is None
    assert plain_text(ChatCompletionChunk(choices=[ChunkChoice(delta=AnswerMessage(content=""))])) is None
    assert plain_text(ChatCompletionChunk(choices=[ChunkChoice(finish_reason="stop")])) is None


@settings(max_examples=200)
@given(
    before=st.lists(chunks(), max_size=2),
    said=st.lists(texts.filter(bool), min_size=2, max_size=5),
    paddings=st.none() | st.just(["aB", "", "c3", "d", "$"]),
    extra=st.sampled_from([{}, {"provider": "lab"}]),
    include_usage=st.booleans(),
)
def test_pieces_that_were_put_together_are_the_events_that_they_were(
    before: list[ChatCompletionChunk],
    said: list[str],
    paddings: list[str] | None,
    extra: dict[str, str],
    include_usage: bool,
) -> None:
    def chunk(text: str, padding: str) -> ChatCompletionChunk:
        made = ChatCompletionChunk(id="a", model="tiny", choices=[ChunkChoice(delta=AnswerMessage(content=text))])
        told = extra if paddings is None else {**extra, "obfuscation": padding}
        if told:
            made.extra_json = orjson.dumps(told).decode()
        return made

    paired = list(zip(said, paddings or [""] * 5, strict=False))
    together = chunk("".join(said), " ".join(padding for _, padding in paired))
    together.piece_lengths.extend(map(len, said))
    one, several = (EventWriter(ChunkWriter(include_usage, "m")) for _ in range(2))
    for each in before:
        one.write(each)
        several.write(each)
    assert one.write(together) == b"".join([several.write(chunk(*each)) for each in paired])


def test_lengths_that_do_not_add_up_to_the_text_count_for_nothing() -> None:
    chunk = ChatCompletionChunk(id="a", choices=[ChunkChoice(delta=AnswerMessage(content="abc"))])
    chunk.piece_lengths.extend([1, 1])
    writer = EventWriter(ChunkWriter(False, "m"))
    assert writer.write(chunk).count(b"data: ") == 1
    assert writer.write(chunk).count(b'"content":"abc"') == 1


@pytest.mark.parametrize("extra_json", ['{"obfuscation":"a b c"}', '{"provider":"lab","obfuscation":"a b c"}'])
def test_paddings_of_other_pieces_are_told_once(extra_json: str) -> None:
    chunk = ChatCompletionChunk(id="a", choices=[ChunkChoice(delta=AnswerMessage(content="abcd"))])
    chunk.piece_lengths.extend([2, 2])
    chunk.extra_json = extra_json
    written = EventWriter(ChunkWriter(False, "m")).write(chunk)
    assert (written.count(b"data: "), written.count(b"a b c")) == (1, 1)
