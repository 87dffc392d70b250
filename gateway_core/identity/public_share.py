"""The windows of a public key as a whole, over all processes: each takes leases of them, as of an account's limits."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway_core.config_plan import WindowConfig
from gateway_core.errors import RateLimited
from gateway_core.identity.public_window import Measure, Reached
from gateway_core.limit_header import SECOND_US
from gateway_core.storage.errors import StorageUnavailable

KEYS_AT_MOST = 10_000


class CurrentWindow(Protocol):
    """What this process has used of the window that is current."""

    @property
    def start_us(self) -> int:
        """When it began."""

    def correct(self, units: int, start_us: int) -> None:
        """Uses more units, or fewer, in the window that began then."""


class SharedWindow(Protocol):
    """A limit that processes share: what `SharedLimits.limit` gives."""

    @property
    def window(self) -> CurrentWindow:
        """The window that is current."""

    def turn(self, now_us: int) -> None:
        """Begins the window that the time is in."""

    def take(self, units: int, now_us: int) -> bool:
        """Uses units of the lease that is held."""

    async def acquire(self, units: int, now_us: int) -> bool:
        """Uses units, with a new lease where that is needed; raises StorageUnavailable."""

    def is_reached(self, now_us: int) -> bool:
        """Whether it is known that not one more unit is to be had now."""

    def remaining(self, now_us: int) -> int:
        """What is left of the limit."""


class Share(NamedTuple):
    """A window of one key."""

    window: WindowConfig
    measure: Measure
    limit: int
    shared: SharedWindow


class Taken(NamedTuple):
    """What a call took of it."""

    share: Share
    units: int
    start_us: int

    def correct(self, more: int) -> None:
        """Uses more, or less, in the window that it was taken of."""
        self.share.shared.window.correct(more, self.start_us)


class KeyShares:
    """The windows of all public keys. Belongs to the event loop of the limits."""

    def __init__(
        self,
        windows: Sequence[WindowConfig],
        limit: Callable[[str, int, int], SharedWindow],
        now_us: Callable[[], int],
    ) -> None:
        """Takes the limits of each key; what finds a shared one by scope, units and seconds; and the clock."""
        self._windows = tuple(windows)
        self._limit = limit
        self._now_us = now_us
        self._of_keys: dict[str, tuple[Share, ...]] = {}

    async def take(self, key_id: str, tokens: int) -> list[Taken]:
        """Counts a call of so many tokens; raises RateLimited, and counts nothing, where it is one too many.

        What the store cannot be asked for is not counted: the process's own windows count it.
        """
        now_us = self._now_us()
        taken: list[Taken] = []
        missing: list[tuple[Share, int]] = []
        for share in self._shares(key_id):
            units = 1 if share.measure == "requests" else tokens
            if share.shared.take(units, now_us):
                taken.append(Taken(share, units, share.shared.window.start_us))
            else:
                missing.append((share, units))
        if missing:
            try:
                await acquire(missing, taken, now_us)
            except BaseException:
                for each in taken:
                    each.correct(-each.units)
                raise
        return taken

    def refusal(self, key_id: str) -> RateLimited | None:
        """What one more call would be refused with, as far as that is known without asking the store."""
        now_us = self._now_us()
        for share in self._shares(key_id):
            if share.shared.is_reached(now_us):
                return refusal(share, now_us)
        return None

    def _shares(self, key_id: str) -> tuple[Share, ...]:
        found = self._of_keys.get(key_id)
        if found is None:
            if len(self._of_keys) >= KEYS_AT_MOST:
                self._of_keys.clear()
            found = self._of_keys[key_id] = tuple(self._made(key_id))
        return found

    def _made(self, key_id: str) -> list[Share]:
        made: list[Share] = []
        measures: tuple[Measure, ...] = ("requests", "tokens")
        for window in self._windows:
            for measure, limit in zip(measures, (window.requests, window.input_tokens), strict=True):
                if limit is not None:
                    shared = self._limit(f"key:{key_id}:public:{measure}", limit, window.seconds)
                    made.append(Share(window, measure, limit, shared))
        return made


async def acquire(missing: Sequence[tuple[Share, int]], taken: list[Taken], now_us: int) -> None:
    """Adds to what is taken what needs leases; raises RateLimited where one is not to be had."""
    asked = (share.shared.acquire(units, now_us) for share, units in missing)
    found = await asyncio.gather(*asked, return_exceptions=True)
    problem: BaseException | None = None
    for (share, units), has in zip(missing, found, strict=True):
        if has is True:
            taken.append(Taken(share, units, share.shared.window.start_us))
        elif has is False:
            problem = problem or refusal(share, now_us)
        elif not isinstance(has, StorageUnavailable):
            problem = has
    if problem is not None:
        raise problem


def refusal(share: Share, now_us: int) -> RateLimited:
    """Which limit of the key is reached, and how long to wait."""
    left = share.shared.remaining(now_us)
    return Reached(share.window, share.measure, share.limit, left, now_us / SECOND_US).refusal("key")
