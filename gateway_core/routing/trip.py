"""The way of one call from target to target: what is tried first, and what after each failure."""

from collections.abc import Callable
from math import ceil
from random import Random
from typing import Any, NamedTuple

from gateway_core.call import Call
from gateway_core.config import RoutingConfig
from gateway_core.errors import ConcurrencyLimited, GatewayError
from gateway_core.limit_header import counted
from gateway_core.routing.budget import RetryBudget
from gateway_core.routing.failure import TABLE, Failure, Next, Rule, Wait, failure
from gateway_core.routing.route import Place, Route

TWO = 2.0
"""Tokens: one for the same target, and one for the next."""


class Means(NamedTuple):
    """What all trips have in common."""

    config: RoutingConfig
    budget: RetryBudget
    clock: Callable[[], float]
    """The event loop's, in seconds."""
    random: Random
    alarm: Callable[[Place, GatewayError], None]
    """Told of what the operator must mend."""


class Step(NamedTuple):
    """What is tried."""

    place: Place
    wait_seconds: float = 0.0
    """Before it."""


class Trip:
    """Of one call; it ends when a step opens, or there is none."""

    __slots__ = ("_call", "_least_tokens", "_left", "_means", "_retries", "route")

    def __init__(self, means: Means, route: Route, call: Call[Any]) -> None:
        """Takes the call, whose targets are the route's."""
        self._means = means
        self._call = call
        self.route = route
        self._left = route.in_order(call, means.clock(), means.random)
        self._retries = 0
        """How many times the present target was asked again."""
        self._least_tokens: int | None = None
        """What the next target must take more of."""

    @property
    def has_next(self) -> bool:
        """Whether there is another target to try."""
        return any(self._is_fit(place) for place in self._left)

    def first(self) -> Step:
        """The first step; raises ConcurrencyLimited where every target is at its limits."""
        step = self._next()
        if step is None:
            raise self._full()
        self._left.remove(step.place)
        return step

    def began(self) -> Place:
        """The target that was asked before there was a trip: the first in the order of a route that is plain."""
        return self._left.pop(0)

    def after(self, place: Place, error: GatewayError) -> Step | None:
        """The step after a failed one, whose end the target's state was told already. None: the call fails with it."""
        what = failure(error)
        if what is None:
            return None
        rule = TABLE[what]
        now = self._means.clock()
        self.note(place, error)
        is_last_token = self._means.budget.left() < TWO and self.has_next and rule.next is not Next.NONE
        # Where one attempt more can be paid for it goes to a target that has not failed.
        step = None if is_last_token else self._again(place, rule, error, now)
        if step is None and rule.next is not Next.NONE:
            step = self._next()
        if step is None or self._is_late(now + step.wait_seconds) or not self._means.budget.take(now):
            return None
        if step.place is not place:
            self._left.remove(step.place)
            self._retries = 0
        else:
            self._retries += 1
        return step

    def past(self) -> Step | None:
        """The step after a target that cannot take the request, while others may. None: the call fails."""
        now = self._means.clock()
        step = self._next()
        if step is None or self._is_late(now) or not self._means.budget.take(now):
            return None
        self._left.remove(step.place)
        self._retries = 0
        return step

    def note(self, place: Place, error: GatewayError) -> None:
        """Takes note of what a failure says of its target, and of the others."""
        what = failure(error)
        if what is None:
            return
        rule = TABLE[what]
        if rule.alarms:
            self._means.alarm(place, error)
        if what is Failure.LIMITED_FOR:
            place.state.rest(error.retry_after_seconds or 0.0, self._means.clock())
        if rule.next is Next.LARGER:
            self._least_tokens = max(self._least_tokens or 0, place.context_length or 0) or None
            self._left = [] if self._least_tokens is None else self._left

    def beside(self) -> Step | None:
        """A second step while the first is on its way. None: there is no target that is well, or no budget."""
        now = self._means.clock()
        ready = next((place for place in self._left if self._is_fit(place) and place.state.is_ready(now)), None)
        if ready is None or ready.state.circuit.state != "closed" or not self._means.budget.take(now):
            return None
        self._left.remove(ready)
        return Step(ready)

    def _again(self, place: Place, rule: Rule, error: GatewayError, now: float) -> Step | None:
        if self._retries >= rule.retries or not place.state.has_room(now):
            return None
        if place.state.circuit.state != "closed" and self.has_next:
            return None
        wait = 0.0
        if rule.wait is Wait.BACKOFF:
            wait = self._means.config.backoff_seconds * (0.5 + 0.5 * self._means.random.random())
        elif rule.wait is Wait.TOLD:
            wait = error.retry_after_seconds or 0.0
            if wait > self._means.config.retry_after_at_most_seconds:
                return None
        if self._is_late(now + wait) and self.has_next:
            return None
        return Step(place, wait)

    def _next(self) -> Step | None:
        """The first target that is ready; where none is, the one that was shut out first, rather than failing."""
        now = self._means.clock()
        fit = [place for place in self._left if self._is_fit(place)]
        for place in fit:
            if place.state.is_ready(now):
                return Step(place)
        shut = [place for place in fit if place.state.has_room(now)]
        if not shut:
            return None
        return Step(min(shut, key=lambda place: (place.state.rests_until > now, place.state.circuit.opened_at)))

    def _is_fit(self, place: Place) -> bool:
        least = self._least_tokens
        return least is None or (place.context_length is not None and place.context_length > least)

    def _is_late(self, at: float) -> bool:
        return self._call.deadline is not None and at >= self._call.deadline

    def _full(self) -> ConcurrencyLimited:
        now = self._means.clock()
        seconds = min(place.state.room_in(now) for place in self._left)
        return ConcurrencyLimited(
            f"All targets of the model are at their limits: try again in {counted(ceil(seconds), 'second')}.",
            retry_after_seconds=seconds,
            limit="targets",
        )
