"""The database: tables, migrations, transactions, and how a change in one process is told to all.

Every statement is in this package: a domain calls functions that take the connection of a transaction. A statement runs
on SQLite and on PostgreSQL. Two rules follow from their difference. A transaction on PostgreSQL is READ COMMITTED, one
on SQLite has the database to itself: what reads and then writes locks the row first (`with_for_update()`, which SQLite
leaves out) or says it in one statement (`UPDATE … WHERE … RETURNING`). And a failed statement ends a transaction on
PostgreSQL: what may fail and be gone on with stands in `connection.begin_nested()`, or in `ON CONFLICT` (`insert`).

A cancellation never cuts a statement off. What every call writes goes through `Database.write`, which is the cheapest.
"""
