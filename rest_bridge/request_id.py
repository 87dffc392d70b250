"""New request ids: 32 hexadecimal digits that begin with the time, the rest of which nobody can guess."""

import os
import time

RANDOM_BYTES = 10
AT_ONCE = 256
"""Ids for which randomness is fetched together: a system call each would be most of the cost."""

_random: list[str] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.clear)


def new_request_id() -> str:
    """An id: 12 digits of the time in milliseconds, 20 random ones."""
    if not _random:
        digits = os.urandom(RANDOM_BYTES * AT_ONCE).hex()
        size = 2 * RANDOM_BYTES
        _random.extend([digits[start : start + size] for start in range(0, len(digits), size)])
    return f"{time.time_ns() // 1_000_000:012x}{_random.pop()}"
