"""What subjects had of limits in time, in this process: windows that begin at multiples of their length."""

from collections.abc import Sequence
from math import ceil
from typing import Literal, NamedTuple

from gateway_core.config_plan import WindowConfig
from gateway_core.errors import RateLimited
from gateway_core.limit_header import SECOND_US, counted, one_limit_headers

SUBJECTS_AT_MOST = 100_000
Measure = Literal["requests", "tokens"]


class Count(NamedTuple):
    """What a subject had in a window."""

    number: int
    """Of the window, since 1970."""
    requests: int
    tokens: int


NOTHING = Count(-1, 0, 0)


class Windows:
    """What subjects had, in windows that begin at multiples of their length."""

    def __init__(self, windows: Sequence[WindowConfig]) -> None:
        """Takes the limits of each subject."""
        self._windows = tuple(windows)
        self._counts: dict[str, list[Count]] = {}
        self._nothing = [NOTHING] * len(self._windows)

    def reached(self, subject: str, now: float, tokens: int = 0) -> "Reached | None":
        """The limit that a subject would pass with one more request of so many tokens. None: it may come."""
        for window, count in zip(self._windows, self._counts.get(subject, self._nothing), strict=True):
            _, requests, used = count if count.number == now // window.seconds else NOTHING
            if window.requests is not None and requests >= window.requests:
                return Reached(window, "requests", window.requests, 0, now)
            if window.input_tokens is not None and used + tokens > window.input_tokens:
                return Reached(window, "tokens", window.input_tokens, max(0, window.input_tokens - used), now)
        return None

    def count(self, subject: str, now: float, tokens: int = 0) -> None:
        """Counts one more request."""
        counts = self._counts.pop(subject, None) or self._nothing.copy()
        for position, window in enumerate(self._windows):
            number = int(now // window.seconds)
            before = counts[position]
            counts[position] = (
                Count(number, before.requests + 1, before.tokens + tokens)
                if before.number == number
                else Count(number, 1, tokens)
            )
        while len(self._counts) >= SUBJECTS_AT_MOST:
            del self._counts[next(iter(self._counts))]
        self._counts[subject] = counts  # at the end: who came last is forgotten last

    def withdraw(self, subject: str, then: float, tokens: int) -> None:
        """Counts a request no longer that came then: in the windows that have not ended since."""
        for position, count in enumerate(counts := self._counts.get(subject, [])):
            if count.number == then // self._windows[position].seconds:
                requests, left = max(0, count.requests - 1), max(0, count.tokens - tokens)
                counts[position] = count._replace(requests=requests, tokens=left)

    def correct(self, subject: str, then: float, more: int) -> None:
        """Counts more tokens, or fewer, for a request that came then: in the windows that have not ended since."""
        for position, count in enumerate(counts := self._counts.get(subject, [])):
            if count.number == then // self._windows[position].seconds:
                counts[position] = count._replace(tokens=max(0, count.tokens + more))


class Reached(NamedTuple):
    """A limit that is reached."""

    window: WindowConfig
    measure: Measure
    limit: int
    remaining: int
    now: float

    def refusal(self, whose: str) -> RateLimited:
        """Says which one, and how long to wait."""
        what = "request" if self.measure == "requests" else "input token"
        limit = f"{counted(self.limit, what)} per {self.window.seconds} s and {whose}"
        seconds = self.window.seconds - self.now % self.window.seconds
        told = one_limit_headers(self.measure, self.limit, self.remaining, int(seconds * SECOND_US))
        return RateLimited(
            f"A public key may be used for {limit}: try again in {counted(ceil(seconds), 'second')}.",
            retry_after_seconds=seconds,
            limit=limit,
            subject=whose,
            **dict(told),
        )
