"""The calls of a journal in a file: where the lines are of one that is open, and of one that has ended."""

from gateway_core.storage.journal import Row
from gateway_core.storage.journal_file import Segment
from gateway_core.storage.journal_line import told_by
from gateway_core.storage.ledger import Closing


class Held:
    """A call that is open: its lines, and where they are."""

    __slots__ = ("noted", "noted_in", "opening", "opening_in")

    def __init__(self, opening: Row, opening_in: Segment) -> None:
        """Takes the line of its opening."""
        self.opening = opening
        self.opening_in = opening_in
        self.noted: Row | None = None
        self.noted_in: Segment | None = None


class Ended:
    """A call that has ended, and is not in the ledger."""

    __slots__ = ("charged", "line", "number", "place")

    def __init__(self, number: int, place: Segment | Held | None, line: tuple[int, int] | None, charged: int) -> None:
        """Takes how many had ended before, where its end is, and where in that segment the line.

        Or, where there was no room for that, its opening and no line.
        """
        self.number = number
        self.place = place
        self.line = line
        self.charged = charged


def read_again(ended: Ended) -> Closing:
    """The end of a call, from the file."""
    assert isinstance(ended.place, Segment), "it waits because it is there"
    assert ended.line is not None
    start, end = ended.line
    (closing,) = told_by((ended.place.map[start:end],)).closings.values()
    return closing
