from hypothesis import given
from hypothesis import strategies as st

from gateway_core.metering.window import SECOND_US, Window


def window(limit: int = 3, seconds: int = 60) -> Window:
    made = Window(limit, seconds)
    made.turn(600 * SECOND_US)
    return made


def test_a_window_gives_its_limit_and_no_more() -> None:
    limited = window()
    assert [limited.take(1) for _ in range(5)] == [True, True, True, False, False]
    assert limited.left == 0


def test_what_does_not_fit_uses_nothing() -> None:
    limited = window()
    assert not limited.take(4)
    assert limited.take(3)


def test_the_next_window_begins_anew_at_a_multiple_of_its_length() -> None:
    limited = window()
    limited.take(3)
    assert not limited.turn(659 * SECOND_US)
    assert limited.reset_seconds(650 * SECOND_US) == 10
    assert limited.turn(660 * SECOND_US)
    assert limited.left == 3


def test_a_clock_that_is_set_back_gives_nothing() -> None:
    limited = window()
    limited.take(3)
    assert not limited.turn(SECOND_US)
    assert not limited.take(1)


def test_tokens_are_corrected_in_their_own_window_only() -> None:
    limited = window(100)
    limited.take(40)
    limited.correct(-30, 600 * SECOND_US)
    assert limited.left == 90
    limited.correct(100, 600 * SECOND_US)
    assert (limited.left, limited.take(0)) == (0, False)
    limited.turn(660 * SECOND_US)
    limited.correct(50, 600 * SECOND_US)
    assert limited.left == 100


def test_a_limit_of_none_admits_nothing() -> None:
    assert not window(0).take(1)


@given(st.integers(1, 10_000), st.lists(st.integers(0, 10**11), min_size=1))
def test_whatever_the_clock_tells_a_window_begins_at_a_multiple_and_never_before_the_last(
    seconds: int, times: list[int]
) -> None:
    limited = Window(3, seconds)
    length_us, start_us = seconds * SECOND_US, 0
    for now_us in times:
        limited.used = 1
        begins_us = now_us - now_us % length_us
        assert limited.turn(now_us) == (begins_us > start_us)
        assert limited.used == (0 if begins_us > start_us else 1)
        start_us = max(start_us, begins_us)
        assert limited.start_us == start_us
        since_us = now_us - start_us
        assert limited.reset_us(now_us) == length_us - (since_us % length_us if since_us > 0 else since_us)
