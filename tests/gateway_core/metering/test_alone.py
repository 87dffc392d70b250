from hypothesis import given
from hypothesis import strategies as st

from gateway_core.metering.alone import STEP_US, may_use
from gateway_core.metering.window import Window
from gateway_core.storage.lease_store import Away

LENGTH = 3600
GONE_US = 10 * LENGTH * 1_000_000


def window(limit: int, begun_us: int) -> Window:
    made = Window(limit, LENGTH, shared=True)
    made.turn(begun_us)
    return made


@given(
    limit=st.integers(1, 10**18),
    processes=st.integers(1, 50),
    shares=st.lists(st.floats(0, 1), min_size=50, max_size=50),
)
def test_what_processes_use_of_a_window_that_had_begun_exceeds_the_limit_by_a_lease_of_each_at_most(
    limit: int, processes: int, shares: list[float]
) -> None:
    lease, left, total = max(1, limit // 20), limit, 0
    away = Away(GONE_US, processes)
    for share in shares[:processes]:
        leased = min(left, int(share * left))
        left -= leased
        used = may_use(window(limit, GONE_US - 1), leased, lease, away, GONE_US + STEP_US - 1)
        assert leased <= used <= leased + lease
        total += used
    assert total <= limit + processes * lease


@given(limit=st.integers(1, 10**18), processes=st.integers(1, 50))
def test_what_processes_use_of_a_window_that_begins_meanwhile_is_the_limit_or_one_each(
    limit: int, processes: int
) -> None:
    used = may_use(window(limit, GONE_US), 0, max(1, limit // 20), Away(GONE_US, processes), GONE_US)
    assert used >= 1
    assert used * processes <= max(limit, processes)


@given(limit=st.integers(1, 10**18), leased=st.integers(0, 10**18), processes=st.integers(1, 50))
def test_what_may_be_used_grows_to_the_share_and_never_beyond_the_limit(
    limit: int, leased: int, processes: int
) -> None:
    leased, lease = min(leased, limit), max(1, limit // 20)
    away, had_begun = Away(GONE_US, processes), window(limit, GONE_US - 1)
    grown = [may_use(had_begun, leased, lease, away, GONE_US + minute * STEP_US) for minute in range(41)]
    assert grown == sorted(grown)
    assert grown[-1] == min(limit, max(leased + lease, limit // processes))


def test_a_process_that_knows_of_no_others_uses_a_lease() -> None:
    assert may_use(window(100, GONE_US), 0, 5, Away(GONE_US, None), GONE_US) == 5
    assert may_use(window(100, GONE_US - 1), 0, 5, Away(GONE_US, None), GONE_US + 90 * STEP_US) == 5
