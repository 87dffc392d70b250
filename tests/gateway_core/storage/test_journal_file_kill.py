"""A journal in files, as it is found by others when its process is killed at any step of what it does."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gateway_core.storage import journal_file
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.journal_file import HEAD_BYTES, JournalFile, Segment, lines

FILE_BYTES = 600
STEPS = {
    function.__code__
    for function in (
        JournalFile.put, JournalFile.release, JournalFile.care, JournalFile._care_for, JournalFile._next,
        Segment.renew, Segment.remove, Segment.__init__,
    )
}  # fmt: skip


@contextmanager
def killed_at_each_step(look: Callable[[], None]) -> Iterator[None]:
    """Looks before each instruction of a journal's functions: there the process could have been killed."""

    def stepped(_: FrameType, event: str, __: Any) -> Any:
        if event == "opcode":
            sys.settrace(None)
            look()
            sys.settrace(entered)
        return stepped

    def entered(frame: FrameType, _: str, __: Any) -> Any:
        if frame.f_code not in STEPS:
            return None
        frame.f_trace_opcodes = True
        return stepped

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("seed", range(3))
def test_whenever_it_is_killed_what_is_needed_is_there_in_order_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(journal_file, "SEGMENT_BYTES", FILE_BYTES)
    monkeypatch.setattr(journal_file, "SPARE_LEFT", FILE_BYTES // 2)
    chance = random.Random(seed)
    needed: dict[bytes, Segment] = {}
    put: list[bytes] = []
    filled: set[tuple[Segment, Path]] = set()

    def look() -> None:
        found = list(lines(tmp_path, "a"))
        assert found == sorted(set(found))
        assert needed.keys() <= set(found) <= set(put)

    journal = JournalFile(tmp_path, "a", lambda: None)
    journal.open()
    for number in range(90):
        step = chance.random()
        if step < 0.5:
            # Also the longest that a file takes, and a little more.
            length = chance.choice([0, 1, 40, 40, 100, FILE_BYTES - 2 * HEAD_BYTES - 6 + chance.randrange(-9, 9)])
            line = b"%06d" % number + chance.randbytes(length)
            put.append(line)
            with killed_at_each_step(look):
                try:
                    segment = journal.put(line)
                except StorageUnavailable:
                    continue
            needed[line] = segment
            filled.add((segment, segment.path))
        elif step < 0.85 and needed:
            segment = needed.pop(chance.choice(list(needed)))
            with killed_at_each_step(look):
                journal.release(segment)
        else:
            with killed_at_each_step(look):
                journal.care()
        look()
    assert len({segment for segment, _ in filled}) < len(filled), "some were filled again"
    journal.close(is_kept=True)
    look()
