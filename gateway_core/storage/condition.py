"""What is to be told of a database without changing it: whether it answers, of which version it is, and whose key."""

from dataclasses import dataclass

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import exc

from gateway_core.storage.database import Database
from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.location import Location
from gateway_core.storage.migration import FOLDER
from gateway_core.storage.setting import PROOF, setting


@dataclass(frozen=True, slots=True)
class Condition:
    """A database that answers."""

    revisions: tuple[str, ...]
    """Of its tables. Empty: there are none yet."""
    is_known: bool
    """Whether this version of the program, or one before it, made them."""
    is_current: bool
    proof: bytes | None
    """What the secret key of the database opens (place `PROOF`); None where there is none, or the tables are others."""


async def condition(place: Location) -> Condition:
    """The condition of a database; raises StorageUnavailable, of which CannotOpen tells what to mend."""
    script = ScriptDirectory(str(FOLDER))
    database = Database(place)
    try:
        async with database.reading() as connection:
            found = await connection.run_sync(lambda shown: MigrationContext.configure(shown).get_current_heads())
            is_current = found == (script.get_current_head(),)
            proof = await setting(connection, PROOF) if is_current else None
    except exc.DBAPIError as error:
        raise CannotOpen(f"database_url: cannot read {place}: {error.orig}") from None
    finally:
        await database.close()
    known = {revision.revision for revision in script.walk_revisions()}
    return Condition(tuple(found), set(found) <= known, is_current, proof)
