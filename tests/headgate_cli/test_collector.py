"""Tests of what the collector of cycles leaves alone, and for how long."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from headgate_cli.collector import SPARED_SECONDS, Collector

PROGRAM = """
import gc
from headgate_cli.collector import spare_what_stays
class Cycle: pass
def make():
    one = Cycle(); one.itself = one
spare_what_stays()
kept = gc.get_freeze_count()
for _ in range(20_000): make()
left = sum(isinstance(each, Cycle) for each in gc.get_objects())
print(kept > 1000 and left < 20_000)
"""


class Cycle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


class Clock:
    """Stands still until it is set."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    collector = Collector(clock)
    gc.collect()
    gc.callbacks.append(collector)
    yield clock
    gc.callbacks.remove(collector)
    gc.unfreeze()


def test_what_a_full_collection_leaves_is_not_looked_at_again_for_a_while(clock: Clock) -> None:
    kept = Cycle()
    gone = weakref.ref(kept)
    gc.collect()
    assert gc.get_freeze_count() > 0
    del kept
    gc.collect()
    assert gone() is not None
    clock.seconds = SPARED_SECONDS - 1
    gc.collect()
    assert gone() is not None
    clock.seconds = SPARED_SECONDS
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_what_is_new_is_collected_as_ever(clock: Clock) -> None:
    gc.collect()
    gone = weakref.ref(Cycle())
    gc.collect(0)
    assert gone() is None


def test_younger_collections_leave_everything_in_sight(clock: Clock) -> None:
    gc.collect()
    count = gc.get_freeze_count()
    kept = [Cycle() for _ in range(100)]
    gc.collect(1)
    assert gc.get_freeze_count() <= count
    assert len(kept) == 100


def test_what_stays_is_not_looked_through_and_what_comes_later_is_collected() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert told == "True\n"
