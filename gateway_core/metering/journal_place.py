"""Where the journals in files are of the processes that use a database, of which the operator's account is the mark."""

from pathlib import Path
from typing import Any

from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id
from gateway_core.storage.journal_file import journal_directory
from gateway_core.storage.journal_place import directory_of
from gateway_core.storage.location import SqliteFile


async def journals(database: Database) -> Path:
    """The directory, which need not exist; raises StorageUnavailable."""
    place = database.location
    if isinstance(place, SqliteFile):
        return journal_directory(place.path)
    return directory_of(place, await database.run(root_account_id))


def root_account_id(connection: Any) -> str:
    """The operator's account, which is made where there is none."""
    found = rows.root_account_id(connection)
    if found is None:
        rows.make_root_account(connection, new_id())
        found = rows.root_account_id(connection)
    assert found is not None, "it was made"
    return found
