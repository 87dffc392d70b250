"""The lines of a journal in a file: a call is opened, how far it is, how it has ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from gateway_core.storage.journal import CHECKPOINT, JOURNALED, Call, Row
from gateway_core.storage.ledger import ATTEMPT, ENDED, Closing

FORMAT = 1
"""How lines are written: format, kind, row."""
OPEN, NOTE, END = range(3)
"""The kinds."""


@dataclass(slots=True)
class Told:
    """What lines say."""

    calls: dict[str, Call] = field(default_factory=dict)
    """All that were opened, by their ids, with how far they were."""
    closings: dict[str, Closing] = field(default_factory=dict)
    """The ends of those that have ended."""
    unreadable: int = 0
    """How many lines only another version can read."""


def opened_line(row: Row) -> bytes:
    """A call that is opened, as JOURNALED says."""
    return orjson.dumps((FORMAT, OPEN, row))


def note_line(row: Row) -> bytes:
    """How far a call is, as CHECKPOINT says."""
    return orjson.dumps((FORMAT, NOTE, row))


def ended_line(closing: Closing) -> bytes:
    """How a call has ended."""
    return orjson.dumps((FORMAT, END, closing))


def told_by(lines: Iterable[bytes], before: Told | None = None) -> Told:
    """What the lines of processes say, those of each in their order, with what those before them said."""
    told = Told() if before is None else before
    for line in lines:
        try:
            add(told, line)
        except (TypeError, ValueError):
            told.unreadable += 1
    return told


def add(told: Told, line: bytes) -> None:
    """Adds what a line says to what those before it said; raises TypeError or ValueError where it says nothing."""
    version, kind, row = orjson.loads(line)
    if version != FORMAT:
        raise ValueError(f"it has the format {version}")
    if kind == OPEN:
        call = dict(zip(JOURNALED, row, strict=True))
        # It may be put a second time: what was noted before counts until that is put again too.
        told.calls.setdefault(call["id"], call)
    elif kind == NOTE:
        checkpoint = dict(zip(CHECKPOINT, row, strict=True))
        if checkpoint["id"] in told.calls:
            told.calls[checkpoint["id"]] |= checkpoint
    elif kind == END:
        id_, account_id, charged, ended, attempts = row
        if len(ended) != len(ENDED) or any(len(each) != len(ATTEMPT) for each in attempts):
            raise ValueError("it has the columns of another version")
        told.closings[id_] = (id_, account_id, charged, tuple(ended), [tuple(each) for each in attempts])
    else:
        raise ValueError(f"it has the kind {kind}")
