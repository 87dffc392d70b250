import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.routing.sent import CONTENT, Continuation, Differs, Repetition, Sent

TEXTS = st.text(alphabet="ab \n\u00e4\U0001f642", min_size=1, max_size=40)


def said(content: str, finish_reason: str | None = None) -> ChatCompletionChunk:
    chunk = ChatCompletionChunk(id="other")
    chunk.choices.add(delta=AnswerMessage(content=content), finish_reason=finish_reason)
    return chunk


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def broken(draw: st.DrawFn) -> tuple[Sent, str, int, list[str]]:
    """What was sent of a text in pieces, the text, how much of it was sent, and it again in other pieces."""
    text = draw(TEXTS)
    at = draw(st.integers(0, len(text)))
    sent = Sent()
    for piece in pieces(draw, text[:at]):
        sent.note(said(piece))
    return sent, text, at, pieces(draw, text)


def joined(way: Repetition | Continuation, sent: Sent, given: list[str]) -> str:
    for number, piece in enumerate(given):
        event = way.event(said(piece, "stop" if number == len(given) - 1 else None))
        if event is not None:
            sent.note(event)
    assert sent.is_ended
    return sent.text(CONTENT)


@given(broken())
def test_a_repeated_answer_is_joined_without_a_lost_or_doubled_character(
    case: tuple[Sent, str, int, list[str]],
) -> None:
    sent, text, _, again = case
    assert joined(Repetition(sent), sent, again) == text


@given(broken(), st.data())
def test_a_continued_answer_is_joined_without_a_lost_or_doubled_character(
    case: tuple[Sent, str, int, list[str]], data: st.DataObject
) -> None:
    sent, text, at, _ = case
    if not sent.can_be_continued:
        assert not text[:at].strip()
        return
    way = Continuation(sent)
    rest = text[len(way.beginning) :]
    assert joined(way, sent, data.draw(st.composite(lambda draw: pieces(draw, rest))())) == text


@given(broken(), TEXTS)
def test_another_answer_is_never_joined(case: tuple[Sent, str, int, list[str]], other: str) -> None:
    sent, text, at, _ = case
    if other.startswith(text[:at]):
        return
    with pytest.raises(Differs):
        joined(Repetition(sent), sent, [other])
