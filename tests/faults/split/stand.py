"""Two replicas, an Envoy, PostgreSQL and Redis, each in a network namespace of its own; callers and vendor are here."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import httpx
import yaml

from gateway_core.config_file import parse
from headgate_cli.envoy.commands import rendered
from tests.faults.ledger import PRICE, ROOT_KEY, TARGET
from tests.faults.split.network import Network, Program
from tests.support import postgres, redis
from tests.support.envoy import PROGRAM as ENVOY

PASSWORD = "split-0123456789"
REPLICAS = ("one", "two")
GRPC, HTTP, FRONT, ADMIN, DATABASE, SHARED = 50051, 8080, 10000, 9901, 5432, 6379
START_SECONDS = 40
LIMIT = 200
"""Requests of the limited account in a day."""


class Stand:
    """The whole, for as long as the context lasts."""

    def __init__(self, vendor: Callable[[str], Awaitable[str]]) -> None:
        """Takes what starts the vendor at an address, and tells its URL."""
        self.network = Network()
        self.programs: dict[str, Program] = {}
        self._vendor = vendor
        self._place = tempfile.TemporaryDirectory(prefix="headgate-split-")
        self.home = Path(self._place.name)
        self.config_text = ""

    @property
    def url(self) -> str:
        """Of the Envoy, for REST."""
        return f"http://{self.network.address('envoy')}:{FRONT}"

    @property
    def grpc_address(self) -> str:
        """Of the Envoy, for gRPC."""
        return f"{self.network.address('envoy')}:{FRONT}"

    @property
    def database_url(self) -> str:
        """Of the ledger."""
        return f"postgresql://{postgres.USER}:{PASSWORD}@{self.network.address('postgres')}:{DATABASE}/postgres"

    def data(self, replica: str) -> Path:
        """The disk of a replica."""
        return self.home / replica

    async def start_postgres(self) -> None:
        """Waits until it answers."""
        await self.programs["postgres"].start()
        await self._ready("postgres", self._database_answers)

    async def start_redis(self) -> None:
        """Waits until it answers; it knows nothing at first."""
        await self.programs["redis"].start()
        await self._ready("redis", lambda: connects(self.network.address("redis"), SHARED))

    async def start_replica(self, name: str) -> None:
        """Waits until it serves."""
        await self.programs[name].start()
        await self._ready(name, lambda: self._serves(name))

    async def replica_is_in(self, name: str, within: float = START_SECONDS) -> None:
        """Waits until the Envoy sends calls to a replica."""
        address = self.network.address(name)

        async def is_in() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
                told = await client.get(f"http://{self.network.address('envoy')}:{ADMIN}/clusters?format=json")
            hosts = [host for status in told.json()["cluster_statuses"] for host in status.get("host_statuses", ())]
            mine = [host for host in hosts if host["address"]["socket_address"]["address"] == address]
            healths = [host.get("health_status", {}) for host in mine]
            return bool(mine) and all(set(health) == {"eds_health_status"} for health in healths)

        await self._ready("envoy", is_in, within)

    async def __aenter__(self) -> Self:
        await self.network.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends everything that is left."""
        for program in self.programs.values():
            if program.is_running:
                await program.send(signal.SIGKILL)
        await self.network.__aexit__(None, None, None)
        self._place.cleanup()

    async def _start(self) -> None:
        for name in ("envoy", *REPLICAS, "postgres", "redis"):
            await self.network.add(name)
        self._prepare_postgres()
        self._prepare_redis()
        await asyncio.gather(self.start_postgres(), self.start_redis())
        document = self._document(await self._vendor(self.network.own_address))
        self.config_text = yaml.safe_dump(document)
        for name in REPLICAS:
            self._prepare_replica(name, document)
        for name in REPLICAS:
            await self.start_replica(name)
        envoy = self.home / "envoy.yaml"
        envoy.write_text(rendered(parse(self.config_text, "split.yaml", {})))
        options = ("--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning")
        self._program("envoy", [str(ENVOY), "-c", str(envoy), *options])
        await self.programs["envoy"].start()
        for name in REPLICAS:
            await self.replica_is_in(name)

    def _document(self, vendor_url: str) -> dict[str, Any]:
        address = self.network.address
        replicas = [{"host": address(name), "grpc": GRPC, "http": HTTP} for name in REPLICAS]
        return {
            "database_url": self.database_url,
            "redis_url": f"redis://:{PASSWORD}@{address('redis')}:{SHARED}/0",
            "log": {"level": "warning"},
            "providers": {"lab": {"kind": "openai", "base_url": vendor_url, "api_key": "k", "lists_models": False}},
            "models": {"small": {"targets": [TARGET], "price": PRICE}},
            "plans": {"limited": {"windows": [{"window_seconds": 86400, "requests": LIMIT}]}},
            "limits": {"trusted_proxies": [f"{address('envoy')}/32"]},
            "envoy": {
                "listen": [f"{address('envoy')}:{FRONT}"],
                "admin": f"{address('envoy')}:{ADMIN}",
                "replicas": replicas,
                "health_seconds": 1,
            },
        }

    def _prepare_replica(self, name: str, document: dict[str, Any]) -> None:
        config = self.home / f"{name}.yaml"
        address = self.network.address(name)
        own = {"listen": {"http": f"{address}:{HTTP}", "grpc": f"{address}:{GRPC}"}}
        config.write_text(yaml.safe_dump({**document, **own}))
        self.data(name).mkdir()
        serve = [sys.executable, "-m", "headgate_cli", "serve", "--config", str(config), "--data", str(self.data(name))]
        secret = {"HEADGATE_ROOT_KEY": ROOT_KEY, "HEADGATE_SECRET_KEY": "s" * 40, "HOME": str(self.home)}
        self._program(name, serve, environment=secret)

    def _prepare_postgres(self) -> None:
        programs = next(postgres.installations())
        directory = Path(tempfile.mkdtemp(prefix="headgate-split-pg-", dir=self._reachable()))
        owner = postgres.unprivileged_user()
        secret = directory / "password"
        secret.write_text(PASSWORD)
        if owner is not None:
            for path in (directory, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = directory / "data"
        postgres.initialize(programs, data, secret, owner)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {self.network.subnet} scram-sha-256\n")
        options = {
            "listen_addresses": self.network.address("postgres"), "port": DATABASE, "unix_socket_directories": "",
            "shared_buffers": "16MB", "fsync": "off", "logging_collector": "off",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        user = None if owner is None else (owner.pw_uid, owner.pw_gid)
        self._program("postgres", [str(programs / "postgres"), "-D", str(data), *arguments], user=user)

    def _prepare_redis(self) -> None:
        path = redis.program("redis") or redis.program("valkey")
        assert path is not None
        address = self.network.address("redis")
        options = ["--bind", address, "--port", str(SHARED), "--requirepass", PASSWORD, "--save", ""]
        self._program("redis", [str(path), *options, "--appendonly", "no", "--dir", str(self.home)])

    def _reachable(self) -> Path:
        # PostgreSQL's user may go here.
        self.home.chmod(0o755)
        return self.home

    def _program(
        self,
        name: str,
        command: list[str],
        *,
        environment: dict[str, str] | None = None,
        user: tuple[int, int] | None = None,
    ) -> None:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
        whole = self.network.command(name, *command, user=user)
        self.programs[name] = Program(whole, self.home / f"{name}.log", {**kept, **(environment or {})})

    async def _ready(self, name: str, question: Callable[[], Awaitable[bool]], within: float = START_SECONDS) -> None:
        deadline = time.monotonic() + within
        while True:
            with suppress(OSError, httpx.HTTPError, asyncpg.PostgresError):
                if await question():
                    return
            assert self.programs[name].is_running, f"{name} has ended: {self.programs[name].said}"
            assert time.monotonic() < deadline, f"{name} is not ready: {self.programs[name].said}"
            await asyncio.sleep(0.05)

    async def _database_answers(self) -> bool:
        connection = await asyncpg.connect(self.database_url, timeout=2)
        await connection.close()
        return True

    async def _serves(self, name: str) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            told = await client.get(f"http://{self.network.address(name)}:{HTTP}/healthz")
        return told.status_code == 200


async def connects(host: str, port: int) -> bool:
    """Whether a TCP connection is taken."""
    loop = asyncio.get_running_loop()
    with socket.socket() as one:
        one.setblocking(False)
        await asyncio.wait_for(loop.sock_connect(one, (host, port)), 2)
    return True
