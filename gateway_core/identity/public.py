"""What a public key may do: ask a gateway by its id, with few parameters, a few times."""

import re
import time
from collections.abc import Sequence
from typing import Any

from gateway_core.call import Call
from gateway_core.config import PublicKeysConfig, WindowConfig
from gateway_core.errors import ParameterNotAllowed, PermissionDenied, RateLimited
from gateway_core.unsupported import extra_fields

GATEWAY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
FIELDS = frozenset(
    ["model", "messages", "temperature", "top_p", "top_k", "seed", "tools", "reasoning_effort", "max_completion_tokens"]
)
EXTRA = frozenset({"prompt", "stream", "idempotency_key"})
"""What may be sent beside and has no field of its own in every version of the contract."""
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
    if call.request.extra_json:
        for name in extra_fields(call.request.extra_json):
            if name not in EXTRA:
                refuse(name)


def refuse(name: str) -> None:
    """Raises ParameterNotAllowed."""
    raise ParameterNotAllowed(f"{name[:200]} may not be sent with a public key.", param=name[:200])


class Windows:
    """How often subjects came, in windows that begin at multiples of their length."""

    def __init__(self, windows: Sequence[WindowConfig]) -> None:
        """Takes the limits of each subject."""
        self._windows = tuple(windows)
        self._counts: dict[str, list[tuple[int, int]]] = {}

    def wait(self, subject: str, now: float) -> tuple[WindowConfig, float] | None:
        """The limit that a subject has reached and the seconds until its window ends; None: it may come."""
        counts = self._counts.get(subject)
        for window, (index, count) in zip(self._windows, counts or (), strict=False):
            if index == now // window.seconds and count >= window.requests:
                return window, window.seconds - now % window.seconds
        return None

    def count(self, subject: str, now: float) -> None:
        """Counts one more."""
        counts = self._counts.pop(subject, None) or [(0, 0)] * len(self._windows)
        for position, window in enumerate(self._windows):
            index = int(now // window.seconds)
            before, count = counts[position]
            counts[position] = (index, count + 1 if before == index else 1)
        while len(self._counts) >= SUBJECTS_AT_MOST:
            del self._counts[next(iter(self._counts))]
        self._counts[subject] = counts  # at the end: who came last is forgotten last


class PublicLimits:
    """The windows of public keys, in this process."""

    def __init__(self, config: PublicKeysConfig) -> None:
        """Takes the limits."""
        self._per_address = Windows(config.per_address)
        self._per_key = Windows(config.per_key)

    def admit(self, key_id: str, address: str, now: float | None = None) -> None:
        """Counts a call; raises RateLimited, and counts nothing, where it is one too many. Time in seconds."""
        now = time.time() if now is None else now
        both = (
            (self._per_address, f"{key_id} {address}", "address"),
            (self._per_key, key_id, "key"),
        )
        for windows, subject, whose in both:
            reached = windows.wait(subject, now)
            if reached is not None:
                window, seconds = reached
                limit = f"{window.requests} requests per {window.seconds} s and {whose}"
                raise RateLimited(
                    f"A public key may be used for {limit}.", retry_after_seconds=seconds, limit=limit, subject=whose
                )
        for windows, subject, _ in both:
            windows.count(subject, now)
