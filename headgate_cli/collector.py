"""The collector of cycles: what is there when serving begins stays until the end, and is not looked through again."""

import gc

YOUNG_AT_MOST = 2_000
"""Containers made and not freed before the youngest are looked through: a call makes a hundred, and frees them."""
YOUNGER_PER_OLDER = 10
YOUNGER_PER_OLDEST = 3
"""A stream that was open for long is among the oldest when it ends: its buffers must not wait for many others."""


def spare_what_stays() -> None:
    """Takes what is there out of the collector's sight: to look through all of it stops every call for 40 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_AT_MOST, YOUNGER_PER_OLDER, YOUNGER_PER_OLDEST)
