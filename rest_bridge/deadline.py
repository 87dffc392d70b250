"""A deadline that is often set and seldom passes: one timer, which is left alone while it fires early enough."""

import asyncio
from collections.abc import Callable

TOLERANCE_SECONDS = 0.001
"""Timers count in milliseconds."""


class Deadline:
    """Calls a function once the time set last has passed. Setting and clearing it costs no timer of the loop's."""

    __slots__ = ("_at", "_fires_at", "_loop", "_passed", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None]) -> None:
        """Takes what to call."""
        self._loop = loop
        self._passed = passed
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0

    def set(self, seconds: float) -> None:
        """Sets it to so many seconds from now, in place of what was set."""
        self._at = at = self._loop.time() + seconds
        if self._timer is None:
            self._arm(at)
        elif at < self._fires_at:
            self._timer.cancel()
            self._arm(at)

    def clear(self) -> None:
        """Calls it off."""
        self._at = None

    def close(self) -> None:
        """Calls it off for good, and lets go of what was to be called, which may hold this object too."""
        self._at = None
        self._passed = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._fires_at = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._at - self._loop.time() > TOLERANCE_SECONDS:
            self._arm(self._at)
        else:
            self._at = None
            self._passed()


def _nothing() -> None:
    """What a deadline calls that was called off for good."""
