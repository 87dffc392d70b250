"""What is done with each failure of an attempt: one table."""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from gateway_core.errors import (
    ContextTooLong,
    GatewayError,
    ProviderError,
    ProviderHungUp,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnauthorized,
    ProviderUnreachable,
)

FIRST_TOKEN = "first_token"
"""The phase of a ProviderTimeout for a first token that took longer than the model's row allows."""


class Failure(Enum):
    """What has happened to an attempt."""

    LIMITED_FOR = auto()
    """429, 503 or 529, and the provider tells how long to wait."""
    LIMITED = auto()
    """429 or 409, and it does not."""
    FAILED = auto()
    """500, 502, 503, 504, 529 and other statuses from 500, inside of an answer that began well too."""
    HUNG_UP = auto()
    """The connection ended before the headers."""
    UNREACHABLE = auto()
    """No connection."""
    BROKEN = auto()
    """An answer without sense, or one that broke off before its first token."""
    SILENT = auto()
    """Nothing came for as long as the provider's timeouts allow, or 408."""
    SLOW = auto()
    """The first token took longer than the model's row allows."""
    UNPAID = auto()
    """402, or 400, 403 or 429 for money: the provider wants some."""
    UNAUTHORIZED = auto()
    """401 or 403: the provider does not take the key."""
    UNIMPLEMENTED = auto()
    """501."""
    TOO_LONG = auto()
    """The prompt has more tokens than the model takes."""
    FILTERED = auto()
    """The provider will not answer what was asked."""
    REFUSED = auto()
    """Any other 4xx: the request is wrong."""


class Wait(Enum):
    """How long to wait before the same target is asked again."""

    NONE = auto()
    BACKOFF = auto()
    """Longer for each time, and by chance."""
    TOLD = auto()
    """As the provider says, where that is within the cap and the deadline; else the next target is asked."""


class Next(Enum):
    """Which other target is asked afterwards."""

    ANY = auto()
    LARGER = auto()
    """One that takes more tokens."""
    NONE = auto()


class Rule(NamedTuple):
    """What is done with a failure."""

    retries: int = 0
    """How many times the same target is asked again."""
    wait: Wait = Wait.NONE
    next: Next = Next.ANY
    breaks: bool = True
    """Whether it counts against the target's circuit."""
    alarms: bool = False
    """Whether the operator must do something."""
    is_targets_own: bool = False
    """Whether any process would meet it: an answer of the target's that speaks neither of the key that this process was
    given nor of its bill. A rate limit counts: replicas have the configuration's key in common, and so its limit."""


TABLE: Mapping[Failure, Rule] = {
    Failure.LIMITED_FOR: Rule(retries=1, wait=Wait.TOLD, breaks=False),
    Failure.LIMITED: Rule(retries=1, wait=Wait.BACKOFF, is_targets_own=True),
    Failure.FAILED: Rule(retries=1, wait=Wait.BACKOFF, is_targets_own=True),
    Failure.HUNG_UP: Rule(retries=1),
    Failure.UNREACHABLE: Rule(),
    Failure.BROKEN: Rule(),
    Failure.SILENT: Rule(),
    Failure.SLOW: Rule(),
    Failure.UNPAID: Rule(alarms=True),
    Failure.UNAUTHORIZED: Rule(alarms=True),
    Failure.UNIMPLEMENTED: Rule(breaks=False),
    Failure.TOO_LONG: Rule(next=Next.LARGER, breaks=False),
    Failure.FILTERED: Rule(next=Next.NONE, breaks=False),
    Failure.REFUSED: Rule(next=Next.NONE, breaks=False),
}
"""A target whose circuit has opened meanwhile is not asked again where there is another."""

STATUSES: Mapping[int, Failure] = {
    401: Failure.UNAUTHORIZED,
    402: Failure.UNPAID,
    403: Failure.UNAUTHORIZED,
    408: Failure.SILENT,
    409: Failure.LIMITED,
    424: Failure.FAILED,  # what runs the model behind the provider: Bedrock's ModelErrorException
    429: Failure.LIMITED,
    501: Failure.UNIMPLEMENTED,
}
MAY_BE_MONEY = frozenset({400, 403, 429})
MAY_TELL_HOW_LONG = frozenset({429, 503, 529})

UNPAID = re.compile(r"insufficient_(quota|balance)|credit_balance|billing|spend_limit", re.IGNORECASE)
OVERDRAWN = re.compile(
    r"credit balance is too low|specified api usage limits|please enable billing|used all available credits"
    r"|monthly spending limit|run out of credits",
    re.IGNORECASE,
)
"""What Anthropic (400), Google (400) and xAI (403, 429) say where the request is right and money is wanting."""

# Words for the two refusals that have no status of their own. Sources: OpenAI's error codes, Anthropic's errors,
# Gemini's and Bedrock's messages, llama.cpp's and vLLM's; Azure's content filter ("content_filter").
TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|string_above_max_length|model_max_prompt_tokens_exceeded"
    r"|(maximum|max|model'?s?) context|context (length|window|size)|prompt is too long|input is too long"
    r"|too many (input )?tokens|token count (.* exceeds|is \d+ but)|exceeds? the (maximum|available) .*(token|context)"
    r"|exceeds? (the )?(context|max(imum)? (prompt )?length)|max(imum)? prompt length|exceeded model token limit"
    r"|(input|`?inputs?`?) tokens (exceeded|\+ `max_new_tokens`)|tokens_limit_reached",
    re.IGNORECASE,
)
FILTERED = re.compile(
    r"content[ _-]?(policy|filter|management)|responsible ?ai|moderation|safety (system|filter|setting)"
    r"|flagged|prohibited[ _]content|blocked by .*(filter|polic)|guardrail",
    re.IGNORECASE,
)


def failure(error: GatewayError) -> Failure | None:
    """What a failure is. None: it is not the provider's, so that it ends the call."""
    if isinstance(error, ContextTooLong):
        return Failure.TOO_LONG
    if not isinstance(error, ProviderError):
        return None
    if isinstance(error, ProviderRefused):
        return refusal(error)
    if isinstance(error, ProviderTimeout):
        phase = error.metadata.get("phase")
        return {FIRST_TOKEN: Failure.SLOW, "connect": Failure.UNREACHABLE}.get(phase or "", Failure.SILENT)
    if isinstance(error, ProviderUnauthorized):
        return Failure.UNAUTHORIZED
    if isinstance(error, ProviderUnreachable):
        return Failure.UNREACHABLE
    return Failure.HUNG_UP if isinstance(error, ProviderHungUp) else Failure.BROKEN


def refusal(error: ProviderRefused) -> Failure:
    """What an answer with a status of 400 or more is."""
    status = int(error.metadata["upstream_status"])
    said = " ".join((error.metadata.get("upstream_code", ""), error.metadata.get("upstream_type", "")))
    if (status == 429 and UNPAID.search(said)) or (status in MAY_BE_MONEY and OVERDRAWN.search(error.message)):
        return Failure.UNPAID
    if status in MAY_TELL_HOW_LONG and error.retry_after_seconds is not None:
        return Failure.LIMITED_FOR
    if status in (400, 403, 413, 422, 451):
        if FILTERED.search(said) or (status in (403, 451) and FILTERED.search(error.message)):
            return Failure.FILTERED
        if TOO_LONG.search(said) or TOO_LONG.search(error.message):
            return Failure.TOO_LONG
        if FILTERED.search(error.message):
            return Failure.FILTERED
    return STATUSES.get(status) or (Failure.FAILED if status >= 500 else Failure.REFUSED)
