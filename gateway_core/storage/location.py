"""Where the database is, as the configuration's `database_url` says."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from gateway_core.database_url import database_url_problem
from gateway_core.storage.errors import CannotOpen

FILE_NAME = "headgate.db"


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database in a file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    """A database on a server."""

    dsn: str = field(repr=False)
    """As libpq reads it, secrets included."""
    name: str
    """Host, port and database: what may be told."""
    directory: Path = Path()
    """The data directory of this machine: what is not on the server is there."""

    def __str__(self) -> str:
        return self.name


Location = SqliteFile | PostgresqlServer


def location(database_url: SecretStr | None, data_directory: Path) -> Location:
    """Where the database is; raises CannotOpen, which names `database_url`, where that is no such URL.

    A path that does not begin with a slash ("sqlite:///headgate.db") is relative to the data directory.
    """
    if database_url is None:
        return SqliteFile(data_directory.absolute() / FILE_NAME)
    url = database_url.get_secret_value()
    problem = database_url_problem(url)
    if problem is not None:
        raise CannotOpen(f"database_url {problem}")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return SqliteFile(data_directory.absolute() / unquote(parts.path).removeprefix("/"))
    host = parts.netloc.rpartition("@")[2]
    return PostgresqlServer(url, f"postgresql://{host}{parts.path}", data_directory.absolute())
