"""What is left of the limits of an account, in header fields."""

from collections.abc import Sequence

from gateway_core.limit_header import Told, one_limit_headers
from gateway_core.metering.lease import SharedLimit


def limit_headers(limits: Sequence[tuple[str, SharedLimit]], now_us: int) -> Told:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}; takes limits with what they count, and the time.

    Of several windows the one of which the least is left is told.
    """
    tightest: dict[str, tuple[int, SharedLimit]] = {}
    for measure, limit in limits:
        left = limit.remaining(now_us)
        if measure not in tightest or left < tightest[measure][0]:
            tightest[measure] = (left, limit)
    told: Told = ()
    for measure, (left, limit) in tightest.items():
        told += one_limit_headers(measure, limit.window.limit, left, limit.window.reset_us(now_us))
    return told
