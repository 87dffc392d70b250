"""The way to the targets of one model: what the configuration says of it, and what is known of each target."""

import math
from collections.abc import Sequence
from copy import copy
from random import Random
from typing import Any, NamedTuple

from gateway_core.call import Call, Target
from gateway_core.config import ModelConfig, PriceConfig, TargetConfig
from gateway_core.errors import InvalidRequest
from gateway_core.routing.state import TargetState
from gateway_core.routing.strategy import ORDERS, Asking, Choice

REGION = "x-headgate-region"
TAG = "x-headgate-target-tag"
SESSION = "x-headgate-session"
"""Keys of a call's metadata: where it must be answered, and what it goes with."""

OUTPUT_SHARE = 3
"""As many times the price of the prompt counts beside that of the answer: prompts are longer."""


class Place(NamedTuple):
    """One target of a model."""

    target: Target
    choice: Choice
    region: str | None = None
    tag: str | None = None
    context_length: int | None = None

    @property
    def state(self) -> TargetState:
        """What is known of it."""
        return self.choice.state


class Route:
    """The targets of a model."""

    __slots__ = (
        "_order", "awaits_token", "first_token_seconds", "hedges", "hold_seconds", "is_alone",
        "is_plain", "places", "state", "sticky_by", "targets",
    )  # fmt: skip

    def __init__(self, targets: tuple[Target, ...], places: Sequence[Place], row: ModelConfig | None = None) -> None:
        """Takes the targets and their places, in the order of the configuration, and the model's row, if it has one."""
        self.targets = targets
        self.places = tuple(places)
        self.state = self.places[0].state
        """That of the first target."""
        strategy = row.strategy if row else "ordered"
        self._order = ORDERS[strategy]
        self.sticky_by = row.sticky_by if row and strategy == "sticky" else ()
        self.first_token_seconds = row.first_token_seconds if row else None
        self.hold_seconds = row.hold_back_seconds if row else 0.0
        self.hedges = bool(row and row.hedge and len(self.places) > 1)
        self.awaits_token = bool(
            self.hedges or self.hold_seconds or self.first_token_seconds is not None or strategy == "latency"
        )
        """Whether a stream counts as open only once there is a first token."""
        self.is_alone = len(self.places) == 1
        is_limited = any(each is not None for each in self.state.limits)
        self.is_plain = not is_limited and not self.awaits_token and (self.is_alone or strategy == "ordered")
        """Whether there is nothing to decide until something fails: the first target is the first choice."""

    def without(self, targets: Sequence[Target], call: Call[Any]) -> "Route | None":
        """The way past some targets. None: there are no others that the call may go to."""
        places = self._asked_for(call) if REGION in call.metadata or TAG in call.metadata else self.places
        left = tuple(place.target for place in places if place.target in self.targets and place.target not in targets)
        if not left:
            return None
        other = copy(self)
        other.targets, other.is_plain = left, False
        return other

    def in_order(self, call: Call[Any], now: float, random: Random) -> list[Place]:
        """The targets, the first to be tried first; raises InvalidRequest where the call asks for none of them."""
        places = self.places
        if REGION in call.metadata or TAG in call.metadata:
            places = self._asked_for(call)
        if len(self.targets) < len(self.places):
            places = tuple(place for place in places if place.target in self.targets)
        if len(places) == 1:
            return [places[0]]
        affinity = self._affinity(call) if self.sticky_by else ""
        asking = Asking(now, call.stream, random, affinity)
        return [self.places[each.place] for each in self._order([place.choice for place in places], asking)]

    def _asked_for(self, call: Call[Any]) -> tuple[Place, ...]:
        region, tag = call.metadata.get(REGION), call.metadata.get(TAG)
        places = self.places
        if region is not None:
            places = tuple(place for place in places if place.region == region)
        if tag is not None:
            places = tuple(place for place in places if place.tag == tag)
        if not places:
            param = REGION if region is not None else TAG
            asked = " and ".join(repr(each[:64]) for each in (region, tag) if each is not None)
            raise InvalidRequest(f"The model has no target in {asked}, which {param} asks for.", param=param)
        return places

    def _affinity(self, call: Call[Any]) -> str:
        for by in self.sticky_by:
            given = call.metadata.get(SESSION, "") if by == "session" else ""
            affinity = given or call.operation.affinity(call.request, by)
            if affinity:
                return affinity
        return ""


def places(targets: Sequence[Target], states: Sequence[TargetState], row: ModelConfig | None) -> list[Place]:
    """The places of targets; those of a row are in its order."""
    rows: Sequence[TargetConfig | None] = row.targets if row else [None] * len(targets)
    made: list[Place] = []
    for index, (target, state, each) in enumerate(zip(targets, states, rows, strict=True)):
        length = row.context_length if row else None
        if each is None:
            made.append(Place(target, Choice(index, state), context_length=length))
            continue
        choice = Choice(index, state, each.weight, price_of(each.price))
        made.append(Place(target, choice, each.region, each.tag, each.context_length or length))
    return made


def price_of(price: PriceConfig | None) -> float:
    """One number to compare prices by, US dollars for a million tokens; infinite where nothing is known."""
    if price is None or (price.input_per_million is None and price.output_per_million is None):
        return math.inf
    return OUTPUT_SHARE * float(price.input_per_million or 0) + float(price.output_per_million or 0)
