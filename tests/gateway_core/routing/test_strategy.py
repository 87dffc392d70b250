"""In which order the targets of a model are tried."""

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from gateway_core.config import CircuitConfig
from gateway_core.routing.state import Limits, TargetState
from gateway_core.routing.strategy import ORDERS, Asking, Choice


def choices(*weights: float, prices: Sequence[float] = ()) -> list[Choice]:
    known = [*prices, *[math.inf] * (len(weights) - len(prices))]
    states = [
        TargetState("lab", f"model-{place}", CircuitConfig(), Limits(), lambda: 0.0) for place in range(len(weights))
    ]
    return [Choice(place, states[place], weight, known[place]) for place, weight in enumerate(weights)]


def places(strategy: str, of: Sequence[Choice], affinity: str = "", *, now: float = 0.0, seed: int = 1) -> list[int]:
    asking = Asking(now, True, Random(seed), affinity)
    return [choice.place for choice in ORDERS[strategy](of, asking)]


def firsts(strategy: str, of: Sequence[Choice], count: int = 4000) -> Counter[int]:
    asking = Asking(0, True, Random(7))
    return Counter(ORDERS[strategy](of, asking)[0].place for _ in range(count))


@pytest.mark.parametrize("strategy", ORDERS)
def test_every_target_is_there_once_whatever_its_weight(strategy: str) -> None:
    assert sorted(places(strategy, choices(1, 0, 5, 2), "session")) == [0, 1, 2, 3]


def test_ordered_is_as_configured() -> None:
    assert places("ordered", choices(1, 9, 3)) == [0, 1, 2]


def test_weighted_is_by_chance_and_by_weight() -> None:
    found = firsts("weighted", choices(1, 3, 0))
    assert found[2] == 0
    assert 0.7 < found[1] / 4000 < 0.8


def test_the_fewest_calls_in_proportion_to_the_weight_come_first() -> None:
    of = choices(1, 1, 4)
    of[0].state.in_flight, of[1].state.in_flight, of[2].state.in_flight = 2, 1, 4
    assert places("least_busy", of) == [2, 1, 0]
    assert set(firsts("least_busy", choices(1, 1))) == {0, 1}


def test_the_shortest_time_to_the_first_token_comes_first_and_is_forgotten() -> None:
    of = choices(1, 1)
    of[0].state.opened(0, 2.0, stream=True)
    of[1].state.opened(0, 0.1, stream=True)
    assert places("latency", of) == [1, 0]
    of[1].state.in_flight = 30
    assert places("latency", of) == [0, 1], "who has many to answer will take longer"
    of[1].state.in_flight = 0
    of[0].state.opened(59, 0.01, stream=True)
    assert places("latency", of, now=60) == [1, 0], "what nobody has asked for long is tried again"


def test_a_slow_answer_counts_at_once_and_fast_ones_only_slowly() -> None:
    (of,) = choices(1)
    for at in range(10):
        of.state.opened(at, 0.1, stream=True)
    of.state.opened(10, 5.0, stream=True)
    assert of.state.first_token.value(10) == 5.0
    of.state.opened(11, 0.1, stream=True)
    assert 4 < of.state.first_token.value(11) < 5


def test_the_cheapest_comes_first_and_the_unknown_last() -> None:
    assert places("cost", choices(1, 1, 1, 1, prices=(3.0, math.inf, 1.0, 2.0))) == [2, 3, 0, 1]


def test_the_same_affinity_goes_to_the_same_target_and_many_go_everywhere() -> None:
    of = choices(1, 1, 1)
    assert len({tuple(places("sticky", of, "one", seed=seed)) for seed in range(20)}) == 1
    found = Counter(places("sticky", of, f"session {number}")[0] for number in range(3000))
    assert all(900 < found[place] < 1100 for place in range(3))


def test_when_a_target_goes_only_its_own_calls_move() -> None:
    of = choices(1, 1, 1)
    for number in range(200):
        before = places("sticky", of, f"session {number}")
        after = places("sticky", [of[0], of[2]], f"session {number}")
        assert after == [place for place in before if place != 1]
