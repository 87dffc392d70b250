"""Where the journals in files are, on this machine, of the processes that use a database."""

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.journal_file import journal_directory
from gateway_core.storage.location import PostgresqlServer
from gateway_core.storage.tables.identity import accounts

PLACE = "headgate_place"
"""The option of an engine that says on which server its database is."""


def directory_of(server: PostgresqlServer, root_account_id: str) -> Path:
    """The directory for a database on a server, below the data directory.

    A database is known by its operator's account, whatever it is called now: what was written for it never goes into
    another one.
    """
    return server.directory / f"calls-{root_account_id}"


async def journals_of(connection: AsyncConnection) -> Path | None:
    """The directory for the database of a connection; it need not exist. None: there is nothing in that database."""
    server = connection.engine.get_execution_options().get(PLACE)
    if not isinstance(server, PostgresqlServer):
        path = connection.engine.url.database
        return None if path is None else journal_directory(Path(path))
    root = await connection.scalar(select(accounts.c.id).where(accounts.c.root.is_(True)))
    return None if root is None else directory_of(server, root)
