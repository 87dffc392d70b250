"""New request ids: UUIDs of version 7, which begin with the time; the rest nobody can guess (RFC 9562, 5.7)."""

import os
import time

RANDOM_BYTES = 10
AT_ONCE = 256
"""Ids for which randomness is fetched together: a system call each would be most of the cost."""

_tails: list[str] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tails.clear)


def new_request_id() -> str:
    """An id: 48 bits of the time in milliseconds, 74 random ones."""
    if not _tails:
        digits = os.urandom(RANDOM_BYTES * AT_ONCE).hex()
        size = 2 * RANDOM_BYTES
        _tails.extend([_tail(digits[start : start + size]) for start in range(0, len(digits), size)])
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}{_tails.pop()}"


def _tail(digits: str) -> str:
    """What follows the time: version and variant, and random digits between and behind them."""
    variant = "89ab"[int(digits[3], 16) & 3]
    return f"-7{digits[:3]}-{variant}{digits[4:7]}-{digits[7:19]}"
