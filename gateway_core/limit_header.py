"""What is left of a limit, in the header fields that OpenAI tells it in, and how sentences count.

https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
"""

from functools import lru_cache

SECOND_US = 1_000_000
SECONDS_AT_MOST = 256
"""Whose texts are kept: each call tells the same few."""

FIELDS_AT_MOST = 1024
"""Likewise, of plans, and of the seconds until their windows end."""

Told = tuple[tuple[str, str], ...]
Fields = tuple[tuple[str, str], str, tuple[str, str]]
"""Of one limit: what it is, the key of what remains of it, and when all of it is there again."""
KEYS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in ("requests", "tokens")
}


def one_limit_headers(measure: str, limit: int, remaining: int, reset_us: int) -> Told:
    """The three of one limit on "requests" or "tokens"; the time is until all of it is there again."""
    of_limit, key, of_reset = limit_fields(measure, limit, reset_us)
    return of_limit, (key, str(remaining)), of_reset


def limit_fields(measure: str, limit: int, reset_us: int) -> Fields:
    """Those of one limit, of which so much remains as only the call itself can tell."""
    if reset_us > SECOND_US - 1000:
        return of_seconds(measure, limit, -(-reset_us // SECOND_US))
    return fields(measure, limit, duration_text(reset_us))


@lru_cache(FIELDS_AT_MOST)
def of_seconds(measure: str, limit: int, seconds: int) -> Fields:
    """The fields of a limit that is there again in so many seconds."""
    return fields(measure, limit, seconds_text(seconds))


def fields(measure: str, limit: int, reset: str) -> Fields:
    """The field that tells a limit, the key of that of what remains, and the field that tells when it is all there."""
    for_limit, for_remaining, for_reset = KEYS[measure]
    return (for_limit, str(limit)), for_remaining, (for_reset, reset)


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
