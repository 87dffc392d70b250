"""The README's examples run as pasted; only the ports are those of a gateway that the test started."""

import asyncio
import json
import os
import re
import shutil
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from gateway_core.config import Config
from gateway_core.config_file import ConfigError, parse
from gateway_core.storage.store import Store
from tests.support.gateway import Gateway, running

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SAID = "Hello, Headgate!"
SECONDS = 60
ROOT_KEY = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"


def example(name: str, language: str) -> str:
    """The block of code after the mark with a name."""
    found = re.search(rf"<!-- example: {name} -->\n```{language}\n(.*?)```", README, re.S)
    assert found, f"the README has no example {name}"
    return found[1]


def curl_line() -> str:
    """The command that begins with curl, over as many lines as it has."""
    found = re.search(r"^curl .*?[^\\]$", README, re.S | re.M)
    assert found, "the README has no curl line"
    return found[0]


def at(gateway: Gateway, text: str) -> str:
    """An example with the ports of a running gateway."""
    assert ":8080" in text or ":50051" in text
    return text.replace("127.0.0.1:8080", gateway.http_url.removeprefix("http://")).replace(
        "127.0.0.1:50051", gateway.grpc_address
    )


async def output_of(*command: str, cwd: Path, **variables: str) -> str:
    """What a command says; fails where it fails, or says something of a fault."""
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | variables
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, env=environ, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(SECONDS):
            said, faults = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, faults.decode()
    assert b"Traceback" not in faults
    return said.decode()


@pytest.mark.parametrize("name", ["openai", "ollama", "grpc"])
async def test_an_example_runs_as_pasted(name: str, tmp_path: Path) -> None:
    async with running(Config()) as gateway:
        script = tmp_path / f"example_{name}.py"
        script.write_text(at(gateway, example(name, "python")), encoding="utf-8")
        assert await output_of(sys.executable, "-W", "error", str(script), cwd=tmp_path) == SAID


@pytest.mark.parametrize("name", ["openai", "ollama", "grpc"])
async def test_an_example_takes_a_key_from_the_environment(name: str, tmp_path: Path) -> None:
    store = Store.at(None, tmp_path, {})
    async with running(Config(), store=store, root_key=ROOT_KEY) as gateway:
        script = tmp_path / f"example_{name}.py"
        script.write_text(at(gateway, example(name, "python")), encoding="utf-8")
        command = (sys.executable, "-W", "error", str(script))
        assert await output_of(*command, cwd=tmp_path, HEADGATE_API_KEY=ROOT_KEY) == SAID
        with pytest.raises(AssertionError, match=r"401|UNAUTHENTICATED"):
            await output_of(*command, cwd=tmp_path)


@pytest.mark.parametrize(
    ("variables", "told"),
    [({}, "the first start printed the root key"), ({"HEADGATE_ROOT_KEY": "sk-hg-none"}, '"reason":"unauthenticated"')],
)
async def test_a_walk_with_a_wrong_key_says_what_is_wrong(variables: dict[str, str], told: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with running(Config(), store=Store.at(None, tmp_path, {}), root_key=ROOT_KEY) as gateway:
        with pytest.raises(AssertionError, match=told):
            await output_of("sh", "-e", "-c", at(gateway, example("walk", "sh")), cwd=tmp_path, **variables)


async def test_the_curl_line_works_as_pasted(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with running(Config()) as gateway:
        answer = json.loads(await output_of("sh", "-c", at(gateway, curl_line()), cwd=tmp_path))
    assert answer["choices"][0]["message"]["content"] == SAID


async def test_the_walk_runs_as_pasted_and_its_money_agrees(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    config = parse(example("config", "yaml"), "README.md", {"LAB_KEY": "sk-lab"})
    store = Store.at(None, tmp_path, {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    async with running(config, store=store, root_key=ROOT_KEY) as gateway:
        walk = at(gateway, example("walk", "sh"))
        said = await output_of("sh", "-e", "-c", walk, cwd=tmp_path, HEADGATE_ROOT_KEY=ROOT_KEY)
    credit, answer, records, balance, summary = map(json.loads, said.splitlines())
    assert credit["data"]["balance_usd"] == "5"
    assert answer["choices"][0]["message"]["content"] == SAID
    (record,) = records["data"]
    (of_gateway,) = summary["data"]["summaries"]
    assert of_gateway["group"] == record["gateway_id"]
    cost = Decimal(record["cost_usd"])
    assert cost > 0
    assert Decimal(balance["data"]["spent_usd"]) == Decimal(of_gateway["cost_usd"]) == cost
    assert Decimal(balance["data"]["balance_usd"]) == 5 - cost
    assert Decimal(summary["data"]["total"]["charged_usd"]) == cost


def test_every_block_of_python_is_a_marked_example() -> None:
    assert len(re.findall(r"^```python", README, re.M)) == len(
        re.findall(r"^<!-- example: \w+ -->\n```python", README, re.M)
    )


def test_the_configuration_is_one() -> None:
    config = parse(example("config", "yaml"), "README.md", {"LAB_KEY": "sk-lab"})
    assert set(config.providers) == {"lab"}
    assert config.models["small"].targets[0].model == "tiny"
    with pytest.raises(ConfigError, match="LAB_KEY"):
        parse(example("config", "yaml"), "README.md", {})
