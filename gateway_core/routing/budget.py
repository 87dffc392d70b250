"""How many attempts there may be beyond one for each call: so that retries do not bury a provider that fails."""

INTERVAL_SECONDS = 10.0
"""Where the calls of so long a time put in less than one token, there is one more: where calls are few, each of them
may be tried elsewhere."""

CAPACITY = 10
"""Tokens that are kept, times the reserve: what went well yesterday does not pay for a storm."""


class RetryBudget:
    """A bucket of tokens, one for each attempt beyond a call's first. Pure: who asks tells the time, in seconds.

    Each call puts in a part of a token. What is in at the beginning is lent: the first calls pay it back before they
    put in more. So there are at most as many attempts as calls times (1 + the part), once the reserve is paid back.
    """

    __slots__ = ("_began_at", "_lent", "_part", "_reserve", "_seen", "_seen_then", "_tokens", "calls", "refused")

    def __init__(self, part: float, reserve: int) -> None:
        """Takes what a call puts in, and how many tokens are lent."""
        self._part = part
        self._reserve = reserve
        self._tokens = float(reserve)
        self._lent = float(reserve)
        self._seen = 0
        self._seen_then = 0
        self._began_at = 0.0
        self.calls = 0
        """Calls that were begun: whoever begins one counts it here, which costs it an addition only."""
        self.refused = 0
        """How many attempts there was no token for."""

    def take(self, now: float) -> bool:
        """Takes a token; False, and none is taken, where there is none."""
        self._fill(now)
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True

    def left(self) -> float:
        """Tokens that are left, without what the last calls have put in; any thread may ask."""
        return self._tokens

    def _fill(self, now: float) -> None:
        came = (self.calls - self._seen) * self._part
        self._seen = self.calls
        paid = min(came, self._lent)
        self._lent -= paid
        self._tokens = min(self._tokens + (came - paid), float(max(1, CAPACITY * self._reserve)))
        if now - self._began_at >= INTERVAL_SECONDS:
            is_quiet = (self.calls - self._seen_then) * self._part < 1
            if is_quiet and self._part and self._tokens < 1:
                self._tokens += 1
            self._began_at, self._seen_then = now, self.calls
