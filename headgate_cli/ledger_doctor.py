"""`headgate doctor ledger`: proves that the ledger and the balances say the same."""

import asyncio
import os
from pathlib import Path

from gateway_core.config import Config
from gateway_core.metering.price import usd_text
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError
from gateway_core.storage.ledger_proof import Proof, proof
from gateway_core.storage.location import SqliteFile, location
from headgate_cli.errors import FAILED, CommandFailed
from headgate_cli.locations import config_file, data_directory, read_storage


def run(*, config: Path | None, data: Path | None) -> int:
    """Prints the proof, or what does not agree; returns 1 then. Raises CommandFailed."""
    if data is not None and not data.is_dir():
        raise CommandFailed(f"there is no directory {data}")
    proved = asyncio.run(proved_at(config, data))
    if proved is None:
        print("there is no ledger yet")
        return 0
    calls = "1 call" if proved.request_count == 1 else f"{proved.request_count:,} calls"
    print(f"{calls}, {proved.open_count:,} of them open; charged: {usd_text(proved.charged)} US$")
    for fault in proved.faults:
        print(f"WRONG  {fault}")
    if proved.faults:
        return FAILED
    print("the ledger and the balances agree to the last digit")
    return 0


async def proved_at(chosen: Path | None, data: Path | None) -> Proof | None:
    """The proof of the ledger that a configuration names. None: there is none yet. Raises CommandFailed."""
    path = config_file(chosen, data)
    config = read_storage(path) if path is not None else Config()
    directory = data_directory(data or config.data_directory, os.environ)
    try:
        place = location(config.database_url, directory)
        if isinstance(place, SqliteFile) and not place.path.exists():
            return None
        async with Database(place) as database, database.reading() as connection:
            return await proof(connection)
    except StorageError as error:
        raise CommandFailed(str(error)) from None
