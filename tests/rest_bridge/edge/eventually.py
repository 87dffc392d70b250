"""Waiting for a state, with a deadline."""

import asyncio
from collections.abc import Callable


async def eventually(is_so: Callable[[], object], seconds: float = 5) -> None:
    """Returns once it is so; fails after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not is_so():
        assert loop.time() < end, "it never came to be"
        await asyncio.sleep(0.002)
