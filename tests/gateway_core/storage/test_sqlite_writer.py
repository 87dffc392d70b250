import sqlite3
from functools import partial

import pytest

from gateway_core.storage.backend import Statements
from gateway_core.storage.sqlite_writer import MOST_ROWS, SqliteStatements, committed

COLUMNS = ("id", "a_text", "a_number", "a_flag", "anything")
ROWS = [
    ("0", None, None, None, None),
    ("1", "", 0, False, b""),
    ("2", "nan", -(2**63), True, b"\0"),
    ("3", "text", 2**63 - 1, None, 0.5),
    ("4", None, 5, True, None),
]


def test_what_is_none_is_null_in_columns_of_every_type_and_what_is_not_is_kept() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE things (id TEXT PRIMARY KEY, a_text TEXT, a_number BIGINT, a_flag BOOLEAN, anything)"
    )
    rows = [(f"{row[0]}-{number:03}", *row[1:]) for number in range(MOST_ROWS) for row in ROWS]
    SqliteStatements(connection).insert("things", COLUMNS, rows)
    assert sorted(connection.execute("SELECT * FROM things")) == sorted(rows)
    kinds = "typeof(a_text), typeof(a_number), typeof(a_flag), typeof(anything)"
    found = set(connection.execute(f"SELECT substr(id, 1, 1), {kinds} FROM things"))
    assert found == {
        ("0", "null", "null", "null", "null"),
        ("1", "text", "integer", "integer", "blob"),
        ("2", "text", "integer", "integer", "blob"),
        ("3", "text", "integer", "null", "real"),
        ("4", "null", "integer", "integer", "null"),
    }


def test_nothing_stays_of_rows_of_which_one_fails() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE things (id TEXT PRIMARY KEY, a_number BIGINT NOT NULL)")
    rows = [(str(number), number) for number in range(MOST_ROWS + 5)]

    def insert(more: list[tuple[str, int | None]], statements: Statements) -> None:
        statements.insert("things", ("id", "a_number"), [*rows, *more])

    for failing in (("1", 1), ("another", None)):
        with pytest.raises(sqlite3.IntegrityError):
            committed(connection, partial(insert, [failing]))
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)
    committed(connection, partial(insert, []))
    assert sorted(connection.execute("SELECT * FROM things")) == sorted(rows)
