"""What a public key may do: ask a gateway by its id, with few parameters, a few times."""

import re
import sys
import time
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage

from gateway_core.call import Call
from gateway_core.config_plan import PublicKeysConfig
from gateway_core.errors import ContextTooLong, ParameterNotAllowed, PermissionDenied, RateLimited
from gateway_core.identity.public_share import KeyShares, Taken
from gateway_core.identity.public_window import Windows
from gateway_core.unsupported import extra_fields

GATEWAY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
FIELDS = frozenset(
    ["model", "messages", "temperature", "top_p", "top_k", "seed", "tools", "reasoning_effort", "max_completion_tokens"]
)
EXTRA = frozenset({"prompt", "stream", "idempotency_key"})
"""What may be sent beside and has no field of its own in every version of the contract."""
INSTRUCTING = frozenset({message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER})
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


class Use:
    """A call that was admitted."""

    __slots__ = ("at", "subjects", "taken", "tokens")

    def __init__(self, subjects: tuple[str, str], at: float, tokens: int) -> None:
        """Takes what it is counted under, when it came, and its tokens by the estimate."""
        self.subjects = subjects
        self.at = at
        self.tokens = tokens
        self.taken: list[Taken] = []
        """Of the key's windows over all processes."""


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
    """The windows of public keys, in this process; those of keys as a whole over all processes, too.

    Those of addresses are of one process: whoever knows a public key could else have rows written for each address that
    he has, and of small limits every call would wait for the store.
    """

    def __init__(self, config: PublicKeysConfig, shares: KeyShares | None = None) -> None:
        """Takes the limits, and who counts those of keys for all processes."""
        self.shares = shares
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

    def refusal(self, key_id: str, address: str) -> RateLimited | None:
        """What one more call would be refused with, as far as that is known without asking anybody. Counts nothing."""
        now, tokens = time.time(), 1 if self.counts_tokens else 0
        for windows, subject, whose in (
            (self._per_address, f"{key_id} {network(address)}", "address"),
            (self._per_key, key_id, "key"),
        ):
            reached = windows.reached(subject, now, tokens)
            if reached is not None:
                return reached.refusal(whose)
        return None if self.shares is None else self.shares.refusal(key_id)

    async def share(self, use: Use, shares: KeyShares) -> None:
        """Counts an admitted call for all processes; raises RateLimited, and counts it nowhere, if it is too many."""
        try:
            use.taken = await shares.take(use.subjects[1], use.tokens)
        except BaseException:
            for windows, subject in zip((self._per_address, self._per_key), use.subjects, strict=True):
                windows.withdraw(subject, use.at, use.tokens)
            raise

    def correct(self, use: Use, tokens: int) -> None:
        """Counts the tokens that a call had, in place of the estimate: in windows that have not ended since."""
        more, use.tokens = tokens - use.tokens, tokens
        for windows, subject in zip((self._per_address, self._per_key), use.subjects, strict=True):
            windows.correct(subject, use.at, more)
        for taken in use.taken:
            if taken.share.measure == "tokens":
                taken.correct(more)
