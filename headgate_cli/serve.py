"""`headgate serve`: the core and the bridge, together or apart, from the first line to the end of the last call."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from grpc import aio

from gateway_core.config import Config
from gateway_core.config_tls import CoreTlsConfig
from gateway_core.identity.root import VARIABLE, RootKeyInvalid
from gateway_core.resume.worker import Worker, connection_seconds
from gateway_core.server import Core
from gateway_core.storage.errors import StorageError
from gateway_core.storage.store import Store
from gateway_core.telemetry.log import configure_log
from headgate_cli.address import Address, Place, address_of, in_use
from headgate_cli.assignment import Assignment, Ready
from headgate_cli.claims import Claims
from headgate_cli.client import channel_options, renewed_core_channel
from headgate_cli.collector import spare_what_stays
from headgate_cli.commands import version_text
from headgate_cli.discovery import Findings, discover
from headgate_cli.errors import CommandFailed
from headgate_cli.grpc_sockets import connection_count, stop_listening
from headgate_cli.http import HttpServer
from headgate_cli.locations import config_file, data_directory, read_config
from headgate_cli.open_files import allow_open_files
from headgate_cli.orders import Orders
from headgate_cli.serve_options import ServeOptions
from headgate_cli.startup import Startup
from headgate_cli.tls import http_files, https_context
from rest_bridge import dialects
from rest_bridge.app import CHANNEL_OPTIONS, create, server
from rest_bridge.config import BridgeConfig
from rest_bridge.refusal import Words

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
RETIRE_LOOK_SECONDS = 0.1
JITTER = 1.1
"""How much older than asked gRPC lets connections become (github.com/grpc/proposal, A9)."""


def run(options: ServeOptions) -> int:
    """Serves until a signal; returns 0 once it has drained."""
    allow_open_files()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serve(options))


async def serve(options: ServeOptions) -> int:
    """Starts, says so, waits for an order, drains."""
    assignment = None if options.assignment is None else Assignment.of(options.assignment)
    orders = Orders()
    if assignment is not None:
        await orders.obey(assignment.control)
    path = config_file(options.config, options.data)
    config = read_config(path) if path is not None else Config()
    claims = Claims.made(options, config) if assignment is None else Claims.assigned(assignment)
    try:
        findings = None
        if path is None and options.part != "bridge":
            findings = await discover(os.environ, claims.addresses())
            config = findings.config()
        configure_log(config.log, worker=None if assignment is None else assignment.log_worker)
        running = Running(config.model_copy(update={"listen": claims.listen(config)}), claims, options, assignment)
        try:
            await running.start()
            spare_what_stays()
            tell(orders, startup(running, path, findings), running)
            await orders.come()
            await end(running, orders)
        finally:
            await running.close()
    finally:
        claims.close()
        await orders.close()
        if assignment is not None and orders.is_orphan:
            assignment.clear()
    return 0


async def end(running: "Running", orders: Orders) -> None:
    """Retires or drains, as was ordered."""
    if orders.retire.is_set() and not orders.stop.is_set():
        await running.drain(AFTER_LAST_CALL_SECONDS if await running.retire(orders.stop) else None)
        return
    config, shows = running.config, running.assignment is None
    if config.drain_delay_seconds > 0:
        if shows:
            sentence = f"new calls are taken for {config.drain_delay_seconds:g} s more"
            print(f"leaving: the health says so; {sentence} (a second signal ends at once)", flush=True)
        await running.leave()
    if shows:
        sentence = f"open ones have {config.drain_seconds:g} s (a second signal ends at once)"
        print(f"draining: no new calls; {sentence}", flush=True)
    await running.drain()


class Running:
    """What runs: a core, a bridge, or both."""

    def __init__(
        self, config: Config, claims: Claims, options: ServeOptions, assignment: Assignment | None = None
    ) -> None:
        """Takes the configuration, the addresses that were claimed, the options, and what a worker was told."""
        self.config = config
        self.claims = claims
        self.assignment = assignment
        self.notes = list(claims.notes)
        self._part = options.part
        worker = None if assignment is None else assignment.worker
        self.core = None if options.part == "bridge" else core_of(config, options.data, worker)
        self._http_tls = None if claims.http is None else http_files(config.tls.http)
        self._core_place = Place.parse(options.core or DEFAULT_CORE, "--core")
        self._channel: aio.Channel | None = None
        self._http: HttpServer | None = None
        self._draining: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()

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
            services = self.config.envoy_services
            if services.authorization or services.rate_limit:
                # Whoever is refused by a proxy gets the words of the dialect, wherever the bridge is.
                self.core.refusals.speak(Words(create(self.core.channel, bridge_config(self.config))))
            await listening(self.core.start(), self.claims.grpc, "gRPC")
        if self.claims.http is not None:
            channel = self.core.channel if self.core is not None else await self._reach_core()
            bridge = bridge_config(self.config)
            exposition = self.core.exposition if self.core is not None and self.config.metrics else None
            address = address_of(self.claims.http)
            names = dialects.NAMES if self.has_bridge else ()
            app = create(channel, bridge, exposition=exposition, names=names, leaving=self._leaving)
            tls = None if self._http_tls is None else https_context(self._http_tls)
            self._http = HttpServer(server(app, bridge, *address), self.claims.http, tls)
            await listening(self._http.start(), address, "HTTP")

    async def leave(self) -> None:
        """Says that it stops serving, and goes on taking calls until proxies must have noticed."""
        self._leaving.set()
        if self.core is not None:
            await self.core.announce_drain()
        await asyncio.sleep(self.config.drain_delay_seconds)

    async def retire(self, stop: asyncio.Event) -> bool:
        """Lets other workers take what is new, and waits until nothing is left here, or as long as configured.

        Returns False at once where it is to stop in the midst: there may be no others any more.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._http is not None:
            await self._http.retire()
        if self.grpc is not None:
            await stop_listening(self.grpc.port)
        while loop.time() < began + self.config.drain_seconds and await self._is_busy(loop.time() - began):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETIRE_LOOK_SECONDS):
                    await stop.wait()
                    return False
        return True

    async def _is_busy(self, seconds: float) -> bool:
        """Whether anything is left so many seconds after new connections went elsewhere."""
        if self._http is not None and self._http.connection_count:
            return True
        if self.core is None or self.grpc is None:
            return False
        if self.core.calls_in_flight or len(self.core.streams):
            return True
        # All were asked to go by then. Who has not is somebody who watches the health, and does nothing else.
        all_asked = seconds > JITTER * connection_seconds(self.config.drain_seconds) + AFTER_LAST_CALL_SECONDS
        return not all_asked and await asyncio.to_thread(connection_count, self.grpc.port) > 0

    async def drain(self, seconds: float | None = None) -> None:
        """Takes no new calls, and returns once the open ones have ended or had their time: as configured, or given."""
        if self.core is not None:
            self._draining = asyncio.create_task(self.core.drain(seconds), name="draining the core")
        if self._http is not None:
            await self._http.drain(seconds, None if self.core is None else self.core.cut)
        if self.core is not None and self._draining is not None:
            # A watch of the health service never ends by itself, and would hold the drain for the whole of its time.
            while self.core.calls_in_flight and not self._draining.done():
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
        address, is_tls = self._core_place
        options = [*channel_options(address, self.config.limits.grpc_message_bytes), *CHANNEL_OPTIONS]
        tls = self.config.core_tls or (CoreTlsConfig() if is_tls else None)
        self._channel = renewed_core_channel(address, options, tls)
        try:
            await asyncio.wait_for(self._channel.channel_ready(), CORE_SECONDS)
            self.notes.append(f"the core answers at {address}")
        except TimeoutError:
            self.notes.append(f"the core at {address} does not answer yet; it is tried again at each call")
        return self._channel


def core_of(config: Config, data: Path | None, worker: Worker | None) -> Core:
    """The core, with what it keeps; raises CommandFailed where a provider or the store cannot be made as configured."""
    try:
        if not config.storage:
            return Core(config, worker=worker)
        directory = data_directory(data or config.data_directory)
        store = Store.at(config.database_url, directory, os.environ)
        return Core(config, store, os.environ.get(VARIABLE) or None, worker)
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
        certificate_proxies=config.client_certificates.proxies,
        allowed_origins=config.cors.allowed_origins,
        ping_seconds=config.ping_seconds,
        drain_seconds=config.drain_seconds,
    )


def startup(running: Running, path: Path | None, findings: Findings | None) -> Startup:
    """What there is to say at the start."""
    count = 1 if running.assignment is None else running.assignment.count
    shared = () if count == 1 else (f"{count} workers share the addresses; SIGHUP restarts them one after another",)
    return Startup(
        version=version_text(),
        config=running.config,
        path=path,
        findings=findings,
        http=None if running.claims.http is None else address_of(running.claims.http),
        grpc=running.grpc,
        notes=(*running.notes, *shared),
        new_root_key=None if running.core is None else running.core.new_root_key,
        needs_keys=running.core is None or (running.config.storage and running.config.authentication == "required"),
        has_bridge=running.has_bridge,
        shows_metrics=running.shows_metrics,
        kept="" if running.core is None else running.core.kept_in,
    )


def tell(orders: Orders, said: Startup, running: Running) -> None:
    """Prints the start-up lines; those of a worker are its supervisor's to print."""
    lines = list(said.lines())
    if running.assignment is not None:
        grace = running.config.drain_delay_seconds + running.config.drain_seconds
        orders.tell(Ready(lines, said.root_key_line(), grace))
    else:
        print("\n".join(lines), flush=True)
