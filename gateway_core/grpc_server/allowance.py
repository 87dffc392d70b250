"""How often a client may do what costs the server more than itself."""

from collections.abc import Callable

from gateway_core.grpc_server.frames import ENHANCE_YOUR_CALM, ConnectionFault

SECONDS = 10.0
IDLE_FRAMES = 10_000
"""In that time: frames that carry nothing."""
RESETS = 4_000
"""In that time: calls that are taken back, or that break a rule (CVE-2023-44487, CVE-2025-8671)."""
STRIKES_AT_MOST = 2
"""Pings that come too soon, between two answers (grpc/grpc, doc/keepalive.md)."""


class Allowance:
    """So many of a kind in some seconds."""

    def __init__(self, clock: Callable[[], float], most: int, words: str) -> None:
        """Takes the loop's clock, how many there may be, and what a client is told that exceeds it."""
        self._clock = clock
        self._most = most
        self._words = words
        self._count = 0
        self._began = 0.0

    def spend(self) -> None:
        """Counts one; raises ConnectionFault where it is one too many."""
        self._count += 1
        if self._count > self._most:
            now = self._clock()
            if now - self._began < SECONDS:
                raise ConnectionFault(ENHANCE_YOUR_CALM, self._words)
            self._began, self._count = now, 1


class PingAllowance:
    """A ping in so many seconds; those between answers of the server are free."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        """Takes the loop's clock and how far pings must be apart."""
        self._clock = clock
        self._seconds = seconds
        self._next = 0.0
        self._strikes = 0

    def spend(self, *, has_answered: bool) -> None:
        """Counts one; raises ConnectionFault where it is one too many."""
        now = self._clock()
        if has_answered:
            self._next = self._strikes = 0
        if now < self._next:
            self._strikes += 1
            if self._strikes > STRIKES_AT_MOST:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "too_many_pings")
        self._next = now + self._seconds
