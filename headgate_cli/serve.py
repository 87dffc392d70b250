"""`headgate serve`: the core and the bridge, together or apart, from the first line to the end of the last call."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grpc import aio

from gateway_core.config import Config
from gateway_core.identity.root import VARIABLE, RootKeyInvalid
from gateway_core.server import Core
from gateway_core.storage.errors import StorageError
from gateway_core.storage.store import Store
from gateway_core.telemetry.log import configure_log
from headgate_cli.address import Address, address_of, claimed, in_use
from headgate_cli.client import channel_options
from headgate_cli.commands import version_text
from headgate_cli.discovery import Findings, discover
from headgate_cli.errors import CommandFailed, WrongUse
from headgate_cli.http import HttpServer
from headgate_cli.locations import config_file, data_directory, read_config
from headgate_cli.open_files import allow_open_files
from headgate_cli.startup import Startup
from rest_bridge import dialects
from rest_bridge.app import CHANNEL_OPTIONS, create, server
from rest_bridge.config import BridgeConfig

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

DEFAULT_CORE = "127.0.0.1:50051"
CORE_SECONDS = 1.0
"""How long a bridge waits for its core before it says that it does not answer yet."""
AFTER_LAST_CALL_SECONDS = 1.0
"""How long the end of the last call may take to reach its caller."""
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command's options, as they were typed."""

    part: Literal["core", "bridge"] | None = None
    config: Path | None = None
    data: Path | None = None
    http: str | None = None
    grpc: str | None = None
    core: str | None = None

    def check(self) -> None:
        """Raises WrongUse for options that do not go together."""
        if self.part == "bridge" and self.grpc is not None:
            raise WrongUse("the bridge alone does not listen for gRPC: leave --grpc out (--core names its core)")
        if self.part != "bridge" and self.core is not None:
            raise WrongUse("--core is for the bridge alone: headgate serve bridge --core HOST:PORT")


def run(options: ServeOptions) -> int:
    """Serves until a signal; returns 0 once it has drained."""
    options.check()
    allow_open_files()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serve(options))


async def serve(options: ServeOptions) -> int:
    """Starts, says so, waits for a signal, drains."""
    stop = first_signal()
    path = config_file(options.config, options.data)
    config = read_config(path) if path is not None else Config()
    claims = Claims.made(options, config)
    try:
        findings = None
        if path is None and options.part != "bridge":
            findings = await discover(os.environ, claims.addresses())
            config = findings.config()
        configure_log(config.log)
        running = Running(config.model_copy(update={"listen": claims.listen()}), claims, options)
        try:
            await running.start()
            tell(running, path, findings)
            await stop.wait()
            sentence = f"open ones have {config.drain_seconds:g} s (a second signal ends at once)"
            print(f"draining: no new calls; {sentence}", flush=True)
            await running.drain()
        finally:
            await running.close()
    finally:
        claims.close()
    return 0


def first_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()

    def signalled(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda caught, _: loop.call_soon_threadsafe(signalled, caught))
        else:
            loop.add_signal_handler(number, signalled, number)
    return stop


@dataclass(frozen=True, slots=True)
class Claims:
    """The addresses that the process has taken for itself, before it listens at them."""

    http: socket.socket | None
    grpc: Address | None
    notes: tuple[str, ...]

    @classmethod
    def made(cls, options: ServeOptions, config: Config) -> "Claims":
        """Takes the addresses; those that nobody chose move on where they are taken. Raises CommandFailed."""
        chosen = config.listen.model_fields_set if "listen" in config.model_fields_set else set()
        # A core alone shows its health and its metrics over HTTP where it is told to: the usual port is the bridge's.
        http_text = options.http or (config.listen.http if options.part != "core" else None)
        grpc_text = (options.grpc or config.listen.grpc) if options.part != "bridge" else None
        if http_text is None and grpc_text is None:
            raise CommandFailed("there is nothing to serve: listen.http and listen.grpc are both off")
        http_wanted = None if http_text is None else Address.parse(http_text, "--http")
        grpc_wanted = None if grpc_text is None else Address.parse(grpc_text, "--grpc")
        grpc = http = None
        notes = []
        if grpc_wanted is not None:
            grpc = free_for_grpc(grpc_wanted, may_move=options.grpc is None and "grpc" not in chosen)
            notes += moved(grpc_wanted, grpc, "gRPC")
        if http_wanted is not None:
            http = claimed(http_wanted, what="HTTP", may_move=options.http is None and "http" not in chosen)
            notes += moved(http_wanted, address_of(http), "HTTP")
        return cls(http, grpc, tuple(notes))

    def close(self) -> None:
        """Gives them back."""
        if self.http is not None:
            self.http.close()

    def addresses(self) -> list[Address]:
        """All of them."""
        http = [] if self.http is None else [address_of(self.http)]
        return http if self.grpc is None else [*http, self.grpc]

    def listen(self) -> Any:
        """The configuration's `listen` that says the same."""
        http = None if self.http is None else str(address_of(self.http))
        grpc = None if self.grpc is None else str(self.grpc)
        return Config().listen.model_copy(update={"http": http, "grpc": grpc})


def free_for_grpc(wanted: Address, *, may_move: bool) -> Address:
    """An address that is free at this moment: gRPC makes its own socket. Raises CommandFailed."""
    if not wanted.port:
        return wanted
    with claimed(wanted, what="gRPC", may_move=may_move) as claim:
        return Address(wanted.host, address_of(claim).port)


def moved(wanted: Address, got: Address, what: str) -> list[str]:
    """Says that a usual port was taken."""
    if wanted.port in (0, got.port):
        return []
    return [f"port {wanted.port} is taken: {what} is on {got.port}"]


class Running:
    """What runs: a core, a bridge, or both."""

    def __init__(self, config: Config, claims: Claims, options: ServeOptions) -> None:
        """Takes the configuration, the addresses that were claimed, and the options."""
        self.config = config
        self.claims = claims
        self.notes = list(claims.notes)
        self._part = options.part
        self.core = None if options.part == "bridge" else core_of(config, options.data)
        self._core_address = Address.parse(options.core or DEFAULT_CORE, "--core")
        self._channel: aio.Channel | None = None
        self._http: HttpServer | None = None
        self._draining: asyncio.Task[None] | None = None

    @property
    def grpc(self) -> Address | None:
        """Where the core listens."""
        port = self.core.port if self.core is not None else None
        return None if self.claims.grpc is None or port is None else Address(self.claims.grpc.host, port)

    @property
    def has_bridge(self) -> bool:
        """Whether SDKs can call."""
        return self.claims.http is not None and self._part != "core"

    @property
    def shows_metrics(self) -> bool:
        """Whether GET /metrics answers: where core and bridge are one process."""
        return self.core is not None and self.claims.http is not None and self.config.metrics

    async def start(self) -> None:
        """Begins to serve; raises CommandFailed."""
        if self.core is not None:
            await listening(self.core.start(), self.claims.grpc, "gRPC")
        if self.claims.http is not None:
            channel = self.core.channel if self.core is not None else await self._reach_core()
            bridge = bridge_config(self.config)
            exposition = self.core.telemetry.exposition if self.core is not None and self.config.metrics else None
            address = address_of(self.claims.http)
            names = dialects.NAMES if self.has_bridge else ()
            app = create(channel, bridge, exposition=exposition, names=names)
            self._http = HttpServer(server(app, bridge, *address), self.claims.http)
            await listening(self._http.start(), address, "HTTP")

    async def drain(self) -> None:
        """Takes no new calls, and returns once the open ones have ended or had their time."""
        if self.core is not None:
            self._draining = asyncio.create_task(self.core.drain(), name="draining the core")
        if self._http is not None:
            await self._http.drain()
        if self.core is not None and self._draining is not None:
            # A watch of the health service never ends by itself, and would hold the drain for the whole of its time.
            while self.core.telemetry.calls_in_flight and not self._draining.done():
                await asyncio.wait({self._draining}, timeout=LOOK_SECONDS)
            await asyncio.wait({self._draining}, timeout=AFTER_LAST_CALL_SECONDS)

    async def close(self) -> None:
        """Ends what is left."""
        if self.core is not None:
            await self.core.close()
        if self._draining is not None:
            await self._draining
        if self._channel is not None:
            await self._channel.close()

    async def _reach_core(self) -> aio.Channel:
        address = self._core_address
        options = [*channel_options(address, self.config.limits.grpc_message_bytes), *CHANNEL_OPTIONS]
        self._channel = aio.insecure_channel(str(address), options)
        try:
            await asyncio.wait_for(self._channel.channel_ready(), CORE_SECONDS)
            self.notes.append(f"the core answers at {address}")
        except TimeoutError:
            self.notes.append(f"the core at {address} does not answer yet; it is tried again at each call")
        return self._channel


def core_of(config: Config, data: Path | None) -> Core:
    """The core, with what it keeps; raises CommandFailed where a provider or the store cannot be made as configured."""
    try:
        if not config.storage:
            return Core(config)
        directory = data_directory(data or config.data_directory)
        return Core(config, Store.at(config.database_url, directory, os.environ), os.environ.get(VARIABLE) or None)
    except (ValueError, StorageError) as error:
        raise CommandFailed(str(error)) from error


async def listening(start: Coroutine[Any, Any, None], address: Address | None, what: str) -> None:
    """Starts something that listens; raises CommandFailed where another program was faster."""
    try:
        await start
    except (StorageError, RootKeyInvalid) as error:
        raise CommandFailed(str(error)) from error
    except OSError as error:
        if address is None:
            raise
        raise in_use(address, what) from error


REASONING_FIELDS = BridgeConfig().reasoning_fields


def bridge_config(config: Config) -> BridgeConfig:
    """What the one configuration says to the bridge."""
    limits = config.limits
    return BridgeConfig(
        request_body_bytes=limits.request_body_bytes,
        header_bytes=limits.header_bytes,
        json_depth=limits.json_depth,
        header_seconds=limits.header_seconds,
        body_idle_seconds=limits.body_idle_seconds,
        body_seconds=limits.body_seconds,
        keep_alive_seconds=max(1, round(limits.keep_alive_seconds)),
        connections_per_client=limits.connections_per_client,
        reasoning_fields=REASONING_FIELDS if config.reasoning_output == "both" else (config.reasoning_output,),
        trusted_proxies=limits.trusted_proxies,
        allowed_origins=config.cors.allowed_origins,
        ping_seconds=config.ping_seconds,
        drain_seconds=config.drain_seconds,
    )


def tell(running: Running, path: Path | None, findings: Findings | None) -> None:
    """Prints the start-up lines."""
    startup = Startup(
        version=version_text(),
        config=running.config,
        path=path,
        findings=findings,
        http=None if running.claims.http is None else address_of(running.claims.http),
        grpc=running.grpc,
        notes=tuple(running.notes),
        new_root_key=None if running.core is None else running.core.new_root_key,
        needs_keys=running.core is None or (running.config.storage and running.config.authentication == "required"),
        has_bridge=running.has_bridge,
        shows_metrics=running.shows_metrics,
    )
    print("\n".join(startup.lines()), flush=True)
