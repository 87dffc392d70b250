"""The operator's account: made at the first start, with a key that is told once or given by the environment."""

from typing import Any

import structlog

from gateway_core.identity.credential import Credential, credential_of, new_secret
from gateway_core.storage.account import add_account, root_account
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id
from gateway_core.storage.key import TOPIC, Only, add_key, delete_key, found, keys_of, working_private_keys

log = structlog.get_logger("headgate.identity")

VARIABLE = "HEADGATE_ROOT_KEY"
NAME = "root"


class RootKeyInvalid(ValueError):
    """The operator's own key is no key of Headgate's form."""


async def root_established(database: Database, given: str | None) -> str | None:
    """Makes the root account if there is none, and gives it a key; the key where one was made, which nobody keeps.

    With a key given that key works, and the one that was given at an earlier start works no longer. Raises
    RootKeyInvalid.
    """
    credential = None if given is None else given_credential(given)
    async with database.transaction() as connection:
        is_first = await add_account(connection, {"id": new_id(), "root": True, "name": NAME})
        root = await root_account(connection)
        assert root is not None, "the root account is never deleted"
        if credential is not None:
            await _take(connection, database, root.id, credential)
            return None
        if not is_first:
            if not await working_private_keys(connection, root.id):
                log.warning(
                    "root_key_missing", message=f"The operator has no key that works: start with {VARIABLE} set."
                )
            return None
        secret = new_secret("private")
        await add_key(connection, {**key_values(secret), "account_id": root.id, "label": NAME})
        return secret


def given_credential(given: str) -> Credential:
    """What is kept of the operator's own key; raises RootKeyInvalid, which does not tell it."""
    credential = credential_of(given.strip())
    if credential is None or credential.kind != "private":
        raise RootKeyInvalid(
            f'{VARIABLE} must be "sk-hg-", 12 letters or digits, and at least 20 further letters, digits, "-" or "_"'
        )
    return credential


def key_values(secret: str) -> dict[str, object]:
    """The columns that say of a new secret what is kept of it."""
    credential = credential_of(secret)
    assert credential is not None, "new_secret makes keys of the form"
    return credential._asdict()


async def _take(connection: Any, database: Database, root_id: str, credential: Credential) -> None:
    """The given key works, and no other of its label."""
    there = await found(connection, credential.lookup)
    if there is not None and there.hash == credential.hash:
        return
    for old, _ in await keys_of(connection, root_id, Only()):
        if old.label == VARIABLE:
            await delete_key(connection, old.id)
            await database.changes.publish(connection, TOPIC, old.id)
    added = await add_key(connection, {**credential._asdict(), "account_id": root_id, "label": VARIABLE})
    await database.changes.publish(connection, TOPIC, added)
