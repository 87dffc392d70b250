"""What is kept: the database and the box for secrets, opened together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from gateway_core.storage.database import Database
from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.location import location
from gateway_core.storage.secret_box import SecretBox, secret_box
from gateway_core.storage.setting import prove


class Store:
    """A database and the box that seals the secrets in it. `open` comes before anything else."""

    def __init__(self, database: Database, box: SecretBox) -> None:
        """Takes both."""
        self.database = database
        self.box = box

    @classmethod
    def at(cls, database_url: SecretStr | None, data_directory: Path, environ: Mapping[str, str]) -> Self:
        """The store that a configuration names; makes the data directory. Raises StorageError."""
        try:
            data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CannotOpen(f"data_directory {data_directory} cannot be made: {error.strerror}") from None
        return cls(Database(location(database_url, data_directory)), secret_box(environ, data_directory))

    async def open(self) -> None:
        """Opens the database, brings it up to date, and proves the key. Raises StorageError."""
        await self.database.open()
        await prove(self.database, self.box)

    async def close(self) -> None:
        """Closes the database."""
        await self.database.close()
