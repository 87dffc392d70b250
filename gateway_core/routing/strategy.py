"""In which order the targets of a model are tried: one function for each strategy of the configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from gateway_core.routing.state import TargetState


class Choice(NamedTuple):
    """A target that can be chosen."""

    place: int
    """In the configuration, from 0."""
    state: TargetState
    weight: float = 1.0
    price: float = math.inf
    """What it costs; infinite where nobody tells."""


class Asking(NamedTuple):
    """What of a call the order depends on."""

    now: float
    stream: bool
    random: Random
    affinity: str = ""
    """What calls that should go to the same target have in common. Empty: nothing."""


Order = Callable[[Sequence[Choice], Asking], Sequence[Choice]]


def ordered(choices: Sequence[Choice], asking: Asking) -> Sequence[Choice]:
    """As configured."""
    return choices


def weighted(choices: Sequence[Choice], asking: Asking) -> Sequence[Choice]:
    """By chance, each first as often as its weight says; one without weight comes last.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir": the larger u^(1/w), the earlier.
    """
    drawn = {each.place: _draw(asking.random.random(), each.weight) for each in choices}
    return sorted(choices, key=lambda each: drawn[each.place], reverse=True)


def least_busy(choices: Sequence[Choice], asking: Asking) -> Sequence[Choice]:
    """The fewest attempts on their way first, in proportion to the weights; by chance among equals."""
    ties = {each.place: asking.random.random() for each in choices}
    return sorted(choices, key=lambda each: (_share(each.state.in_flight + 1, each.weight), ties[each.place]))


def latency(choices: Sequence[Choice], asking: Asking) -> Sequence[Choice]:
    """The shortest time to the first token first, as it was lately, times how many wait for theirs."""
    return sorted(choices, key=lambda each: each.state.cost(asking.now, stream=asking.stream))


def cost(choices: Sequence[Choice], asking: Asking) -> Sequence[Choice]:
    """The cheapest first; those whose price is not known last."""
    return sorted(choices, key=lambda each: each.price)


def sticky(choices: Sequence[Choice], asking: Asking) -> Sequence[Choice]:
    """The same for the same affinity, as long as the target is there: when one goes, only its own calls move.

    Rendezvous hashing with weights (Schindelhauer and Schomaker, "Weighted distributed hash tables").
    """
    if not asking.affinity:
        return weighted(choices, asking)
    drawn = {each.place: _draw(_hash(asking.affinity, each.state.name), each.weight) for each in choices}
    return sorted(choices, key=lambda each: drawn[each.place], reverse=True)


ORDERS: Mapping[str, Order] = {
    "ordered": ordered,
    "weighted": weighted,
    "least_busy": least_busy,
    "latency": latency,
    "cost": cost,
    "sticky": sticky,
}


def _draw(chance: float, weight: float) -> float:
    return math.log(max(chance, 1e-300)) / weight if weight else -math.inf


def _share(count: int, weight: float) -> float:
    return count / weight if weight else math.inf


def _hash(affinity: str, name: str) -> float:
    digest = blake2b(f"{affinity}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / (2**64 + 1)
