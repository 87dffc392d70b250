"""Single values that are kept, and the proof that the secret key is the one that the database was begun with."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.database import Database
from gateway_core.storage.errors import SecretKeyInvalid, SecretUnreadable
from gateway_core.storage.identifier import now_us
from gateway_core.storage.secret_box import SecretBox
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.coordination import settings

PROOF = "secret_key_proof"
PROVEN = "headgate"


async def setting(connection: AsyncConnection, name: str) -> bytes | None:
    """The value of a name; None: there is none."""
    value = await connection.scalar(select(settings.c.value).where(settings.c.name == name))
    return None if value is None else bytes(value)


async def settle(connection: AsyncConnection, name: str, value: bytes) -> bytes:
    """The value that the name has, which is the given one if it had none."""
    new = insert(connection, settings).values(name=name, value=value, updated_us=now_us())
    await connection.execute(new.on_conflict_do_nothing())
    kept = await setting(connection, name)
    return value if kept is None else kept


async def prove(database: Database, box: SecretBox) -> None:
    """Raises SecretKeyInvalid unless the key is the one with which the database was begun."""
    async with database.transaction() as connection:
        sealed = await settle(connection, PROOF, box.seal(PROVEN, PROOF))
    try:
        box.open(sealed, PROOF)
    except SecretUnreadable:
        raise SecretKeyInvalid(
            f"The secrets in {database.location} were sealed with another key than that of {box.source}: "
            "set HEADGATE_SECRET_KEY, or restore secret.key in the data directory, as it was."
        ) from None
