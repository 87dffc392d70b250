"""Ids and times of rows: UUIDs of version 7 in the order of their making, and microseconds since 1970-01-01 UTC."""

import os
import random
import threading
import time


class Identifiers:
    """Makes UUIDs of version 7 (RFC 9562), each greater than the one before it in this process.

    48 bits are the milliseconds, 12 the fraction of the millisecond (section 6.2, method 3), 62 are random, and may be
    guessed: an id is no secret.
    """

    def __init__(self) -> None:
        """Begins anew."""
        self._last = 0
        self._lock = threading.Lock()
        self._random = random.Random()  # seeded by the system: a system call for each id would be half of its cost
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._random.seed)

    def __call__(self) -> str:
        """The next id, in its usual form of 36 characters."""
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        now = milliseconds << 12 | (rest << 12) // 1_000_000
        with self._lock:
            # A clock that is set back, or that is too coarse, must not bring the ids out of order.
            self._last = now = max(now, self._last + 1)
            rest = self._random.getrandbits(62)
        digits = f"{(now >> 12) << 80 | 0x7 << 76 | (now & 0xFFF) << 64 | 0b10 << 62 | rest:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


new_id = Identifiers()


def now_us() -> int:
    """The time, in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000
