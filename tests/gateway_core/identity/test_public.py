"""How often a public key may be used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.config import Config
from gateway_core.config_plan import PublicKeysConfig
from gateway_core.errors import ContextTooLong, RateLimited
from gateway_core.identity.public import PublicLimits
from gateway_core.identity.public_window import Windows

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
    assert caught.value.metadata["limit"] == "1 request per 60 s and address"
    assert {name: value for name, value in caught.value.metadata.items() if name.startswith("x-")} == {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "40s",
    }
    assert many(limits, "192.0.2.2", NOON + 20, 20) == 1


def test_who_came_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.identity.public_window.SUBJECTS_AT_MOST", 2)
    windows = Windows(PublicKeysConfig.model_validate({"per_key": [{"requests": 1, "seconds": 60}]}).per_key)
    for subject in ("a", "b", "c"):
        windows.count(subject, NOON)
    assert [windows.reached(subject, NOON) is None for subject in ("a", "b", "c")] == [True, False, False]


def tokens_limited(**windows: list[dict[str, int]]) -> PublicLimits:
    return PublicLimits(PublicKeysConfig.model_validate({"per_address": [], "per_key": [], **windows}))


def test_input_tokens_are_limited_beside_requests_by_what_is_estimated() -> None:
    limits = tokens_limited(per_address=[{"seconds": 60, "requests": 100, "input_tokens": 100}])
    limits.admit("key", "192.0.2.1", NOON, tokens=60)
    with pytest.raises(RateLimited) as caught:
        limits.admit("key", "192.0.2.1", NOON + 20, tokens=41)
    assert caught.value.metadata["limit"] == "100 input tokens per 60 s and address"
    assert caught.value.metadata["x-ratelimit-remaining-tokens"] == "40"
    assert caught.value.retry_after_seconds == 40
    limits.admit("key", "192.0.2.1", NOON + 20, tokens=40)
    limits.admit("key", "192.0.2.2", NOON + 20, tokens=100)
    limits.admit("key", "192.0.2.1", NOON + 60, tokens=100)


def test_what_is_refused_for_the_key_is_not_counted_for_the_address() -> None:
    limits = tokens_limited(
        per_address=[{"seconds": 60, "input_tokens": 100}], per_key=[{"seconds": 5, "input_tokens": 50}]
    )
    limits.admit("key", "192.0.2.1", NOON, tokens=10)
    for _ in range(10):
        with pytest.raises(RateLimited):
            limits.admit("key", "192.0.2.1", NOON, tokens=41)
    limits.admit("key", "192.0.2.1", NOON, tokens=40)
    limits.admit("key", "192.0.2.1", NOON + 5, tokens=50)


def test_a_prompt_that_no_window_ever_takes_is_too_long_and_not_counted() -> None:
    limits = tokens_limited(
        per_address=[{"seconds": 60, "input_tokens": 100}], per_key=[{"seconds": 5, "input_tokens": 50}]
    )
    with pytest.raises(ContextTooLong) as refused:
        limits.admit("key", "192.0.2.1", NOON, tokens=51)
    assert refused.value.metadata == {"param": "messages", "limit": "50", "input_tokens": "51"}
    limits.admit("key", "192.0.2.1", NOON, tokens=50)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_network_of_ipv6_is_counted_as_one_address(one: str, other: str, *, same: bool) -> None:
    limits = PublicLimits(PublicKeysConfig.model_validate({"per_address": [{"requests": 1, "seconds": 60}]}))
    assert many(limits, one, NOON) == 1
    assert many(limits, other, NOON) == (0 if same else 1)


def test_tokens_are_trued_up_in_the_windows_that_have_not_ended() -> None:
    limits = tokens_limited(
        per_address=[{"seconds": 60, "input_tokens": 100}, {"seconds": 3600, "input_tokens": 1000}],
        per_key=[{"seconds": 60, "input_tokens": 100}],
    )
    over, under = (limits.admit("key", "192.0.2.1", NOON, tokens=50) for _ in range(2))
    limits.correct(under, 10)
    again = limits.admit("key", "192.0.2.1", NOON, tokens=40)
    limits.correct(under, 10)  # told twice
    with pytest.raises(RateLimited):
        limits.admit("key", "192.0.2.1", NOON, tokens=1)
    # In the next minute only the hour knows of it.
    limits.correct(limits.admit("key", "192.0.2.1", NOON + 60, tokens=1), 1)
    limits.correct(over, 890)
    limits.admit("key", "192.0.2.1", NOON + 60, tokens=59)
    with pytest.raises(RateLimited, match="1000 input tokens per 3600 s"):
        limits.admit("key", "192.0.2.1", NOON + 120, tokens=1)
    limits.correct(again, 39)
    limits.admit("key", "192.0.2.1", NOON + 120, tokens=1)


@given(
    calls=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60), st.one_of(st.none(), st.integers(0, 90)))),
    limit=st.integers(1, 100),
)
def test_windows_count_what_a_plain_list_of_calls_counts(calls: list[tuple[int, int, int | None]], limit: int) -> None:
    limits = tokens_limited(per_address=[{"seconds": 60, "input_tokens": limit, "requests": 5}])
    now, admitted = NOON, list[list[float]]()
    for passed, tokens, told in calls:
        now += passed
        window = [call for call in admitted if call[0] // 60 == now // 60]
        fits = len(window) < 5 and sum(call[1] for call in window) + tokens <= limit
        try:
            use = limits.admit("key", "192.0.2.1", now, tokens=tokens)
        except RateLimited:
            assert not fits
            assert tokens <= limit
            continue
        except ContextTooLong:
            assert tokens > limit
            continue
        assert fits
        if told is not None:
            limits.correct(use, told)
        admitted.append([now, tokens if told is None else told])
