"""How rows are added to a table of SQLite, many with one statement: what they have alike is bound once."""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from gateway_core.storage.statements import insert_statement

NULL = float("nan")
"""What SQLite keeps as NULL, since its numbers have no NaN; the driver hands a float on as it is. For None it looks for
an adapter first, by exceptions: that costs five times as much, and a third of the columns of most calls are NULL."""

LEARNED_AGAIN_AFTER = 4096
"""Statements, after which columns that once differed may be alike again."""
STATEMENTS_AT_MOST = 256

Split = tuple[tuple[int, ...], tuple[int, ...]]
"""The places of columns: of those that differ, and of those that have been alike."""


class Insertion:
    """Adds rows to one table. To bind a value costs more than to keep it, and calls have most columns alike.

    Which columns those are is learned: one that has differed is bound with each row from then on, so that few
    statements have to be prepared. A column has values of one type.
    """

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        """Takes the columns, of which the first is the key, or a part of it."""
        self._table = table
        self._columns = columns
        self._all_alike: Split = ((0,), tuple(range(1, len(columns))))
        self._split: Split = self._all_alike
        """Threads take it as a whole."""
        self._left = LEARNED_AGAIN_AFTER

    def statement(self, rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
        """An INSERT of these rows, at least one, and its parameters."""
        columns, count = list(zip(*rows, strict=True)), len(rows)
        apart, alike = self._known()
        found = [place for place in alike if columns[place].count(columns[place][0]) != count]
        if found:
            apart = (*apart, *found)
            alike = tuple(place for place in alike if place not in found)
            self._split = (apart, alike)
        values = [NULL if value is None else value for value in (columns[place][0] for place in alike)]
        values += chain.from_iterable(zip(*(without_none(columns[place]) for place in apart), strict=True))
        return insert_or_fail(self._table, self._columns, apart, alike, count), values

    def _known(self) -> Split:
        self._left -= 1
        if self._left <= 0:
            self._left, self._split = LEARNED_AGAIN_AFTER, self._all_alike
        return self._split


@cache
def insertion(table: str, columns: tuple[str, ...]) -> Insertion:
    """What adds rows to a table, with these columns."""
    return Insertion(table, columns)


def without_none(values: Sequence[Any]) -> Sequence[Any]:
    """The values, with what SQLite keeps as NULL in the place of None."""
    return [NULL if value is None else value for value in values] if None in values else values


@lru_cache(STATEMENTS_AT_MOST)
def insert_or_fail(
    table: str, columns: tuple[str, ...], apart: tuple[int, ...], alike: tuple[int, ...], count: int
) -> str:
    """An INSERT of so many rows that leaves it to the transaction to take back those before one that fails.

    Otherwise SQLite copies each page that the statement changes, to be able to do that itself. The parameters are those
    of the columns that are alike, and then, row by row, those of the others.
    """
    names = tuple(columns[place] for place in (*alike, *apart))
    if not alike:
        statement = insert_statement(table, names, count)
    else:
        told = ", ".join([*("?" for _ in alike), *(f"column{number}" for number in range(1, len(apart) + 1))])
        row = f"({', '.join('?' * len(apart))})"
        statement = f"INSERT INTO {table} ({', '.join(names)}) SELECT {told} FROM (VALUES {', '.join([row] * count)})"
    return statement.replace("INSERT", "INSERT OR FAIL", 1)
