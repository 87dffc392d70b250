"""What is known of one target, whichever models lead there: its circuit, how busy it is, how long it takes."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gateway_core.config import CircuitConfig
from gateway_core.errors import GatewayError
from gateway_core.routing.circuit import Circuit
from gateway_core.routing.failure import TABLE, Failure, failure
from gateway_core.routing.latency import PeakAverage, Percentile

MINUTE = 60.0
REST_AT_MOST = 25.0
"""Seconds for which a target is left alone because it told us to: so that one which is well again is soon used."""
TRY_SECONDS = 1.0
LOST_AT_MOST = 6


class Limits(NamedTuple):
    """Most that a target is asked for, by this process. None: no limit."""

    concurrent_calls: int | None = None
    requests_per_minute: int | None = None


class TargetState:
    """Of one model of one provider. Who asks tells the time, in seconds of the event loop's clock."""

    __slots__ = (
        "_asked_at", "_clock", "circuit", "first_token", "in_flight", "last_failure", "limits", "lost_count", "model",
        "percentile", "provider", "rests_until", "whole",
    )  # fmt: skip

    def __init__(
        self, provider: str, model: str, config: CircuitConfig, limits: Limits, clock: Callable[[], float]
    ) -> None:
        """Takes what it is called, its limits, and the clock that everybody else asks."""
        self._clock = clock
        self.provider = provider
        self.model = model
        self.limits = limits
        self.circuit = Circuit(config)
        self.in_flight = 0
        """Attempts that have begun and not ended."""
        self.rests_until = 0.0
        """Until when it has told that it should be left alone. 0: it has not."""
        self.first_token = PeakAverage()
        """Of streamed answers."""
        self.whole = PeakAverage()
        """Of others: how long they took."""
        self.percentile = Percentile()
        """Of the time to the first token."""
        self.lost_count = 0
        """How many times in a row it has lost a race in which it was to show whether it is well again."""
        self.last_failure: Failure | None = None
        """Of those that count against its circuit."""
        self._asked_at: deque[float] = deque()

    @property
    def name(self) -> str:
        """As calls name it: "provider/model"."""
        return f"{self.provider}/{self.model}"

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has failed lately, and nothing speaks against it."""
        return self.circuit.is_quiet and not self.rests_until

    def is_ready(self, now: float) -> bool:
        """Whether a call may go there, and there is no reason to rather go elsewhere."""
        if self.rests_until and now >= self.rests_until:
            self.rests_until = 0.0
        return not self.rests_until and self.circuit.may_pass(now) and self.has_room(now)

    def has_room(self, now: float) -> bool:
        """Whether its limits allow one more."""
        concurrent, per_minute = self.limits
        if concurrent is not None and self.in_flight >= concurrent:
            return False
        if per_minute is None:
            return True
        asked = self._asked_at
        while asked and asked[0] <= now - MINUTE:
            asked.popleft()
        return len(asked) < per_minute

    def room_in(self, now: float) -> float:
        """Seconds until its limits may allow one more; 1 where nobody can know."""
        per_minute = self.limits.requests_per_minute
        asked = self._asked_at
        if per_minute is not None and len(asked) >= per_minute:
            return max(1.0, asked[0] + MINUTE - now)
        return 1.0

    def begin(self, now: float) -> None:
        """Tells that an attempt begins; it must be given to `ended`."""
        self.in_flight += 1
        self.circuit.passes(now)
        if self.limits.requests_per_minute is not None:
            self._asked_at.append(now)

    def opened(self, now: float, took: float, *, stream: bool) -> None:
        """Tells that an attempt has opened, and how long that took."""
        self.circuit.succeeded(now)
        self.lost_count = 0
        if stream:
            self.first_token.add(took, now)
            self.percentile.add(took)
        else:
            self.whole.add(took, now)

    def ended(self, error: BaseException | None) -> None:
        """Tells how an attempt ended, now."""
        if self.in_flight:
            self.in_flight -= 1
        if error is None:
            return
        what = failure(error) if isinstance(error, GatewayError) else None
        if what is not None and TABLE[what].breaks:
            self.last_failure = what
            self.circuit.failed(self._clock(), is_targets_own=TABLE[what].is_targets_own)
        else:
            self.circuit.left()

    def lose(self) -> None:
        """Tells that another target was faster: where it was to show whether it is well again, it has not."""
        if self.circuit.state == "half_open":
            self.circuit.failed(self._clock())
            self.lost_count = min(self.lost_count + 1, LOST_AT_MOST)

    def patience(self, *, hedges: bool) -> float | None:
        """Seconds after which another target is asked beside it. None: none is.

        Who tries one that has failed is not to wait long where it is silent; nor must one that is slow lose each time.
        """
        usual = self.percentile.value
        if self.circuit.state == "closed":
            return usual if hedges else None
        return max(TRY_SECONDS, 2 * (usual or 0.0)) * float(1 << self.lost_count)

    def rest(self, seconds: float, now: float) -> None:
        """Leaves it alone for some time, where there is another."""
        self.rests_until = max(self.rests_until, now + min(seconds, REST_AT_MOST))

    def cost(self, now: float, *, stream: bool) -> float:
        """What one more call would have to expect, in seconds times calls: peak EWMA times how many would be there."""
        average = self.first_token if stream else self.whole
        return average.value(now) * (self.in_flight + 1)
