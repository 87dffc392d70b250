from pathlib import Path

import pytest

from gateway_core.config import Config
from gateway_core.config_file import ConfigError, parse
from gateway_core.database_url import database_url_problem


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///headgate.db",
        "sqlite:////var/lib/headgate/headgate.db",
        "postgresql://host/db",
        "postgres://user:p%40ss%2Fword@host:5432/db?sslmode=require",
        "postgresql://user@[::1]:5432/db",
        "postgresql://user@/db?host=/run/postgresql",
    ],
)
def test_a_database_url_is_taken(url: str) -> None:
    assert database_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "must begin with"),
        ("headgate.db", "must begin with"),
        ("mysql://user:hush@host/db", "must begin with"),
        ("postgresql+asyncpg://user:hush@host/db", "must begin with"),
        ("postgresql://", "must be"),
        ("postgresql:///db", "must be"),
        ("postgresql://user:hush@host:port/db", "is no URL"),
        ("postgresql://user:hush@host:99999/db", "is no URL"),
        ("postgresql://user:hush@host:0/db", "must be"),
        ("postgresql://user:hu/sh@host/db", "is no URL"),
        ("postgresql://user:1/sh@host/db", "percent-encode"),
        ("postgresql://user:hu@sh@host/db", "percent-encode"),
        ("postgresql://user:hush#x@host/db", "is no URL"),
        ("postgresql://user@host/db#hush", "percent-encode"),
        ("postgresql://[hush/db", "is no URL"),
        ("sqlite://headgate.db", "and the path of a file"),
        ("sqlite:///", "and the path of a file"),
        ("sqlite:///directory/", "and the path of a file"),
        ("sqlite:///headgate.db?mode=ro", "and the path of a file"),
        ("sqlite:///:memory:", "cannot be in memory"),
        ("sqlite:///a%00b", "and the path of a file"),
    ],
)
def test_a_database_url_that_is_wrong_is_told_by_its_key_and_not_by_its_value(url: str, problem: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse("metrics: true\ndatabase_url: '${URL}'\n", "headgate.yaml", {"URL": url})
    (told,) = failure.value.problems
    assert told.startswith("headgate.yaml:2: database_url: ")
    assert problem in told
    assert "hush" not in told


def test_a_redis_url_that_is_wrong_is_told_by_its_key_and_not_by_its_value() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("metrics: true\nredis_url: '${URL}'\n", "headgate.yaml", {"URL": "memcached://user:hush@host"})
    assert caught.value.problems == ['headgate.yaml:2: redis_url: must begin with "redis://" or "rediss://"']


def test_the_redis_url_is_never_printed_and_needs_what_is_kept() -> None:
    config = parse("redis_url: rediss://user:hush@host/1", "headgate.yaml", {})
    assert "hush" not in f"{config!r} {config}"
    assert config.redis_url is not None
    assert config.redis_url.get_secret_value() == "rediss://user:hush@host/1"
    with pytest.raises(ConfigError, match="storage: false keeps nothing, which redis_url needs"):
        parse("storage: false\nredis_url: redis://host", "headgate.yaml", {})


def test_the_database_url_is_never_printed() -> None:
    config = parse("database_url: postgresql://user:hush@host/db", "headgate.yaml", {})
    assert "hush" not in f"{config!r} {config} {config.model_dump_json()}"
    assert config.database_url is not None
    assert config.database_url.get_secret_value() == "postgresql://user:hush@host/db"


def test_without_keys_there_is_neither_directory_nor_url() -> None:
    assert (Config().data_directory, Config().database_url) == (None, None)


def test_a_data_directory_may_be_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("data_directory: ~/headgate", "headgate.yaml", {}).data_directory == tmp_path / "headgate"


def test_a_data_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=r"headgate\.yaml:1: data_directory: is not a directory"):
        parse(f"data_directory: {file}", "headgate.yaml", {})


def test_keys_are_needed_unless_the_file_says_otherwise() -> None:
    assert Config().authentication == "required"
    assert parse("authentication: optional", "headgate.yaml", {}).authentication == "optional"
    with pytest.raises(ConfigError, match=r"headgate\.yaml:1: authentication: "):
        parse("authentication: off", "headgate.yaml", {})


def test_the_windows_of_public_keys_can_be_chosen() -> None:
    windows = parse("public_keys: {per_key: [{requests: 5, seconds: 60}]}", "headgate.yaml", {}).public_keys
    assert [(one.requests, one.seconds) for one in windows.per_key] == [(5, 60)]
    assert [(one.requests, one.seconds) for one in windows.per_address] == [
        (3, 5),
        (20, 60),
        (300, 3600),
        (1000, 86400),
    ]
    with pytest.raises(ConfigError, match=r"public_keys\.per_key\[0\]\.seconds"):
        parse("public_keys: {per_key: [{requests: 5, seconds: 0}]}", "headgate.yaml", {})
    with pytest.raises(ConfigError, match="needs requests, input_tokens or both"):
        parse("public_keys: {per_key: [{seconds: 5}]}", "headgate.yaml", {})
