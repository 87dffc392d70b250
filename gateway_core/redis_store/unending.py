"""Work that is never over: what nobody foresaw is logged, and it begins again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

log = structlog.get_logger("headgate.redis")

PAUSE_SECONDS = 1.0
TOLD_SECONDS = 60.0
"""So long nothing more is logged of work that fails again and again."""


async def unending(work: Callable[[], Awaitable[None]], of: str) -> NoReturn:
    """Does work, and again after a pause where it has ended or failed; a cancellation ends it.

    Work is to expect what is usual, such as Away, by itself: what comes here is a fault of ours, and is logged with its
    stack, once a minute at most. `of` is what the log calls the work.
    """
    told_at = -TOLD_SECONDS
    while True:
        try:
            await work()
        except Exception:  # the edge of a task that nobody waits for: without it what is shared would end in silence
            now = time.monotonic()
            if now - told_at >= TOLD_SECONDS:
                told_at = now
                log.exception("sharing_failed", of=of)
        await asyncio.sleep(PAUSE_SECONDS)
