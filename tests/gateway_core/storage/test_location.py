from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.location import PostgresqlServer, SqliteFile, location

DATA = Path("/data")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (None, "/data/headgate.db"),
        ("sqlite:///other.db", "/data/other.db"),
        ("sqlite:////var/lib/headgate/a.db", "/var/lib/headgate/a.db"),
        ("sqlite:///a%20b/c%3f.db", "/data/a b/c?.db"),
    ],
)
def test_a_file_is_relative_to_the_data_directory(url: str | None, path: str) -> None:
    assert location(None if url is None else SecretStr(url), DATA) == SqliteFile(Path(path))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:hush@db.example:5433/headgate", "postgresql://db.example:5433/headgate"),
        ("postgres://me:hush@[::1]/headgate?sslmode=require", "postgresql://[::1]/headgate"),
        ("postgresql://me:hush@/headgate?host=/run/postgresql&password=hush", "postgresql:///headgate"),
    ],
)
def test_a_server_is_told_without_its_secrets(url: str, name: str) -> None:
    found = location(SecretStr(url), DATA)
    assert isinstance(found, PostgresqlServer)
    assert found.dsn == url
    assert str(found) == name
    assert "hush" not in f"{found!r} {found}"


def test_what_is_no_url_is_told_by_the_name_of_the_key() -> None:
    with pytest.raises(CannotOpen, match=r'^database_url must begin with "postgresql://" or "sqlite:///"$'):
        location(SecretStr("mysql://me:hush@host/db"), DATA)
