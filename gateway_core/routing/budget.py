"""How many attempts there may be beyond one for each call: so that retries do not bury a provider that fails."""

REFILL_SECONDS = 10.0
"""After so long without any left there is one more, lent from the calls to come: where there are few, all find another
target."""


class RetryBudget:
    """A bucket of tokens, one for each attempt beyond a call's first. Pure: who asks tells the time, in seconds.

    Each call puts in a part of a token. What was in at the beginning, and what time has put in, is lent: the calls that
    follow pay it back before they put in more. So there are never more attempts than calls times (1 + the part), but
    for what is lent: at most the reserve.
    """

    __slots__ = ("_lent", "_part", "_refilled_at", "_reserve", "_seen", "_tokens", "calls", "refused")

    def __init__(self, part: float, reserve: int) -> None:
        """Takes what a call puts in, and how many tokens are lent at most."""
        self._part = part
        self._reserve = reserve
        self._tokens = float(reserve)
        self._lent = float(reserve)
        self._seen = 0
        self._refilled_at = 0.0
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

    def _pay(self) -> None:
        came = (self.calls - self._seen) * self._part
        self._seen = self.calls
        paid = min(came, self._lent)
        self._lent -= paid
        self._tokens = min(self._tokens + came - paid, max(self._tokens, 10.0 * self._reserve))

    def _fill(self, now: float) -> None:
        self._pay()
        if self._tokens < 1 and now - self._refilled_at >= REFILL_SECONDS and self._lent <= self._reserve - 1:
            self._refilled_at = now
            self._tokens += 1
            self._lent += 1
