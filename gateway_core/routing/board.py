"""All that is known of the ways to models: their targets' states, the retry budget, and what is told of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import structlog

from gateway_core.call import Target
from gateway_core.config import Config
from gateway_core.errors import GatewayError
from gateway_core.routing.budget import RetryBudget
from gateway_core.routing.circuit import State
from gateway_core.routing.route import Place, Route, places
from gateway_core.routing.state import Limits, TargetState
from gateway_core.routing.trip import Means

NAMED_AT_MOST = 1000
"""Models that are not configured whose targets' states are kept."""
OTHERS_AT_MOST = 100
"""Targets that are not configured of which is told."""
ALARM_SECONDS = 60.0
"""So long nothing more is logged of what was logged of a target."""

NO_LIMITS = Limits()


class Told(NamedTuple):
    """What is told of one target."""

    provider: str
    model: str
    circuit: State


class Board:
    """Belongs to one event loop, whose clock it is given."""

    def __init__(
        self, config: Config, clock: Callable[[], float] = time.monotonic, random: Random | None = None
    ) -> None:
        """Takes the configuration, a clock in seconds that agrees with the event loop's, and its chances."""
        self._config = config
        self.clock = clock
        self._states: dict[tuple[str, str], TargetState] = {}
        self._routes: dict[str, Route] = {}
        self._alarmed_at: dict[str, float] = {}
        self._log = structlog.get_logger("headgate.routing").bind()
        self.budget = RetryBudget(config.routing.retry_budget, config.routing.retry_reserve)
        self.alarms: Counter[tuple[str, str]] = Counter()
        """How often a provider failed in a way that the operator must mend, by provider and reason."""
        self.hedges: Counter[tuple[str, str]] = Counter()
        """Second attempts beside slow first ones, by provider and what became of them: "won", "lost", "failed"."""
        self.means = Means(config.routing, self.budget, clock, random or Random(), self.alarm)
        for row in config.models.values():
            for target in row.targets:
                self._state(target.provider, target.model, limits_of(config, target.provider, target.model))
        self._configured = frozenset(self._states)

    def route(self, model: str) -> Route | None:
        """The way to a model's targets. None: nobody has asked for it yet."""
        return self._routes.get(model)

    def made_route(self, model: str, targets: tuple[Target, ...]) -> Route:
        """The way to the targets of a model, which is kept where it is configured, or there is room."""
        row = self._config.models.get(model)
        if row is None and len(self._routes) >= NAMED_AT_MOST + len(self._config.models):
            return self.unknown_route(targets)
        states = [self._state(target.provider, target.model, NO_LIMITS) for target in targets]
        route = self._routes[model] = Route(targets, places(targets, states, row), row)
        return route

    def unknown_route(self, targets: tuple[Target, ...]) -> Route:
        """The way to targets of which nothing is kept."""
        circuit = self._config.routing.circuit
        states = [TargetState(target.provider, target.model, circuit, NO_LIMITS, self.clock) for target in targets]
        return Route(targets, places(targets, states, None))

    def told(self) -> Iterator[Told]:
        """What is told of the configured targets, and of others that are in trouble; any thread may ask."""
        now, others = self.clock(), 0
        for key, state in list(self._states.items()):
            circuit = state.circuit.shown(now)
            if key not in self._configured:
                others += circuit != "closed"
                if circuit == "closed" or others > OTHERS_AT_MOST:
                    continue
            yield Told(state.provider, state.model, circuit)

    def is_served(self, model: str) -> bool | None:
        """Whether a configured model has a target whose circuit is not open. None: it is not configured."""
        row = self._config.models.get(model)
        if row is None:
            return None
        now = self.clock()
        states = (self._states[target.provider, target.model] for target in row.targets)
        return any(state.circuit.shown(now) != "open" for state in states)

    def configured(self) -> Iterator[TargetState]:
        """What is known of the targets that the configuration names."""
        return (self._states[key] for key in self._configured)

    def alarm(self, place: Place, error: GatewayError) -> None:
        """Counts, and from time to time logs, what the operator must mend."""
        state, now = place.state, self.clock()
        self.alarms[state.provider, error.word] += 1
        if now - self._alarmed_at.get(state.name, -ALARM_SECONDS) >= ALARM_SECONDS:
            if len(self._alarmed_at) > NAMED_AT_MOST:
                self._alarmed_at.clear()
            self._alarmed_at[state.name] = now
            status = error.metadata.get("upstream_status", "")
            self._log.error(
                "provider_alarm", provider=state.provider, model=state.model, reason=error.word, status=status
            )

    def count_hedge(self, place: Place, *, won: bool, failed: bool) -> None:
        """Counts a second attempt beside a slow first one."""
        self.hedges[place.state.provider, "won" if won else "failed" if failed else "lost"] += 1

    def _state(self, provider: str, model: str, limits: Limits) -> TargetState:
        state = self._states.get((provider, model))
        if state is None:
            state = TargetState(provider, model, self._config.routing.circuit, limits, self.clock)
            self._states[provider, model] = state
        return state


def limits_of(config: Config, provider: str, model: str) -> Limits:
    """The limits of a target: where several rows lead there, the lowest of each."""
    rows = [
        target
        for row in config.models.values()
        for target in row.targets
        if (target.provider, target.model) == (provider, model)
    ]
    return Limits(lowest([row.max_concurrent_calls for row in rows]), lowest([row.requests_per_minute for row in rows]))


def lowest(limits: Sequence[int | None]) -> int | None:
    """The lowest of limits. None: there is none."""
    return min((limit for limit in limits if limit is not None), default=None)
