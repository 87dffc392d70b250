"""The configurations of deploy/ are served as they are, by replicas that share a PostgreSQL and a Redis."""

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.deploy.documents import DEPLOY, KUBERNETES
from tests.headgate_cli.program import Serving, ended, serving
from tests.support.postgres import PostgresServer
from tests.support.redis import RunningRedis

ROOT_KEY = "sk-hg-" + "b2" * 22
SAID = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}
FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


async def answer(program: Serving, key: str) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        headers = {"authorization": f"Bearer {key}"}
        answered = await client.post(f"{program.url}/v1/chat/completions", json=SAID, headers=headers)
    assert answered.status_code == 200, answered.text
    return str(answered.json()["choices"][0]["message"]["content"])


async def new_key(program: Serving) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        headers = {"authorization": f"Bearer {ROOT_KEY}"}
        made = await client.post(
            f"{program.url}/api/v1/keys", json={"label": "app", "kind": "private"}, headers=headers
        )
    return str(made.json()["data"]["secret"])


def quick(path: Path, to: Path) -> Path:
    """A configuration that does not wait for an Envoy which is not there; else as it is."""
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("drain_delay_seconds:")]
    assert len(lines) == len(text.splitlines()) - 1
    to.write_text("\n".join(lines), encoding="utf-8")
    return to


@pytest.mark.parametrize(
    "path", [DEPLOY / "compose-config.yaml", KUBERNETES / "config.yaml"], ids=lambda path: path.name
)
async def test_two_replicas_serve_one_house_and_end_with_a_whole_ledger(
    path: Path, tmp_path: Path, postgres_server: PostgresServer, redis_server: RunningRedis
) -> None:
    database_url = await postgres_server.new_database()
    variables = {
        "HEADGATE_DATABASE_URL": database_url,
        "HEADGATE_REDIS_URL": redis_server.url,
        "HEADGATE_SECRET_KEY": "s" * 64,
        "HEADGATE_ROOT_KEY": ROOT_KEY,
        "OPENAI_API_KEY": "sk-none",
    }
    config = str(quick(path, tmp_path / "config.yaml"))
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        home.mkdir()
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(serving("--config", config, *FREE, home=home, variables=variables))
            for home in homes
        ]
        key = await new_key(one)
        assert await answer(other, key) == "Hello"
        assert await answer(one, key) == "Hello"
        for program in (one, other):
            program.terminate()
            assert await program.code() == 0
    proof = await ended("doctor", "ledger", "--config", config, home=homes[0], variables=variables)
    assert proof.code == 0, proof.out + proof.err
