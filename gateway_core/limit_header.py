"""What is left of a limit, in the header fields that OpenAI tells it in, and how sentences count.

https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
"""

from functools import lru_cache

SECOND_US = 1_000_000
SECONDS_AT_MOST = 256
"""Whose texts are kept: each call tells the same few."""

LIMITS_AT_MOST = 1024
"""Likewise, of plans, and of the seconds until their windows end."""

Told = tuple[tuple[str, str], ...]
Texts = tuple[str, str]
"""Of one limit: what it is, and when all of it is there again."""
KEYS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in ("requests", "tokens")
}


def one_limit_headers(measure: str, limit: int, remaining: int, reset_us: int) -> Told:
    """The three of one limit on "requests" or "tokens"; the time is until all of it is there again."""
    for_limit, for_remaining, for_reset = KEYS[measure]
    of_limit, of_reset = limit_texts(limit, reset_us)
    return (for_limit, of_limit), (for_remaining, str(remaining)), (for_reset, of_reset)


def limit_texts(limit: int, reset_us: int) -> Texts:
    """How one limit is told, of which so much remains as only the call itself can tell."""
    if reset_us > SECOND_US - 1000:
        return of_seconds(limit, -(-reset_us // SECOND_US))
    return str(limit), duration_text(reset_us)


@lru_cache(LIMITS_AT_MOST)
def of_seconds(limit: int, seconds: int) -> Texts:
    """How a limit is told that is there again in so many seconds."""
    return str(limit), seconds_text(seconds)


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
