"""How many attempts the budget allows beyond one for each call."""

from hypothesis import given
from hypothesis import strategies as some

from gateway_core.routing.budget import RetryBudget


def attempts(budget: RetryBudget, calls: int, wanted: int, seconds_between: float = 0.0) -> int:
    """All attempts of calls of which each wants some more."""
    count = 0
    for number in range(calls):
        budget.calls += 1
        count += 1 + sum(budget.take(number * seconds_between) for _ in range(wanted))
    return count


@given(calls=some.integers(50, 3000), wanted=some.integers(1, 4), rate=some.integers(5, 1000))
def test_there_are_at_most_one_and_a_fifth_attempts_for_a_call_under_total_failure(
    calls: int, wanted: int, rate: int
) -> None:
    assert attempts(RetryBudget(0.2, 10), calls, wanted, 1 / rate) <= 1.2 * calls + 1


def test_what_is_lent_is_paid_back() -> None:
    assert attempts(RetryBudget(0.2, 10), 1000, 3) <= 1200


def test_the_first_calls_may_all_be_tried_again() -> None:
    assert attempts(RetryBudget(0.2, 10), 10, 1) == 20


def test_calls_that_are_few_may_always_be_tried_again() -> None:
    assert attempts(RetryBudget(0.2, 10), 500, 1, seconds_between=60) == 1000


def test_calls_that_went_well_pay_for_those_that_do_not() -> None:
    budget = RetryBudget(0.2, 10)
    budget.calls += 1000
    assert sum(budget.take(0) for _ in range(1000)) == 100
    assert (budget.refused, budget.left()) == (900, 0)


def test_nothing_is_tried_again_where_the_budget_is_none() -> None:
    assert attempts(RetryBudget(0, 0), 100, 1, seconds_between=60) == 100
