"""Tests of the event stream reader."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import errors
from gateway_core.upstream.sse import Event, EventReader

STREAM = (
    "\ufeff: a comment\n\n"
    'data: {"text": "héllo 🌍"}\n\n'
    "data:without a space\n\n"
    "data:  two spaces\n\n"
    "event: named\r\ndata: one\r\ndata\r\ndata: three\r\n\r\n"
    "id: 7\nretry: 10\nunknown: x\ndata: with other fields\n\n"
    ": ping\n: ping\n\n\n\n"
    "event: without data\n\n"
    "data:\n\n"
    "data: ended by CR\rdata: twice\r\r"
    "data: [DONE]\n\n"
).encode()

EVENTS = [
    Event("message", '{"text": "héllo 🌍"}'.encode()),
    Event("message", b"without a space"),
    Event("message", b" two spaces"),
    Event("named", b"one\n\nthree"),
    Event("message", b"with other fields"),
    Event("message", b""),
    Event("message", b"ended by CR\ntwice"),
    Event("message", b"[DONE]"),
]


def read(*pieces: bytes, limit: int = 1000) -> list[Event]:
    reader = EventReader(limit, "lab")
    return [event for piece in pieces for event in reader.feed(piece)] + reader.finish()


def test_a_stream_in_one_piece_gives_its_events() -> None:
    assert read(STREAM) == EVENTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_stream_cut_at_any_byte_gives_the_same_events(at: int) -> None:
    assert read(STREAM[:at], STREAM[at:]) == EVENTS


def test_a_stream_of_single_bytes_gives_the_same_events() -> None:
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_any_line_end_gives_the_same_events_at_every_cut(end: bytes) -> None:
    stream = STREAM.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", end)
    for at in range(len(stream) + 1):
        assert read(stream[:at], b"", stream[at:]) == EVENTS


def test_events_come_with_the_piece_that_ends_them() -> None:
    reader = EventReader(1000, "lab")
    assert reader.feed(b"data: 1\n\ndata: 2\n") == [Event("message", b"1")]
    assert reader.feed(b"\n") == [Event("message", b"2")]
    assert reader.feed(b"data: 3\r\n\r") == [Event("message", b"3")]
    assert reader.feed(b"\ndata: 4\r\n\r\n") == [Event("message", b"4")]
    assert reader.finish() == []


@pytest.mark.parametrize("tail", [b"data: last", b"data: last\n", b"data: last\r", b"data: last\r\n", b"data:last"])
def test_a_last_event_without_its_empty_line_is_not_lost(tail: bytes) -> None:
    assert read(b"data: first\n\n" + tail) == [Event("message", b"first"), Event("message", b"last")]
    assert read(tail) == [Event("message", b"last")]


def test_a_stream_that_ends_within_a_comment_or_a_name_gives_nothing_more() -> None:
    assert read(b"data: 1\n\n: pi") == [Event("message", b"1")]
    assert read(b"data: 1\n\nevent: x\n") == [Event("message", b"1")]
    assert read() == []
    assert read(b"\xef\xbb") == []


def test_a_mark_within_the_stream_is_not_skipped() -> None:
    assert read(b"data: 1\n\n", b"\xef\xbb\xbfdata: 2\n\n") == [Event("message", b"1")]


def test_an_event_of_the_limit_is_read_and_one_byte_more_is_refused() -> None:
    for cut in (1, 7, 50, 200):
        whole = b"data:" + b"x" * 95 + b"\n\n"
        assert read(*pieces(whole, cut), limit=100) == [Event("message", b"x" * 95)]
        with pytest.raises(errors.ProviderBroken) as caught:
            read(*pieces(b"data:" + b"x" * 96 + b"\n\n", cut), limit=100)
        assert caught.value.metadata == {"provider": "lab"}
        assert "100 bytes" in caught.value.message
        assert "answer_bytes" in caught.value.message
        assert caught.value.retryable


def test_an_event_of_many_lines_is_refused_beyond_the_limit() -> None:
    with pytest.raises(errors.ProviderBroken):
        read(*[b"data: 123456789\n"] * 11, limit=100)


def test_a_line_that_never_ends_is_refused_before_it_is_gathered() -> None:
    reader = EventReader(100, "lab")
    for _ in range(10):
        reader.feed(b": comment!")
    with pytest.raises(errors.ProviderBroken):
        reader.feed(b".")


def test_many_events_in_a_piece_over_the_limit_are_read() -> None:
    assert len(read(b"data: 0123456789\n\n" * 100, limit=100)) == 100


def pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


LINES = st.lists(
    st.tuples(
        st.sampled_from(["data: ", "data:", "data", "event: ", "event:", "id: ", ": ", ":", "x: ", " data: ", ""]),
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=8),
        st.sampled_from(["\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "\r\r", "\n\n\n"]),
    ).map("".join),
    max_size=20,
)


def plainly_read(stream: str) -> list[Event]:
    """The specification, word by word, over the whole text; the end of the stream ends its event."""
    events, data, name = [], "", ""
    text = stream.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n") + "\n\n"
    for line in text.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(Event(name or "message", data.removesuffix("\n").encode()))
            data, name = "", ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
    return events


@given(LINES, st.booleans(), st.lists(st.integers(0, 400)))
def test_any_stream_cut_anywhere_is_read_as_the_specification_says(lines: list[str], mark: bool, at: list[int]) -> None:
    stream = "\ufeff" * mark + "".join(lines)
    data = stream.encode()
    cuts = [0, *sorted(at), len(data)]
    assert read(*(data[a:b] for a, b in pairwise(cuts))) == plainly_read(stream)
