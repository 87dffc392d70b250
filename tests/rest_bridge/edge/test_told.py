from typing import Any

import pytest
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from rest_bridge.texts import Texts
from rest_bridge.told import Told

PAIRS: list[tuple[str, str | bytes]] = [
    ("x-headgate-warning", "n: dropped"),
    ("other", "x"),
    ("x-headgate-a", b"x"),
    ("x-headgate-b", "a\nb"),
    ("x-ratelimit-limit-requests", "5"),
    ("x-headgate-warning", "100 %s"),
]
KEYS = ("x-headgate-cost", "x-headgate-warning", "x-ratelimit-limit-tokens", "grpc-status-details-bin", "other", "x")
VALUES = st.text("aB 0%s\r\n\0\x7fé", max_size=4) | st.binary(max_size=2)


def one_by_one(pairs: list[tuple[str, Any]]) -> bytes:
    """The lines as they would be if each pair were looked at alone."""
    told = [
        (key, value)
        for key, value in pairs
        if key.startswith(("x-headgate-", "x-ratelimit-"))
        and isinstance(value, str)
        and value.isascii()
        and value.isprintable()
    ]
    return "".join(f"{key}: {value}\r\n" for key, value in told).encode()


def test_what_an_rpc_tells_beside_its_answer_becomes_header_lines() -> None:
    lines = b"x-headgate-warning: n: dropped\r\nx-ratelimit-limit-requests: 5\r\nx-headgate-warning: 100 %s\r\n"
    assert Told(PAIRS).lines() == lines
    assert Told([PAIRS[0], *PAIRS[4:]]).lines() == lines
    assert Told(()).lines() == Told(None).lines() == b""


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=5))
def test_lines_made_at_once_are_those_made_one_by_one(pairs: list[tuple[str, Any]]) -> None:
    assert Told(pairs).lines() == one_by_one(pairs)


def test_a_key_that_is_no_name_of_a_field_is_left_out() -> None:
    assert Told([("x-headgate-a\r\nb", "x"), ("x-headgate-%s", "x"), ("x-headgate-c", "x")]).lines() == (
        b"x-headgate-c: x\r\n"
    )


def test_metadata_of_grpc_are_told_as_pairs_are() -> None:
    plain: list[tuple[str, str | bytes]] = [("x-headgate-provider", "lab"), ("x-headgate-cost", "0.5")]
    told = Told(aio.Metadata(*plain))
    assert told.lines() == b"x-headgate-provider: lab\r\nx-headgate-cost: 0.5\r\n"
    assert told.lines_behind() == b"x-headgate-cost: 0.5\r\n"


@pytest.mark.parametrize(
    ("pairs", "text"),
    [([("x-headgate-cost", "1"), ("x-headgate-cost", "2")], "1"), ([("x-headgate-cost", b"1")], ""), ([], "")],
)
def test_the_first_text_of_a_key_is_known(pairs: Any, text: str) -> None:
    assert Told(pairs).text("x-headgate-cost") == text


@given(st.text(st.characters(max_codepoint=0x100), max_size=8))
def test_values_are_told_where_python_says_that_they_are_printable(text: str) -> None:
    pairs = [("x-headgate-cost", text), ("x-headgate-provider", "a")]
    assert Told(pairs).lines() == one_by_one(pairs)


def test_every_ascii_character_is_told_where_it_is_printable() -> None:
    for code in range(128):
        pairs = [("x-headgate-cost", chr(code)), ("x-headgate-provider", "")]
        assert Told(pairs).lines() == one_by_one(pairs)


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.text("aB 0%s\r\n\0\x7fé", max_size=4)), max_size=5))
def test_columns_are_told_as_pairs_are(pairs: list[tuple[str, str]]) -> None:
    columns = Texts(tuple(key for key, _ in pairs), [value for _, value in pairs])
    assert (list(columns), len(columns), tuple(columns[:1])) == (pairs, len(pairs), tuple(pairs[:1]))
    assert Told(columns).lines() == Told(pairs).lines()
    assert Told(columns).text("x-headgate-cost") == Told(pairs).text("x-headgate-cost")
