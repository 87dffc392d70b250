"""Which rows of the journal a process still needs: a row is deleted when all calls that it speaks of have ended."""

from collections.abc import Iterable, Sequence

from gateway_core.storage.journal import Entry, Row


class Journal:
    """The rows that this process has written. Pure: who writes tells what became of it."""

    def __init__(self, process_id: str) -> None:
        """Takes the process."""
        self._process_id = process_id
        self._last = 0
        self._left: dict[int, int] = {}
        """By the number of a row: how many calls need it."""
        self._opened: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        """By the id of a call that is open: the row of its opening, and that of its last checkpoint."""
        self._emptied: list[tuple[str, int]] = []
        self._is_last_in_doubt = False
        """Whether a row is in the table, or not, whose number is that of the next."""

    def entry(self, opened: Sequence[Row], checkpoints: Sequence[Row]) -> Entry | None:
        """The next row. None: there is nothing to write. The first column of each is the id of the call."""
        checkpoints = [row for row in checkpoints if row[0] in self._opened]
        if not opened and not checkpoints:
            return None
        return Entry(self._process_id, self._last + 1, opened, checkpoints)

    def written(self, entry: Entry) -> None:
        """A row is in the table: its checkpoints stand for those before them."""
        number = self._last = entry.number
        self._is_last_in_doubt = False
        self._left[number] = len(entry.opened) + len(entry.checkpoints)
        for row in entry.opened:
            self._opened[row[0]] = number
        for row in entry.checkpoints:
            before = self._noted.get(row[0])
            self._noted[row[0]] = number
            if before is not None:
                self._release(before)

    def lost(self) -> None:
        """The row is not in the table, or is there although the database did not say so: the next takes its place."""
        self._is_last_in_doubt = True

    def give_up(self) -> None:
        """Has a row deleted that was lost, where there is no next to take its place."""
        if self._is_last_in_doubt:
            self._is_last_in_doubt = False
            self._last += 1
            self._emptied.append((self._process_id, self._last))

    def end(self, call_ids: Iterable[str]) -> None:
        """Calls are in the ledger."""
        if not self._opened:
            return  # nothing is noted of a call that was not opened here
        for call_id in call_ids:
            opened, noted = self._opened.pop(call_id, None), self._noted.pop(call_id, None)
            if opened is not None:
                self._release(opened)
            if noted is not None:
                self._release(noted)

    @property
    def has_emptied(self) -> bool:
        """Whether there are rows that may be deleted."""
        return bool(self._emptied)

    def emptied(self) -> list[tuple[str, int]]:
        """The rows, by process and number, that may be deleted; they are told once, or again after `keep`."""
        emptied, self._emptied = self._emptied, []
        return emptied

    def keep(self, emptied: Sequence[tuple[str, int]]) -> None:
        """They could not be deleted."""
        self._emptied.extend(emptied)

    def _release(self, number: int) -> None:
        self._left[number] -= 1
        if not self._left[number]:
            del self._left[number]
            self._emptied.append((self._process_id, number))
