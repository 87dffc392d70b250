from pathlib import Path

from pydantic import SecretStr

from headgate_cli.checks import Check
from headgate_cli.limits_check import KEEP_ALL, limits_check
from tests.headgate_cli.program import ended
from tests.support.redis import RunningRedis, redis_server

__all__ = ["redis_server"]


async def checked(url: str) -> Check:
    check = await limits_check(SecretStr(url))
    assert "hush" not in f"{check.text}{check.advice}"
    return check


async def test_a_server_that_answers_is_told_with_its_version(redis_server: RunningRedis) -> None:
    check = await checked(redis_server.url)
    assert (check.verdict, check.advice) == ("ok", "")
    assert check.text.startswith(f"redis://127.0.0.1:{redis_server.port}/0 answers: ")
    assert check.text.partition("answers: ")[2].split()[0] in ("Redis", "Valkey")


async def test_a_server_that_evicts_is_told(redis_server: RunningRedis) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert (await checked(redis_server.url)).verdict == "ok"  # it has all the memory there is
        client.config_set("maxmemory", "100mb")
    check = await checked(redis_server.url)
    assert (check.verdict, check.advice) == ("note", KEEP_ALL)
    assert check.text.endswith("which evicts (allkeys-lru)")


async def test_a_server_that_may_not_be_asked_what_it_is_answers_all_the_same(redis_server: RunningRedis) -> None:
    redis_server.set_user("few", "on", ">enough", "+ping")
    check = await checked(f"redis://few:enough@127.0.0.1:{redis_server.port}")
    assert (check.verdict, check.text.partition("answers: ")[2]) == ("ok", "it may not be asked what it is")


async def test_a_wrong_password_and_a_server_that_is_not_there_are_told(redis_server: RunningRedis) -> None:
    check = await checked(redis_server.url_of("hush"))
    assert (check.verdict, "does not accept the user name or the password" in check.text) == ("wrong", True)
    redis_server.kill()
    check = await checked(redis_server.url_of("hush"))
    assert (check.verdict, "cannot be reached" in check.text) == ("wrong", True)


async def test_doctor_looks_at_the_server_of_the_configuration(redis_server: RunningRedis, tmp_path: Path) -> None:
    config = tmp_path / "headgate.yaml"
    config.write_text("redis_url: ${REDIS}\nlisten: {http: 127.0.0.1:0, grpc: 127.0.0.1:0}\n")
    variables = {"REDIS": redis_server.url_of("hush")}
    found = await ended("doctor", "--config", str(config), home=tmp_path, variables=variables)
    assert f"redis_url: redis://127.0.0.1:{redis_server.port}/0 does not accept" in found.out, found
    assert "hush" not in found.out + found.err


async def test_a_wrong_password_is_an_error_of_the_start_that_names_the_key(
    redis_server: RunningRedis, tmp_path: Path
) -> None:
    config = tmp_path / "headgate.yaml"
    config.write_text("redis_url: ${REDIS}\nlisten: {http: 127.0.0.1:0, grpc: 127.0.0.1:0}\n")
    variables = {"REDIS": redis_server.url_of("hush")}
    found = await ended("serve", "--config", str(config), home=tmp_path, variables=variables)
    assert found.code == 1, found
    told = f"redis_url: redis://127.0.0.1:{redis_server.port}/0 does not accept the user name or the password"
    assert found.err.count(told) == 1, found
    assert "hush" not in found.out + found.err
    assert "Traceback" not in found.err
    config.write_text("redis_url: ${REDIS}\n")
    variables = {"REDIS": "mysql://user:hush@host"}
    found = await ended("serve", "--config", str(config), home=tmp_path, variables=variables)
    assert found.code == 1, found
    assert "headgate.yaml:1: redis_url: must begin with" in found.err
    assert "hush" not in found.out + found.err
