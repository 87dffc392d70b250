"""What the program's own clients say where nobody could be asked, and `headgate usage` over TLS."""

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from headgate_cli.chat import ChatOptions, answer
from headgate_cli.client import connected
from headgate_cli.errors import CommandFailed
from headgate_cli.usage import UsageOptions, show
from tests.headgate_cli.program import ended, serving
from tests.headgate_cli.test_tls import FREE, Tls

NAMES = ("HEADGATE_AUTHORITIES", "HEADGATE_CERTIFICATE", "HEADGATE_PRIVATE_KEY")


@dataclass(frozen=True, slots=True)
class World:
    place: Tls
    url: str
    grpc: str

    def at(self, way: str, scheme: str) -> dict[str, str]:
        """Where a client is sent."""
        host = self.url.rpartition("/")[2] if way == "url" else self.grpc
        return {way: f"{scheme}{host}" if way == "url" or scheme == "https://" else host}


@pytest_asyncio.fixture(params=["TLS", "clear"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    place = Tls(tmp_path)
    on = request.param == "TLS"
    config = place.config("headgate.yaml", http=on, grpc=on)
    config.write_text(config.read_text().replace("storage: false", "authentication: optional"))
    async with serving("--config", str(config), *FREE, home=tmp_path) as program:
        yield World(place, program.url, program.grpc)


def environment(monkeypatch: pytest.MonkeyPatch, place: Tls, *names: str) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setenv(name, place.variables()[name])


async def sentences(where: dict[str, str]) -> set[str]:
    """What each of the three commands says."""
    said = set()
    with pytest.raises(CommandFailed) as failed:
        await show(UsageOptions(**where))  # type: ignore[arg-type]
    said.add(str(failed.value))
    with pytest.raises(CommandFailed) as failed:
        async with connected(where.get("url"), where.get("grpc")) as client:
            await client.models()
    said.add(str(failed.value))
    with pytest.raises(CommandFailed) as failed:
        await answer(ChatOptions(model="echo/echo", url=where.get("url"), grpc=where.get("grpc")), [("user", "Hi")])
    return said | {str(failed.value)}


@pytest.mark.parametrize("way", ["url", "grpc"])
@pytest.mark.parametrize("world", ["TLS"], indirect=True)
async def test_a_failure_of_tls_says_what_to_change(world: World, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, world.place)
    for said in await sentences(world.at(way, "https://")):
        assert "its certificate is not believed" in said
        assert "HEADGATE_AUTHORITIES" in said
        assert "headgate serve" not in said
    environment(monkeypatch, world.place, NAMES[0])
    for said in await sentences(world.at(way, "https://")):
        assert "it may ask for a certificate: set HEADGATE_CERTIFICATE and HEADGATE_PRIVATE_KEY" in said
    for said in await sentences(world.at(way, "http://")):
        assert "it may want TLS (https://)" in said


@pytest.mark.parametrize("way", ["url", "grpc"])
@pytest.mark.parametrize("world", ["clear"], indirect=True)
async def test_tls_to_what_speaks_none_is_told(world: World, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, world.place)
    for said in await sentences(world.at(way, "https://")):
        assert "speaks no TLS: leave out https://" in said


@pytest.mark.parametrize("where", ["url", "grpc"])
async def test_nobody_there_is_told_with_the_cause(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment(monkeypatch, Tls(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    for said in await sentences({where: f"https://{address}"}):
        assert said.startswith(f"no Headgate answers at https://{address}: start one with `headgate serve`")
        assert said.endswith(")")


@pytest.mark.parametrize("world", ["TLS"], indirect=True)
async def test_usage_is_asked_for_over_tls(world: World) -> None:
    for where in (("--url", world.url), ("--grpc", f"https://{world.grpc}")):
        found = await ended(
            "usage", *where, "--by", "model", "--json", home=world.place.home, variables=world.place.variables()
        )
        assert found.code == 0, found
        assert "summaries" in json.loads(found.out) or "total" in json.loads(found.out), found
