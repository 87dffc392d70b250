"""What a request's id may be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.pipeline.validate import is_request_id

PLAIN = re.compile(r"[\x21-\x7e]{1,128}")


@given(st.text("aZ09-_ ~!\x7f\x1f\n\té\u2028", max_size=6) | st.text(max_size=200))
def test_an_id_is_printable_ascii_without_spaces(text: str) -> None:
    assert is_request_id(text) == (PLAIN.fullmatch(text) is not None)


@pytest.mark.parametrize(("length", "is_id"), [(0, False), (1, True), (128, True), (129, False)])
def test_an_id_has_a_bounded_length(length: int, is_id: bool) -> None:
    assert is_request_id("x" * length) is is_id


def test_each_character_is_one_of_those_that_may_be_or_not() -> None:
    for code in range(0x250):
        assert is_request_id(chr(code)) == (PLAIN.fullmatch(chr(code)) is not None)
