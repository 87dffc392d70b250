"""How often a public key may be used."""

import pytest

from gateway_core.config import Config, PublicKeysConfig
from gateway_core.errors import RateLimited
from gateway_core.identity.public import PublicLimits, Windows

NOON = 1_700_000_000.0 // 86400 * 86400 + 43200


def many(limits: PublicLimits, address: str, at: float, count: int = 1) -> int:
    """How many of so many calls are admitted."""
    admitted = 0
    for _ in range(count):
        try:
            limits.admit("key", address, at)
        except RateLimited:
            continue
        admitted += 1
    return admitted


def test_an_address_may_come_three_times_in_five_seconds_and_twenty_times_in_a_minute() -> None:
    limits = PublicLimits(Config().public_keys)
    assert [many(limits, "192.0.2.1", NOON + 5 * step, 5) for step in range(12)] == [3] * 6 + [2] + [0] * 5
    assert many(limits, "192.0.2.1", NOON + 60, 5) == 3


def test_a_key_may_come_from_many_addresses_ten_times_in_five_seconds() -> None:
    limits = PublicLimits(Config().public_keys)
    assert sum(many(limits, f"192.0.2.{number}", NOON) for number in range(30)) == 10
    assert sum(many(limits, f"192.0.2.{number}", NOON + 5) for number in range(30)) == 10


def test_what_is_refused_is_not_counted_and_is_told_how_long_to_wait() -> None:
    limits = PublicLimits(PublicKeysConfig.model_validate({"per_address": [{"requests": 1, "seconds": 60}]}))
    limits.admit("key", "192.0.2.1", NOON)
    for _ in range(20):
        with pytest.raises(RateLimited) as caught:
            limits.admit("key", "192.0.2.1", NOON + 20)
    assert caught.value.retry_after_seconds == 40
    assert caught.value.metadata["limit"] == "1 requests per 60 s and address"
    assert many(limits, "192.0.2.2", NOON + 20, 20) == 1


def test_who_came_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.identity.public.SUBJECTS_AT_MOST", 2)
    windows = Windows(PublicKeysConfig.model_validate({"per_key": [{"requests": 1, "seconds": 60}]}).per_key)
    for subject in ("a", "b", "c"):
        windows.count(subject, NOON)
    assert [windows.wait(subject, NOON) is None for subject in ("a", "b", "c")] == [True, False, False]
