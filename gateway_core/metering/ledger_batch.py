"""What the ledger's writer gathers for one transaction."""

from collections.abc import Iterable, Sequence

from gateway_core.metering.record import Record
from gateway_core.storage import ledger as rows
from gateway_core.storage.journal import Row


class Batch:
    """What is gathered for one transaction."""

    __slots__ = ("behind", "closed", "opened")

    def __init__(
        self,
        opened: Sequence[Row] = (),
        behind: Iterable[tuple[str, Record]] = (),
        closed: Sequence[rows.Closing] = (),
    ) -> None:
        """Begins with what is given."""
        self.opened = list(opened)
        self.behind = dict(behind)
        """Calls whose checkpoint is to be written, by their ids: as they are then, so that each is written once."""
        self.closed = list(closed)

    def __len__(self) -> int:
        """How much there is to write."""
        return len(self.opened) + len(self.behind) + len(self.closed)


def halves(batch: Batch) -> list[Batch]:
    """Parts of a batch, in an order in which they can be written: each kind, or two halves where it is of one kind."""
    opened, behind, closed = batch.opened, list(batch.behind.items()), batch.closed
    kinds = [Batch(opened), Batch(behind=behind), Batch(closed=closed)]
    parts = [part for part in kinds if len(part)]
    if len(parts) > 1:
        return parts
    middle = len(batch) // 2
    return [
        Batch(opened[:middle], behind[:middle], closed[:middle]),
        Batch(opened[middle:], behind[middle:], closed[middle:]),
    ]
