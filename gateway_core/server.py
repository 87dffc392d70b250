"""The root of the core: config → providers → catalog → pipeline → services → servers."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from headgate.v1 import (
    account_service_pb2_grpc,
    balance_service_pb2_grpc,
    chat_completion_service_pb2,
    chat_completion_service_pb2_grpc,
    gateway_service_pb2,
    gateway_service_pb2_grpc,
    key_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    plan_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)

from gateway_core import providers
from gateway_core.call import Call, Events
from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.gateway_book import GatewayBook
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.gateway_endpoint import Endpoints, EndpointTarget
from gateway_core.catalog.known import Known, OfSnapshots, with_known_models
from gateway_core.catalog.listing import Listing
from gateway_core.config import Config, ProviderConfig
from gateway_core.errors import ShuttingDown
from gateway_core.grpc_server import GrpcServer, Limits, Parting
from gateway_core.identity.certificate_peer import certificate_peers
from gateway_core.identity.keyring import Everybody, Keyring
from gateway_core.identity.keys import Keys
from gateway_core.identity.public import PublicLimits
from gateway_core.identity.public_share import KeyShares
from gateway_core.identity.root import root_established
from gateway_core.inprocess import InProcessChannel
from gateway_core.metering.balance import Balances
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.plan import Plans
from gateway_core.metering.price import Price, is_unpriced, price_of, prices
from gateway_core.metering.usage_book import UsageBook
from gateway_core.pipeline import (
    Stage,
    admit,
    authenticate,
    compose,
    failover,
    fallback,
    gateway,
    meter,
    route,
    trace,
    validate,
)
from gateway_core.providers import Provider
from gateway_core.redis_store.lease import RedisLeases
from gateway_core.replicas import Replicas
from gateway_core.resume.streams import Streams
from gateway_core.resume.worker import Worker, connection_seconds
from gateway_core.routing.board import Board
from gateway_core.services import unimplemented
from gateway_core.services.access import Access
from gateway_core.services.account import AccountService
from gateway_core.services.askable import AskedBy
from gateway_core.services.authorization import AuthorizationService
from gateway_core.services.balance import BalanceService
from gateway_core.services.chat_completion import ChatCompletionService
from gateway_core.services.early import Look, Peers, Refusals
from gateway_core.services.edge import Bridges
from gateway_core.services.gateway import GatewayService, rules
from gateway_core.services.health import HealthService
from gateway_core.services.key import KeyService
from gateway_core.services.listener import add_port
from gateway_core.services.model import ModelService
from gateway_core.services.peers import ResumeOnly, WorkerPeers
from gateway_core.services.plan import PlanService
from gateway_core.services.rate_limit import RateLimitService
from gateway_core.services.sockets import Sockets
from gateway_core.services.usage import UsageService
from gateway_core.storage.location import PostgresqlServer
from gateway_core.storage.store import Store
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.metrics import Metrics
from gateway_core.tls_context import renewed_context
from gateway_core.tls_files import TlsFiles
from gateway_core.upstream.reach import Reach
from gateway_core.webhooks.webhooks import Webhooks

LATER = "This service is answered once the gateway has accounts."
SERVICES = (
    tuple(
        module.DESCRIPTOR.services_by_name[name].full_name
        for module, name in (
            (chat_completion_service_pb2, "ChatCompletionService"),
            (model_service_pb2, "ModelService"),
            (gateway_service_pb2, "GatewayService"),
            (usage_service_pb2, "UsageService"),
        )
    )
    + unimplemented.SERVICES
)


class Core:
    """The services of the contract, on a channel in this process and, where an address is given, on a socket."""

    def __init__(
        self, config: Config, store: Store | None = None, root_key: str | None = None, worker: Worker | None = None
    ) -> None:
        """Builds everything; nothing runs yet. Without a store nothing is kept: no accounts, no ledger.

        With one, the root key given is the operator's, or one is made at the first start. A worker shares its address.
        """
        self.config = with_known_models(with_echo(config))
        self._tariff = tariff(self.config)
        self._store = store
        self._root_key = root_key
        self._tls = None if config.tls.grpc is None else TlsFiles("tls.grpc", config.tls.grpc)
        self.new_root_key: str | None = None
        """The operator's key where `start` has made it: it is kept nowhere."""
        self._ledger = None if store is None else ledger_of(config, store)
        self._keyring = None if store is None else keyring(config, store)
        by_certificate = certificate_peers(config)
        self._access = Access(self._keyring or Everybody(), by_certificate)
        self.streams = Streams(config.detach, worker)
        self.telemetry = Telemetry(self.config)
        self._peers = None if worker is None else WorkerPeers(worker, self.telemetry.exposition, by_certificate)
        self.board = Board(self.config)
        self._tell_metrics()
        self._replicas = Replicas(self.config, store, self.board, self.streams, self.telemetry.metrics)
        self._health = HealthService(self.board.is_served)
        self.channel = InProcessChannel()
        self.port: int | None = None
        self._providers = {name: providers.load(name, row) for name, row in self.config.providers.items()}
        self._listing = Listing(self._providers, every_seconds=self.config.model_list_seconds)
        self._server: aio.Server | GrpcServer | None = None
        self._plans = Plans(self.config, None if store is None else store.database)
        self._asked_by = AskedBy(self._plans, self._tariff.is_unpriced)
        self._webhooks = None if store is None else Webhooks(store, self.config, self.telemetry.metrics.count_webhook)
        self._balances = None if (told := self._webhooks) is None else Balances(told.database, told.crossings.note)
        self._limits = None if store is None else shared_limits(self.config, store, self.telemetry.metrics)
        self._gateways = GatewayCache()
        self._endpoints = None if store is None else Endpoints(self.config, store.box)
        catalog = Catalog(self.config, self._listing)
        self._servicers = self._asked_services(catalog)
        self._kept = self._kept_services()
        self._gateway_service = self._kept_gateways(catalog)
        self._register(self.channel)

    def _asked_services(self, catalog: Catalog) -> tuple[ChatCompletionService, ModelService]:
        pipeline = compose(self._stages(catalog), innermost(self._providers))
        bridges = Bridges(self.config.limits.trusted_bridges)
        chat = ChatCompletionService(pipeline, bridges, self.streams, self._access)
        chat.peers = self._peers
        chat.copies = self._replicas.copied
        return chat, ModelService(catalog, self._gateways, self._asked_by, self._access)

    def _tell_metrics(self) -> None:
        self.refusals = Refusals(self.telemetry.metrics.count_refused_early)
        self.telemetry.metrics.tell_routing(self.board)
        self.telemetry.metrics.tell_streams(lambda: len(self.streams))
        store, ledger = self._store, self._ledger
        if store is not None and ledger is not None:
            outage = store.database.changes.outage
            self.telemetry.metrics.tell_database(lambda: outage.is_up, lambda: ledger.waiting)

    def _stages(self, catalog: Catalog) -> list[tuple[str, Stage]]:
        self._public = public_limits(self.config, self._limits)
        return [
            ("trace", trace.Stage(self.telemetry)),
            ("authenticate", authenticate.Stage(self._keyring or Everybody(), self._public)),
            *((("gateway", gateway.Stage(self._gateways, catalog, self._endpoints)),) if self._endpoints else ()),
            ("validate", validate.Stage()),
            ("route", route.Stage(catalog, self.board)),
            *self._admission(),
            *((("meter", meter.Stage(self._ledger, self._tariff.prices)),) if self._ledger is not None else ()),
            ("failover", failover.Stage(self.telemetry, self.board, is_on=self.config.routing.failover)),
            ("fallback", fallback.Stage(self.telemetry, self.board)),
        ]

    async def start(self) -> None:
        """Begins to serve; raises OSError where the address is taken, StorageError where the store does not open.

        Raises RootKeyInvalid for a root key that is none.
        """
        if self._store is not None and self._keyring is not None:
            await self._store.open()
            self.new_root_key = await root_established(self._store.database, self._root_key)
            self._keyring.open()
            await self._keyring.tell_unknown_accounts()
            await self._gateways.start(self._store.database)
            await self._plans.open()
        if self._webhooks is not None:
            self._webhooks.open()
        if self._balances is not None and self._limits is not None:
            self._balances.open()
            await self._limits.open()
        if self._ledger is not None:
            await self._ledger.start()
        self._listing.start()
        self._replicas.start()
        if self.config.listen.grpc is not None:
            is_native = self.config.listen.grpc_server == "native"
            self._server = await (self._own_server if is_native else self._library_server)(self.config.listen.grpc)
        if self._peers is not None:
            await self._peers.start(self._register_resume)
        for service in ("", *SERVICES):
            self._health.tell(service, is_serving=True)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The body of GET /metrics and its content type; of all workers where there are several."""
        return self.telemetry.exposition(accept) if self._peers is None else self._peers.gathered(accept)

    @property
    def kept_in(self) -> str:
        """Where the database is and, with one on a server, the directory of this machine; names no secret."""
        if self._store is None:
            return "nowhere (storage: false)"
        place = self._store.database.location
        return f"{place}; {place.directory}" if isinstance(place, PostgresqlServer) else str(place)

    @property
    def calls_in_flight(self) -> int:
        """How many calls are answered: of models, and streams of other workers that are handed on."""
        return self.telemetry.calls_in_flight + (0 if self._peers is None else self._peers.handed_on)

    async def announce_drain(self) -> None:
        """Says NOT_SERVING from now on, and takes calls all the same."""
        self._health.end()

    async def drain(self, seconds: float | None = None) -> None:
        """Says NOT_SERVING and takes no new calls over the socket; waits for the open ones as long as configured.

        Or for so many seconds.
        """
        await self.announce_drain()
        self.streams.drain()
        seconds = self.config.drain_seconds if seconds is None else seconds
        stops = [] if self._server is None else [self._server.stop(seconds)]
        if self._peers is not None:
            stops.append(self._peers.drain(seconds))
        # Before the timers of those who stop, which begin to cancel then.
        cutting = asyncio.get_running_loop().call_later(seconds, self.cut)
        try:
            await asyncio.gather(*stops)
        finally:
            cutting.cancel()

    def cut(self) -> None:
        """Hears that calls are ended from now on that had the time of `drain`: they count as interrupted."""
        self.telemetry.end_comes()
        if self._ledger is not None:
            self._ledger.end_comes()

    async def close(self) -> None:
        """Ends what drain left, and everything else."""
        self.cut()
        if self._server is not None:
            await self._server.stop(None)
        if self._peers is not None:
            await self._peers.close()
        await self.channel.close()
        await self.streams.close()
        await self._replicas.close()
        await self._listing.close()
        for provider in self._providers.values():
            await provider.close()
        if self._endpoints is not None:
            await self._endpoints.close()
        await self.telemetry.close()
        if self._store is not None and self._keyring is not None:
            await self._keyring.close()
            await self._gateways.close()
            self._plans.close()
            if self._balances is not None and self._limits is not None:
                await self._balances.close()
                await self._limits.close()
            if self._ledger is not None:
                await self._ledger.close()
            if self._webhooks is not None:
                await self._webhooks.close()
            await self._store.close()

    async def _own_server(self, address: str) -> GrpcServer:
        server = GrpcServer(call_limits(self.config, shares_port=self._peers is not None), parting())
        self._register_all(server)
        tls = None if self._tls is None else renewed_context(self._tls, "h2")
        self.port = await server.listen(address, shares_port=self._peers is not None, tls=tls)
        return server

    async def _library_server(self, address: str) -> aio.Server:
        server = aio.server(options=server_options(self.config, shares_port=self._peers is not None))
        self._register_all(Sockets(server))
        self.port = add_port(server, address, self._tls)
        await server.start()
        return server

    def _register_all(self, server: Any) -> None:
        self._register(server)
        for service in self._envoy_services():
            service.register(server)
        names = (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), server)

    def _admission(self) -> tuple[tuple[str, Stage], ...]:
        if self._limits is None or self._balances is None:
            return ()
        stage = admit.Stage(self._plans, self._limits, self._balances, self._tariff)
        self.telemetry.metrics.tell_queued(lambda: stage.concurrency.queued)
        return (("admit", stage),)

    def _kept_services(self) -> tuple[tuple[str, Any, Any], ...]:
        """The services that need a store: the name, the function that adds it to a server, the servicer."""
        store, limits, webhooks = self._store, self._limits, self._webhooks
        if store is None or limits is None or webhooks is None:
            return ()
        add_accounts = account_service_pb2_grpc.add_AccountServiceServicer_to_server
        add_keys = key_service_pb2_grpc.add_KeyServiceServicer_to_server
        add_balances = balance_service_pb2_grpc.add_BalanceServiceServicer_to_server
        add_plans = plan_service_pb2_grpc.add_PlanServiceServicer_to_server
        of_accounts = AccountService(store, webhooks, self._plans, self._access)
        of_balances = BalanceService(self._plans, limits, store.database, self._access, webhooks.outbox)
        return (
            ("BalanceService", add_balances, of_balances),
            ("PlanService", add_plans, PlanService(self._plans, store.database, self._access)),
            ("AccountService", add_accounts, of_accounts),
            ("KeyService", add_keys, KeyService(Keys(store.database, webhooks.outbox), self._access)),
        )

    def _envoy_services(self) -> list[AuthorizationService | RateLimitService]:
        """What an Envoy in front may ask, as configured."""
        asked, limits, identities = self.config.envoy_services, self._limits, self._keyring or Everybody()
        look = None if limits is None else Look(self._public, self._plans, limits)
        early = (look, Peers(asked.allowed), self.refusals)
        certificates = bool(self.config.client_certificates.accounts)
        services: list[AuthorizationService | RateLimitService] = []
        if asked.authorization:
            services.append(AuthorizationService(identities, *early, certificates=certificates))
        if asked.rate_limit:
            services.append(RateLimitService(identities, *early))
        return services

    def _kept_gateways(self, catalog: Catalog) -> Any:
        if self._store is None:
            return service_of(gateway_service_pb2_grpc.GatewayServiceServicer, gateway_service_pb2)
        of_gateways = rules(catalog, Reach(self.config.private_endpoint_networks), self._asked_by)
        return GatewayService(GatewayBook(self._store, self._gateways, of_gateways), self._access.private)

    def _register_resume(self, server: aio.Server) -> None:
        only: Any = ResumeOnly(Sockets(server))
        chat_completion_service_pb2_grpc.add_ChatCompletionServiceServicer_to_server(self._servicers[0], only)

    def _register(self, server: Any) -> None:
        chat, models = self._servicers
        chat_completion_service_pb2_grpc.add_ChatCompletionServiceServicer_to_server(chat, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
        usage = service_of(usage_service_pb2_grpc.UsageServiceServicer, usage_service_pb2)
        if self._store is not None:
            usage = UsageService(UsageBook(self._store.database), self._access)
        gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(self._gateway_service, server)
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server(usage, server)
        unimplemented.register(server, LATER, [name for name, _, _ in self._kept])
        for _, add, servicer in self._kept:
            add(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)


def shared_limits(config: Config, store: Store, metrics: Metrics) -> SharedLimits:
    """The limits, in the database or where the configuration says; raises StorageError."""
    if config.redis_url is None:
        return SharedLimits(store.database)
    leases = RedisLeases(config.redis_url, store.database.process_id)
    metrics.tell_limits_store(lambda: leases.away is None)
    return SharedLimits(store.database, leases=leases)


def keyring(config: Config, store: Store) -> Keyring:
    """Who calls with keys and with certificates."""
    is_optional = config.authentication == "optional"
    return Keyring(store.database, optional=is_optional, certificates=config.client_certificates.accounts)


def ledger_of(config: Config, store: Store) -> Ledger:
    """The ledger, as the configuration says; where its journal is in files calls go on while the database is away."""
    has_files = config.ledger_journal == "file"
    store.database.changes.outage.believed_seconds = config.storage_outage_seconds if has_files else 0.0
    return Ledger(store.database, has_files=has_files)


def public_limits(config: Config, limits: SharedLimits | None) -> PublicLimits:
    """The windows of public keys, for all processes where limits are shared."""
    windows = config.public_keys
    return PublicLimits(windows, None if limits is None else KeyShares(windows.per_key, limits.limit, limits.now_us))


def service_of(servicer: type[Any], module: Any) -> Any:
    """A servicer that answers UNIMPLEMENTED, for the one service of a generated module."""
    (service,) = module.DESCRIPTOR.services_by_name.values()
    return unimplemented.unimplemented(servicer, service, LATER)


def tariff(config: Config) -> admit.Tariff:
    """What all models cost."""
    prices = all_prices(config)
    return admit.Tariff(prices, is_unpriced(config, prices))


def all_prices(config: Config) -> Mapping[str, Price]:
    """The prices of models by name, and as "provider/model": known ones where the configuration has none."""
    known = {name: price for name, row in Known(config).prices() if (price := price_of(row)) is not None}
    return OfSnapshots({**known, **prices(config)}, known)


def with_echo(config: Config) -> Config:
    """The configuration with the echo, which always answers as "echo/echo"."""
    if "echo" in config.providers:
        return config
    return config.model_copy(update={"providers": {**config.providers, "echo": ProviderConfig(kind="echo")}})


def innermost(by_name: Mapping[str, Provider]) -> Any:
    """What stands behind the last stage: the provider of the call's target."""

    def ask(call: Call[Any]) -> Awaitable[Events]:
        assert call.target is not None, "the stage `fallback` sets the target"
        provider = by_name.get(call.target.provider)
        if provider is None:
            assert isinstance(call.target, EndpointTarget), "targets name providers of the configuration"
            provider = call.target.endpoint
        return call.operation.open(provider, call)

    return ask


def call_limits(config: Config, *, shares_port: bool) -> Limits:
    """The limits of a connection; takes whether other processes have the port, too."""
    limits = config.limits
    return Limits(
        message_bytes=limits.grpc_message_bytes,
        streams=limits.grpc_streams_per_connection,
        header_bytes=limits.header_bytes,
        age_seconds=connection_seconds(config.drain_seconds) if shares_port else None,
    )


def parting() -> Parting:
    """What calls are told that the end of the server cuts."""
    error = ShuttingDown("The server ends, and the call with it: its time to finish is over.")
    return Parting(error.message, (("grpc-status-details-bin", error.to_status().SerializeToString()),))


def server_options(config: Config, *, shares_port: bool) -> list[tuple[str, int]]:
    """The limits in gRPC's terms (grpc/impl/channel_arg_names.h); takes whether other processes have the port, too."""
    limits = config.limits
    age = [("grpc.max_connection_age_ms", round(1000 * connection_seconds(config.drain_seconds)))]
    return [
        *(age if shares_port else ()),
        ("grpc.max_receive_message_length", limits.grpc_message_bytes),
        ("grpc.max_send_message_length", limits.grpc_message_bytes),
        ("grpc.max_concurrent_streams", limits.grpc_streams_per_connection),
        ("grpc.max_metadata_size", limits.header_bytes),
        ("grpc.absolute_max_metadata_size", 2 * limits.header_bytes),
        ("grpc.so_reuseport", int(shares_port)),
        # A client may ping every 10 s, with or without calls, so that long silences do not look like dead connections.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
