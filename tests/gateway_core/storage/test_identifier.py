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


def test_the_time_is_in_microseconds() -> None:
    assert abs(now_us() - time.time() * 1e6) < 60e6
