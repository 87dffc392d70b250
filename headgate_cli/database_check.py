"""The check of `headgate doctor` that asks the database: whether it answers, its tables, and the key to its secrets."""

import os
from collections.abc import Mapping
from pathlib import Path

from gateway_core.config import Config
from gateway_core.storage.condition import Condition, condition
from gateway_core.storage.errors import SecretKeyInvalid, SecretUnreadable, StorageUnavailable
from gateway_core.storage.location import Location, SqliteFile, location
from gateway_core.storage.secret_box import FILE_NAME, VARIABLE, secret_box
from gateway_core.storage.setting import PROOF
from headgate_cli.checks import Check

START_IT = "start it, or mend database_url: without it `headgate serve` does not start"
KEY = f"set {VARIABLE}, or restore {FILE_NAME} in the data directory, as it was"


async def database_check(config: Config, directory: Path, environ: Mapping[str, str] = os.environ) -> Check:
    """Whether `headgate serve` could open what a configuration names. It makes nothing and changes nothing."""
    try:
        place = location(config.database_url, directory)
        if isinstance(place, SqliteFile) and not place.path.exists():
            return Check("ok", "database", f"{place}: not there, and not needed yet")
        found = await condition(place)
    except StorageUnavailable as error:
        return Check("wrong", "database", str(error), START_IT)
    return told(place, found, key_fault(found.proof, directory, environ))


def told(place: Location, found: Condition, fault: str | None) -> Check:
    """What is to be told of a database that answers; takes what is wrong with the secret key."""
    if not found.is_known:
        text = f"{place}: is at revision {', '.join(found.revisions)}, which a newer version of Headgate made"
        return Check("wrong", "database", text, "start that version, or restore a backup")
    if fault is not None:
        return Check("wrong", "database", f"{place}: answers, but {fault}", KEY)
    if not found.revisions:
        return Check("ok", "database", f"{place}: answers; it is empty, and the first start makes its tables")
    if not found.is_current:
        text = f"{place}: answers; its tables are of an older version, and the next start brings them up to date"
        return Check("note", "database", text)
    return Check("ok", "database", f"{place}: answers; its tables are up to date, and the secret key fits")


def key_fault(proof: bytes | None, directory: Path, environ: Mapping[str, str]) -> str | None:
    """What is wrong with the secret key for a database with such a proof. None: nothing."""
    if proof is None:
        return None
    if not environ.get(VARIABLE) and not (directory / FILE_NAME).exists():
        return f"its secret key is not here: there is no {VARIABLE}, and no {directory / FILE_NAME}"
    try:
        box = secret_box(environ, directory)
        box.open(proof, PROOF)
    except SecretUnreadable:
        return f"its secrets were sealed with another key than that of {box.source}"
    except SecretKeyInvalid as error:
        return str(error)
    return None
