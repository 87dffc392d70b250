import random
import sqlite3
from typing import Any

import pytest

from gateway_core.storage import sqlite_insert
from gateway_core.storage.sqlite_insert import Insertion
from gateway_core.storage.sqlite_writer import SqliteStatements
from gateway_core.storage.statements import insert_statement

COLUMNS = ("id", "a_text", "a_number", "a_flag", "another_text")
TABLE = "(id TEXT PRIMARY KEY, a_text TEXT, a_number BIGINT, a_flag BOOLEAN, another_text TEXT)"


VALUES: tuple[list[Any], ...] = (
    [None, "", "a", "ä\0", "1"],
    [None, 0, 1, -(2**63), 2**63 - 1],
    [None, True, False],
    [None, "x", "y"],
)


def batches(seed: int) -> list[list[tuple[Any, ...]]]:
    """Rows of which now these columns are alike, and now those."""
    chance = random.Random(seed)
    made = []
    for batch in range(30):
        allowed = [[chance.choice(values)] if chance.random() < 0.6 else values for values in VALUES]
        count = chance.choice((1, 2, 3, 16, 70, 130))
        made.append([(f"{batch}-{number}", *map(chance.choice, allowed)) for number in range(count)])
    return made


@pytest.mark.parametrize("seed", range(10))
def test_rows_are_as_one_by_one_whatever_they_have_alike(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_insert, "LEARNED_AGAIN_AFTER", 7)
    together = Insertion("together", COLUMNS)
    monkeypatch.setattr("gateway_core.storage.sqlite_writer.insertion", lambda *_: together)
    connection = sqlite3.connect(":memory:")
    for table in ("together", "single"):
        connection.execute(f"CREATE TABLE {table} {TABLE}")
    for rows in batches(seed):
        SqliteStatements(connection).insert("together", COLUMNS, rows)
        connection.executemany(insert_statement("single", COLUMNS), rows)
    types = ", ".join(f"typeof({column})" for column in COLUMNS)
    told = [connection.execute(f"SELECT *, {types} FROM {table}").fetchall() for table in ("together", "single")]
    assert told[0] == told[1]


def test_what_is_alike_is_bound_once_until_it_differs_and_is_learned_again() -> None:
    of = Insertion("things", ("id", "kind", "size"))
    text, values = of.statement([("1", "a", None), ("2", "a", None)])
    assert text == ("INSERT OR FAIL INTO things (kind, size, id) SELECT ?, ?, column1 FROM (VALUES (?), (?))")
    assert (values[0], values[2:]) == ("a", ["1", "2"])
    text, values = of.statement([("3", "a", 1), ("4", "b", 1)])
    assert text == "INSERT OR FAIL INTO things (size, id, kind) SELECT ?, column1, column2 FROM (VALUES (?, ?), (?, ?))"
    assert values == [1, "3", "a", "4", "b"]
    # Alike again, and still bound with each row.
    text, values = of.statement([("5", "a", 1), ("6", "a", 2)])
    assert text == "INSERT OR FAIL INTO things (id, kind, size) VALUES (?, ?, ?), (?, ?, ?)"
    assert values == ["5", "a", 1, "6", "a", 2]
    for _ in range(sqlite_insert.LEARNED_AGAIN_AFTER):
        _, values = of.statement([("7", "a", 1), ("8", "a", 1)])
    assert values == ["a", 1, "7", "8"]
