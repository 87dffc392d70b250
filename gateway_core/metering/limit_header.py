"""What is left of the limits of an account, in header fields."""

from collections.abc import Callable, Sequence

from gateway_core.limit_header import KEYS, SECOND_US, Texts, Told, limit_texts
from gateway_core.metering.lease import SharedLimit


class LimitsLeft:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens} of one account, whose limits are always the same.

    Of several windows the one of which the least is left is told.
    """

    __slots__ = ("_measures", "_now_us", "keys")

    def __init__(self, limits: Sequence[tuple[str, SharedLimit]], now_us: Callable[[], int]) -> None:
        """Takes the limits with what they count, and the clock."""
        of_measure: dict[str, list[SharedLimit]] = {}
        for measure, limit in limits:
            of_measure.setdefault(measure, []).append(limit)
        self._measures = tuple(of_measure.values())
        self._now_us = now_us
        self.keys = tuple([key for measure in of_measure for key in KEYS[measure]])
        """The names of the fields."""

    def values(self) -> list[str]:
        """What the fields say now."""
        return self.values_at(self._now_us())

    def values_at(self, now_us: int) -> list[str]:
        """What they say at a time."""
        values: list[str] = []
        for limits in self._measures:
            limit = limits[0] if len(limits) == 1 else tightest(limits, now_us)
            from_us, until_us, texts = limit.told
            if from_us <= now_us < until_us:
                left = limit.left()
            else:
                texts, left = told_anew(limit, now_us), limit.remaining(now_us)
            values += (texts[0], str(left), texts[1])
        return values

    def headers(self, now_us: int) -> Told:
        """Both, as pairs."""
        return tuple(zip(self.keys, self.values_at(now_us), strict=True))


def tightest(limits: Sequence[SharedLimit], now_us: int) -> SharedLimit:
    """The limit of which the least is left, the first of several."""
    return min(limits, key=lambda limit: limit.remaining(now_us))


def told_anew(limit: SharedLimit, now_us: int) -> Texts:
    """How a limit is told, beside what remains. It is kept for as long as it is true, which is a second.

    Not so of a window that is over: nobody has begun the next one yet.
    """
    reset_us = limit.window.reset_us(now_us)
    texts = limit_texts(limit.window.limit, reset_us)
    seconds = -(-reset_us // SECOND_US)
    if seconds > 1 and not limit.window.is_over(now_us):  # the last is told in milliseconds
        until_us = now_us + reset_us - (seconds - 1) * SECOND_US
        limit.told = (until_us - SECOND_US, until_us, texts)
    return texts
