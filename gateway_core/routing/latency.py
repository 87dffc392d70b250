"""How long a target takes to its first token: what it took lately, and what it takes in 95 of 100 calls."""

import math
from collections import deque

DECAY_SECONDS = 10.0
KEPT = 128
KNOWN_FROM = 20
"""As many must have been measured before the 95th percentile means anything."""
EVERY = 8
"""After so many it is made anew."""
PERCENTILE = 0.95


class PeakAverage:
    """A moving average that rises at once and falls slowly, and falls while nobody asks too: peak EWMA.

    As in Finagle's load balancers ("Aperture + Peak EWMA"); in seconds, as are the times that it is told.
    """

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        """Begins at nothing: what was never measured is tried first."""
        self._value = 0.0
        self._at = 0.0

    def add(self, seconds: float, now: float) -> None:
        """Takes what a call took."""
        value = self.value(now)
        self._value = seconds if seconds > value else value + (seconds - value) * (1 - self._weight(now))
        self._at = now

    def value(self, now: float) -> float:
        """What it is now."""
        return self._value * self._weight(now)

    def _weight(self, now: float) -> float:
        return math.exp((self._at - now) / DECAY_SECONDS) if now > self._at else 1.0


class Percentile:
    """The 95th of the last measures."""

    __slots__ = ("_count", "_kept", "value")

    def __init__(self) -> None:
        """Begins without any."""
        self._kept: deque[float] = deque(maxlen=KEPT)
        self._count = 0
        self.value: float | None = None
        """None: too few were measured."""

    def add(self, seconds: float) -> None:
        """Takes what a call took."""
        self._kept.append(seconds)
        self._count += 1
        if self._count >= KNOWN_FROM and (self.value is None or self._count % EVERY == 0):
            self.value = sorted(self._kept)[math.ceil(PERCENTILE * len(self._kept)) - 1]
