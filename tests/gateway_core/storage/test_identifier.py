import time
import uuid

import pytest

from gateway_core.storage.identifier import Identifiers, new_id, now_us


def test_an_id_is_a_uuid_of_version_7_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_are_in_the_order_of_their_making() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_a_clock_that_is_set_back_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = Identifiers()
    times = iter([2_000_000_000_000_000_000, 1_000_000_000_000_000_000, 1_000_000_000_000_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    made = [identifier() for _ in range(3)]
    assert made == sorted(set(made))


def test_an_id_has_all_of_the_time_and_a_chance_in_the_places_of_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0, 1, 243, 244, 245, 999_999, 1_000_000, 1_795_291_873_065_306_417, 2**63 - 1]
    for now in times:
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        milliseconds, rest = divmod(now, 1_000_000)
        made = uuid.UUID(text := Identifiers()())
        assert str(made) == text
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        fraction = max(rest * 4096 // 1_000_000, 0 if milliseconds else 1)  # ids begin behind nothing
        assert (made.int >> 80, made.int >> 64 & 0xFFF) == (milliseconds, fraction)


def test_the_time_is_in_microseconds() -> None:
    assert abs(now_us() - time.time() * 1e6) < 60e6
