"""What is left of an account's limits, in the header fields that OpenAI tells it in.

https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
"""

from collections.abc import Sequence

from gateway_core.metering.lease import SharedLimit
from gateway_core.metering.window import SECOND_US

Told = tuple[tuple[str, str], ...]
KEYS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in ("requests", "tokens")
}


def limit_headers(limits: Sequence[tuple[str, SharedLimit]], now_us: int) -> Told:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}; takes limits with what they count, and the time.

    Of several windows the one of which the least is left is told.
    """
    tightest: dict[str, tuple[int, SharedLimit]] = {}
    for measure, limit in limits:
        left = limit.remaining(now_us)
        before = tightest.get(measure)
        if before is None or left < before[0]:
            tightest[measure] = (left, limit)
    told: list[tuple[str, str]] = []
    for measure, (left, limit) in tightest.items():
        told += one_limit_headers(measure, limit.window.limit, left, limit.window.reset_us(now_us))
    return tuple(told)


def one_limit_headers(measure: str, limit: int, remaining: int, reset_us: int) -> Told:
    """The three of one limit; the time is until all of it is there again."""
    of_limit, of_remaining, of_reset = KEYS[measure]
    return (of_limit, str(limit)), (of_remaining, str(remaining)), (of_reset, duration_text(reset_us))


def duration_text(microseconds: int) -> str:
    """A time in the form that OpenAI's headers have: "6m0s", "1s", "120ms"; rounded up to seconds from one on."""
    if microseconds <= SECOND_US - 1000:
        return f"{-(-microseconds // 1000)}ms"
    minutes, seconds = divmod(-(-microseconds // SECOND_US), 60)
    if not minutes:
        return f"{seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"
