"""What is left of the limits of an account, in header fields."""

from collections.abc import Sequence

from gateway_core.limit_header import SECOND_US, Fields, Told, limit_fields
from gateway_core.metering.lease import SharedLimit


def limit_headers(limits: Sequence[tuple[str, SharedLimit]], now_us: int) -> Told:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}; takes limits with what they count, and the time.

    Of several windows the one of which the least is left is told.
    """
    tightest: dict[str, tuple[int, SharedLimit]] = {}
    for measure, limit in limits:
        left = limit.remaining(now_us)
        other = tightest.get(measure)
        if other is None or left < other[0]:
            tightest[measure] = (left, limit)
    told: list[tuple[str, str]] = []
    for measure, (left, limit) in tightest.items():
        from_us, until_us, fields = limit.told
        if fields is None or not from_us <= now_us < until_us:
            fields = told_anew(measure, limit, now_us)
        of_limit, key, of_reset = fields
        told += (of_limit, (key, str(left)), of_reset)
    return tuple(told)


def told_anew(measure: str, limit: SharedLimit, now_us: int) -> Fields:
    """The fields of a limit, beside what remains. They are kept for as long as they are true, which is a second."""
    reset_us = limit.window.reset_us(now_us)
    fields = limit_fields(measure, limit.window.limit, reset_us)
    seconds = -(-reset_us // SECOND_US)
    if seconds > 1:  # the last is told in milliseconds
        until_us = now_us + reset_us - (seconds - 1) * SECOND_US
        limit.told = (until_us - SECOND_US, until_us, fields)
    return fields
