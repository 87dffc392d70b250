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
        now = time.time_ns() * 4096 // 1_000_000  # milliseconds, with 12 bits behind the point
        self._lock.acquire()  # `with` costs as much again as the lock itself
        try:
            # A clock that is set back, or that is too coarse, must not bring the ids out of order.
            if now <= self._last:
                now = self._last + 1
            self._last = now
            rest = self._random.getrandbits(62)
        finally:
            self._lock.release()
        # Separators are counted from the end: "tttt-tttt-tttt-7fff", of which the first goes, and "8rrr-rrrrrrrrrrrr".
        begin = (now >> 12 << 16 | 0x7000 | now & 0xFFF).to_bytes(8).hex("-", 2).replace("-", "", 1)
        return f"{begin}-{(1 << 63 | rest).to_bytes(8).hex('-', 6)}"


new_id = Identifiers().__call__  # bound once: whoever calls the object itself has the method looked up each time


def now_us() -> int:
    """The time, in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000
