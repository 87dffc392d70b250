"""New request ids: UUIDs of version 7, which begin with the time; the rest nobody can guess (RFC 9562, 5.7)."""

import os
import time
from functools import lru_cache

AT_ONCE = 256
"""Ids for which randomness is fetched together: a system call each would be most of the cost."""
FORM = b"-7vvv-Vvvv-vvvvvvvvvvvv "
"""What follows the time: version and variant (V), and random digits (v). The space parts one id from the next."""
DIGITS = b"0123456789abcdef" * 16
"""A digit for each byte: each for as many of them."""
VARIANT = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)

_tails: list[str] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tails.clear)


def new_request_id() -> str:
    """An id: 48 bits of the time in milliseconds, 74 random ones."""
    if not _tails:
        _tails.extend(_new_tails())
    return _moment(time.time_ns() // 1_000_000) + _tails.pop()


def _new_tails() -> list[str]:
    """What follows the time, of many ids; random digits everywhere, then column by column what is none."""
    size = len(FORM)
    tails = bytearray(os.urandom(size * AT_ONCE).translate(DIGITS))
    for place, sign in enumerate(FORM):
        if sign == ord("V"):
            tails[place::size] = tails[place::size].translate(VARIANT)
        elif sign != ord("v"):
            tails[place::size] = bytes((sign,)) * AT_ONCE
    return tails.decode("ascii").split()


@lru_cache(8)
def _moment(milliseconds: int) -> str:
    """A time as ids begin with it: under load many do with the same."""
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}"
