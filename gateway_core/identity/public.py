"""What a public key may do: ask a gateway by its id, with few parameters, a few times."""

import re
import sys
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network
from math import ceil
from typing import Any, Literal, NamedTuple

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage

from gateway_core.call import Call
from gateway_core.config import PublicKeysConfig, WindowConfig
from gateway_core.errors import ContextTooLong, ParameterNotAllowed, PermissionDenied, RateLimited
from gateway_core.limit_header import SECOND_US, counted, one_limit_headers
from gateway_core.unsupported import extra_fields

GATEWAY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
FIELDS = frozenset(
    ["model", "messages", "temperature", "top_p", "top_k", "seed", "tools", "reasoning_effort", "max_completion_tokens"]
)
EXTRA = frozenset({"prompt", "stream", "idempotency_key"})
"""What may be sent beside and has no field of its own in every version of the contract."""
INSTRUCTING = frozenset({message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER})
SUBJECTS_AT_MOST = 100_000
ONLY_CHAT = "A public key may only call chat completions."


def check_public(call: Call[Any]) -> None:
    """Raises PermissionDenied, ParameterNotAllowed."""
    if call.operation.name != "chat":
        raise PermissionDenied(ONLY_CHAT)
    if not GATEWAY_ID.fullmatch(call.model):
        raise PermissionDenied("A public key may only ask a gateway, by its full id.", param="model")
    for field, _ in call.request.ListFields():
        if field.name not in FIELDS and field.name not in ("extra_json", "extra_format"):
            refuse(field.name)
    check_roles(call.request.messages)
    if "x-headgate-tag" in call.metadata:
        refuse("x-headgate-tag")
    if call.request.extra_json:
        for name in extra_fields(call.request.extra_json):
            if name not in EXTRA:
                refuse(name)


def check_roles(messages: Iterable[ChatMessage]) -> None:
    """Raises ParameterNotAllowed: what a gateway is told to do is its owner's."""
    for index, message in enumerate(messages):
        if message.role in INSTRUCTING:
            path = f"messages[{index}].role"
            sentence = f"{path} may not be system or developer with a public key: the gateway has its own instructions."
            raise ParameterNotAllowed(sentence, param=path)


def refuse(name: str) -> None:
    """Raises ParameterNotAllowed."""
    raise ParameterNotAllowed(f"{name[:200]} may not be sent with a public key.", param=name[:200])


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

    def correct(self, subject: str, then: float, more: int) -> None:
        """Counts more tokens, or fewer, for a request that came then: in the windows that have not ended since."""
        for position, count in enumerate(counts := self._counts.get(subject, [])):
            if count.number == then // self._windows[position].seconds:
                counts[position] = count._replace(tokens=max(0, count.tokens + more))


class Reached(NamedTuple):
    """A limit that is reached."""

    window: WindowConfig
    measure: Literal["requests", "tokens"]
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


class Use:
    """A call that was admitted."""

    __slots__ = ("at", "subjects", "tokens")

    def __init__(self, subjects: tuple[str, str], at: float, tokens: int) -> None:
        """Takes what it is counted under, when it came, and its tokens by the estimate."""
        self.subjects = subjects
        self.at = at
        self.tokens = tokens


def network(address: str) -> str:
    """What is counted as one address: of IPv6 a network of 64 bits, which one customer has for itself (RFC 6177)."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed) >> 64 << 64, 64)))


class PublicLimits:
    """The windows of public keys, in this process."""

    def __init__(self, config: PublicKeysConfig) -> None:
        """Takes the limits."""
        self._per_address = Windows(config.per_address)
        self._per_key = Windows(config.per_key)
        windows = (*config.per_address, *config.per_key)
        limits = [window.input_tokens for window in windows if window.input_tokens is not None]
        self.counts_tokens = bool(limits)
        """Whether input tokens are limited too."""
        self._tokens_at_most = min(limits, default=sys.maxsize)

    def admit(self, key_id: str, address: str, now: float | None = None, *, tokens: int = 0) -> Use:
        """Counts a call; raises RateLimited, and counts nothing, where it is one too many. Time in seconds.

        Takes its input tokens as estimated; raises ContextTooLong where no window has so many.
        """
        now = time.time() if now is None else now
        subjects = (f"{key_id} {network(address)}", key_id)
        both = (self._per_address, self._per_key)
        if tokens > self._tokens_at_most:
            raise ContextTooLong(
                f"The prompt has about {tokens} tokens; a public key may be used for {self._tokens_at_most} at once.",
                param="messages",
                limit=str(self._tokens_at_most),
                input_tokens=str(tokens),
            )
        for windows, subject, whose in zip(both, subjects, ("address", "key"), strict=True):
            reached = windows.reached(subject, now, tokens)
            if reached is not None:
                raise reached.refusal(whose)
        for windows, subject in zip(both, subjects, strict=True):
            windows.count(subject, now, tokens)
        return Use(subjects, now, tokens)

    def correct(self, use: Use, tokens: int) -> None:
        """Counts the tokens that a call had, in place of the estimate: in windows that have not ended since."""
        more, use.tokens = tokens - use.tokens, tokens
        for windows, subject in zip((self._per_address, self._per_key), use.subjects, strict=True):
            windows.correct(subject, use.at, more)
