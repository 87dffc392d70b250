"""How often a client may do what costs the server more than itself."""

from collections.abc import Callable

from gateway_core.grpc_server.frames import ENHANCE_YOUR_CALM, ConnectionFault

SECONDS = 10.0
IDLE_FRAMES = 10_000
"""In that time: frames that carry nothing."""
FRAMES_PER_SENT = 10
"""More that may come for each time that the server sends something: a client widens windows as it reads."""
RESETS = 4_000
"""In that time: calls that are taken back, or that break a rule (CVE-2023-44487, CVE-2025-8671)."""
STRIKES_AT_MOST = 2
"""Pings that come too soon, between two answers (grpc/grpc, doc/keepalive.md)."""


class Allowance:
    """So many of a kind in some seconds, and more where the server has had something to send."""

    def __init__(self, clock: Callable[[], float], most: int, words: str) -> None:
        """Takes the loop's clock, how many there may be, and what a client is told that exceeds it."""
        self._clock = clock
        self._most = self._limit = most
        self._words = words
        self._count = 0
        self._began = clock()
        self._sent_before = 0

    def spend(self, sent_count: int = 0, times: int = 1) -> None:
        """Counts one, with how often the server has sent something; raises ConnectionFault where it is too many.

        Or so many.
        """
        self._count += times
        if self._count > self._limit:
            self._limit = self._most + FRAMES_PER_SENT * (sent_count - self._sent_before)
            now = self._clock()
            if now - self._began >= SECONDS:
                self._began, self._count, self._limit, self._sent_before = now, times, self._most, sent_count
            elif self._count > self._limit:
                raise ConnectionFault(ENHANCE_YOUR_CALM, self._words)


class PingAllowance:
    """A ping in so many seconds; the first after the server has sent something is free."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        """Takes the loop's clock and how far pings must be apart."""
        self._clock = clock
        self._seconds = seconds
        self._next = 0.0
        self._strikes = 0
        self._sent_before = 0

    def spend(self, sent_count: int) -> None:
        """Counts one, with how often the server has sent something; raises ConnectionFault where it is too many."""
        now = self._clock()
        if sent_count != self._sent_before:
            self._sent_before = sent_count
            self._next = self._strikes = 0
        if now < self._next:
            self._strikes += 1
            if self._strikes > STRIKES_AT_MOST:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "too_many_pings")
        self._next = now + self._seconds
