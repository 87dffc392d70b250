"""What is left of a limit, in the header fields that OpenAI tells it in, and how sentences count.

https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
"""

from functools import lru_cache

SECOND_US = 1_000_000
SECONDS_AT_MOST = 256
"""Whose texts are kept: each call tells the same few."""

LIMITS_AT_MOST = 256
"""Likewise, of plans."""

Told = tuple[tuple[str, str], ...]
KEYS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in ("requests", "tokens")
}


def one_limit_headers(measure: str, limit: int, remaining: int, reset_us: int) -> Told:
    """The three of one limit on "requests" or "tokens"; the time is until all of it is there again."""
    pair, of_remaining, of_reset = pair_and_keys(measure, limit)
    return pair, (of_remaining, str(remaining)), (of_reset, duration_text(reset_us))


@lru_cache(LIMITS_AT_MOST)
def pair_and_keys(measure: str, limit: int) -> tuple[tuple[str, str], str, str]:
    """The header field that tells a limit, and the keys of the others."""
    of_limit, of_remaining, of_reset = KEYS[measure]
    return (of_limit, str(limit)), of_remaining, of_reset


def counted(number: int, what: str) -> str:
    """A number of things, as a sentence has it: "1 request", "2 requests"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def duration_text(microseconds: int) -> str:
    """A time in the form that OpenAI's headers have: "6m0s", "1s", "120ms"; rounded up to seconds from one on."""
    if microseconds <= SECOND_US - 1000:
        return f"{-(-microseconds // 1000)}ms"
    return seconds_text(-(-microseconds // SECOND_US))


@lru_cache(SECONDS_AT_MOST)
def seconds_text(seconds: int) -> str:
    """Whole seconds in that form."""
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return f"{seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"
