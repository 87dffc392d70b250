"""The examples of docs/clients.md run as they stand there."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.clients import toolchain
from tests.clients.caller import Page, output_of
from tests.support.envoy import fronted, needs_envoy
from tests.support.gateway import Gateway, running

SAID = "Hello, Headgate!"
ROOT_KEY = "sk-hg-" + "r" * 43


def at(gateway: Gateway, variables: dict[str, str] | None) -> dict[str, str]:
    return {"HEADGATE_ADDRESS": gateway.grpc_address, **(variables or {})}


async def node(gateway: Gateway, variables: dict[str, str] | None = None) -> str:
    folder = await asyncio.to_thread(toolchain.node_programs)
    return await output_of("node", "quickstart.js", cwd=folder, variables=at(gateway, variables))


async def go(gateway: Gateway, variables: dict[str, str] | None = None) -> str:
    folder = await asyncio.to_thread(toolchain.go_programs)
    return await output_of(folder / "bin/quickstart", variables=at(gateway, variables))


@pytest.mark.parametrize("example", [node, go])
async def test_an_example_runs_as_pasted(example: Callable[..., Awaitable[str]]) -> None:
    async with running(Config()) as gateway:
        assert await example(gateway) == SAID


@pytest.mark.parametrize("example", [node, go])
async def test_an_example_takes_a_key_from_the_environment(
    example: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    async with running(Config(), store=Store.at(None, tmp_path, {}), root_key=ROOT_KEY) as gateway:
        assert await example(gateway, {"HEADGATE_API_KEY": ROOT_KEY}) == SAID
        with pytest.raises(AssertionError, match=r"(?i)unauthenticated"):
            await example(gateway)


@needs_envoy
async def test_the_example_of_a_web_page_runs_in_a_browser(tmp_path: Path) -> None:
    browser = toolchain.browser()
    folder = await asyncio.to_thread(toolchain.node_programs)
    script = (folder / "quickstart_page.bundle.js").read_text()
    assert "http://127.0.0.1:10000" in script
    page = Page(browser, "")
    async with page.open():
        config = Config.model_validate({"cors": {"allowed_origins": [page.origin]}, "drain_seconds": 1})
        async with fronted(config, tmp_path, tls=False) as front:
            tell = 'await fetch("/outcome", {method: "POST", body: JSON.stringify(document.body.innerText)});'
            page.script = script.replace("http://127.0.0.1:10000", front.url) + tell
            assert await page.outcome({}, None) == SAID


def test_every_example_is_built_and_run() -> None:
    marked = re.findall(r"<!-- example: ([a-z-]+) -->", toolchain.DOCUMENT.read_text(encoding="utf-8"))
    assert marked == ["node", "go-generate", "go", "browser-generate", "browser"]


@pytest.mark.parametrize("name", ["node/package.json", "node/package-lock.json", "go/go.mod", "go/go.sum"])
def test_modules_are_pinned_by_version_and_hash_and_name_no_registry(name: str) -> None:
    text = (toolchain.HERE / name).read_text(encoding="utf-8")
    assert "://" not in text
    if name == "node/package-lock.json":
        modules = re.findall(r'"node_modules/[^"]+": \{(.*?)\n    \}', text, re.S)
        assert modules
        assert all('"version": ' in module and '"integrity": "sha512-' in module for module in modules)
    if name == "node/package.json":
        assert not re.findall(r'": "[\^~*]', text)
