"""Statements that SQLite and PostgreSQL both know, and that SQLAlchemy spells for each apart."""

from functools import cache

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert(connection: AsyncConnection | Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, in the language of the connection."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


@cache
def insert_statement(table: str, columns: tuple[str, ...], count: int = 1) -> str:
    """An INSERT of so many rows, as the drivers have it; the parameters are question marks."""
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * count)}"
