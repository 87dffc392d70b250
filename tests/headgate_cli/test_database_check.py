import socket
import sqlite3
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.storage.store import Store
from headgate_cli.checks import Check
from headgate_cli.database_check import database_check
from headgate_cli.doctor import examine
from tests.headgate_cli.program import ended
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]

KEY, OTHER = "k" * 40, "o" * 40


async def checked(directory: Path, url: str | None = None, key: str = "") -> Check:
    config = Config(database_url=None if url is None else SecretStr(url))
    check = await database_check(config, directory, {"HEADGATE_SECRET_KEY": key})
    assert "hush" not in f"{check.text}{check.advice}"
    return check


async def begun(directory: Path, url: str | None = None, key: str = "") -> None:
    store = Store.at(None if url is None else SecretStr(url), directory, {"HEADGATE_SECRET_KEY": key})
    await store.open()
    await store.close()


def nobody() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def made_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_a_server_that_does_not_answer_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    port = nobody()
    check = await checked(tmp_path, f"postgresql://me:hush@127.0.0.1:{port}/headgate")
    assert (check.verdict, f"cannot connect to postgresql://127.0.0.1:{port}/headgate" in check.text) == ("wrong", True)
    assert check.advice
    assert made_in(tmp_path) == []


async def test_the_doctor_says_that_the_database_is_away(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    address = "listen: {http: 127.0.0.1:0, grpc: 127.0.0.1:0}"
    file.write_text(f"database_url: postgresql://me:hush@127.0.0.1:{nobody()}/headgate\n{address}\n")
    found = await ended("doctor", "--config", str(file), home=tmp_path)
    assert found.code == 1, found
    assert "WRONG  database" in found.out
    assert "nothing is wrong" not in found.out
    assert "hush" not in found.out + found.err
    file.write_text(f"storage: false\n{address}\n")
    assert not [check for check in await examine(file, None) if check.subject == "database"]


async def test_a_file_is_told_before_and_after_the_first_start(tmp_path: Path) -> None:
    check = await checked(tmp_path)
    assert (check.verdict, check.text) == ("ok", f"{tmp_path / 'headgate.db'}: not there, and not needed yet")
    await begun(tmp_path)
    check = await checked(tmp_path)
    assert (check.verdict, check.text.partition(": ")[2]) == (
        "ok", "answers; its tables are up to date, and the secret key fits"
    )  # fmt: skip


async def test_another_secret_key_and_none_at_all_are_wrong(tmp_path: Path) -> None:
    await begun(tmp_path, key=KEY)
    assert (await checked(tmp_path, key=KEY)).verdict == "ok"
    for key, said in ((OTHER, "sealed with another key"), ("", "secret key is not here"), ("short", "at least")):
        check = await checked(tmp_path, key=key)
        assert (check.verdict, said in check.text, "HEADGATE_SECRET_KEY" in check.advice) == ("wrong", True, True)
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize(
    ("revision", "verdict", "said"),
    [("9999", "wrong", "a newer version"), ("0001", "note", "the next start")],
)
async def test_tables_of_another_version_are_told(tmp_path: Path, revision: str, verdict: str, said: str) -> None:
    await begun(tmp_path)
    with sqlite3.connect(tmp_path / "headgate.db") as connection:
        first = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        assert first != revision
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    check = await checked(tmp_path)
    assert (check.verdict, said in check.text) == (verdict, True), check


async def test_a_file_that_is_no_database_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "headgate.db").write_text("no database " * 1000)
    check = await checked(tmp_path)
    assert (check.verdict, "is not a database" in check.text) == ("wrong", True), check


async def test_a_server_that_answers_is_told_and_stays_as_it_is(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    await postgres_server.run("CREATE DATABASE examined")
    url = postgres_server.url("examined")
    for _ in range(2):  # the first look makes no tables
        check = await checked(tmp_path, url, KEY)
        assert (check.verdict, "it is empty" in check.text) == ("ok", True), check
    await begun(tmp_path, url, KEY)
    assert "up to date" in (await checked(tmp_path, url, KEY)).text
    assert (await checked(tmp_path, url, OTHER)).verdict == "wrong"
    check = await checked(tmp_path, postgres_server.url("examined", password="hush"))
    assert (check.verdict, "password authentication failed" in check.text) == ("wrong", True), check
