"""The calls of a journal in a file: where the lines are of one that is open, and of one that has ended.

Both are plain tuples: they are made for every call, and looked at in few places.
"""

from gateway_core.storage.journal import Row
from gateway_core.storage.journal_file import Segment
from gateway_core.storage.journal_line import told_by
from gateway_core.storage.ledger import Closing

Held = tuple[Row, Segment]
"""What was put of a call that is open, its opening or how far it was, and where."""
Ended = tuple[int, tuple[Segment, ...], tuple[int, int] | None, int]
"""A call that has ended, and is not in the ledger: how many had ended before; where the lines are that are needed of
it; where in the first of these segments the line of its end begins and ends; what it has charged.

Where there was no room for its end there is None of that line, and those that are needed are of its opening."""


def places_of(opened: Held | None, noted: Held | None) -> tuple[Segment, ...]:
    """Where the lines are of a call that is open."""
    if opened is None:
        return ()
    return (opened[1],) if noted is None else (opened[1], noted[1])


def read_again(ended: Ended) -> Closing:
    """The end of a call, from the file."""
    _, places, line, _ = ended
    assert line is not None, "it waits because it is there"
    start, end = line
    (closing,) = told_by((places[0].map[start:end],)).closings.values()
    return closing
