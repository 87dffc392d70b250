"""The shape of the one config file: frozen, unknown keys are errors, secrets print as stars."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator

from gateway_core.call import OnUnsupported
from gateway_core.config_envoy import EnvoyConfig
from gateway_core.config_envoy_services import EnvoyServicesConfig
from gateway_core.config_part import Address, CorsConfig, Count, Part, PriceClass, Seconds, WebhooksConfig
from gateway_core.config_plan import PlanConfig, PublicKeysConfig
from gateway_core.config_tls import ClientCertificatesConfig, CoreTlsConfig, TlsConfig
from gateway_core.database_url import database_url_problem
from gateway_core.known.hosts import Quirks, completed
from gateway_core.known.models import Feature
from gateway_core.redis_url import redis_url_problem

MEBIBYTE = 1024 * 1024

PricePerMillion = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
TargetWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Affinity = Literal["session", "user", "prompt"]


class MissingReference(ValueError):
    """A name that stands for nothing, and the path of the value that gives it."""

    def __init__(self, message: str, path: tuple[str | int, ...]) -> None:
        """Takes the sentence, and the path from the top of the configuration."""
        super().__init__(message)
        self.path = path


class ListenConfig(Part):
    """Where the server listens, as "host:port"; port 0 takes a free one, null turns it off."""

    http: Address | None = "127.0.0.1:8080"
    grpc: Address | None = "127.0.0.1:50051"
    grpc_server: Literal["native", "grpcio"] = "native"
    """What speaks gRPC: Headgate's own server in the event loop, or the library grpcio's in threads of its own."""


class TimeoutsConfig(Part):
    """How long to wait for a provider, in seconds. A caller's deadline bounds all of them."""

    connect_seconds: Seconds = 10
    """Until a connection stands, TLS included."""
    first_byte_seconds: Seconds = 300
    """Until status and headers are there; for a unary call that is until the model has finished."""
    idle_seconds: Seconds = 120
    """Between two pieces of an answer."""
    total_seconds: Seconds = 3600
    """For the whole call."""


class AwsConfig(Part):
    """Who asks Amazon Bedrock, and where. What is not here is taken from the environment: AWS_REGION and the like."""

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] | None = None
    """"us-east-1". None: that of AWS_REGION or AWS_DEFAULT_REGION."""
    access_key_id: SecretStr | None = None
    """None: where the provider has no api_key either, the environment's keys."""
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    """Of keys that last for a time."""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> "AwsConfig":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token needs access_key_id and secret_access_key")
        return self


class ProviderConfig(Part):
    """A provider: a host that runs models, and the wire format that it speaks."""

    kind: Literal["anthropic", "bedrock", "echo", "gemini", "ollama", "openai"]
    host: str | None = None
    """A name of the table of known hosts (gateway_core/known/hosts.yaml), which then tells what the row leaves open."""
    base_url: str | None = None
    """Where its API is, the version included: "https://api.openai.com/v1"; a query is sent with every request. Of kind
    openai, "{model}" in it stands for the model."""
    api_key: SecretStr | None = None
    aws: AwsConfig | None = None
    """Of kind bedrock only."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Headers sent with every request, beside those of the wire format."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    max_connections: Count = 10_000
    answer_bytes: Count = 64 * MEBIBYTE
    """Most bytes of an answer that is not streamed, and of one event of one that is."""
    on_unsupported: OnUnsupported | None = None
    """None: as the configuration as a whole says."""
    unsupported_parameters: frozenset[str] = frozenset()
    """Names of request parameters that this host cannot take."""
    quirks: Quirks = Quirks()
    """Of kind openai only: in what else this host differs from OpenAI."""
    lists_models: bool = True
    """Whether GET {base_url}/models is asked for what it has."""
    private_networks: tuple[IPvAnyNetwork, ...] | None = None
    """Networks that are not public in which it may be; it is then asked directly, never by way of a proxy. None: it may
    be anywhere."""

    @model_validator(mode="before")
    @classmethod
    def _is_as_its_host_is(cls, value: Any) -> Any:
        return completed(value) if isinstance(value, dict) and isinstance(value.get("host"), str) else value

    @field_validator("base_url")
    @classmethod
    def _is_an_http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError('must begin with "http://" or "https://"')
        if value is not None and (not (parts := urlsplit(value)).hostname or parts.username or parts.password):
            raise ValueError("must have a host, and no user name or password (use api_key or headers)")
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "ProviderConfig":
        if self.kind not in {"bedrock", "echo"} and self.base_url is None:
            raise ValueError(f"base_url is required for kind {self.kind}")
        if self.aws is not None and self.kind != "bedrock":
            raise ValueError("aws is for kind bedrock only")
        if self.aws is not None and self.aws.access_key_id is not None and self.api_key is not None:
            raise ValueError("api_key and aws.access_key_id exclude each other")
        return self


class PriceConfig(Part):
    """What a model costs, in US dollars for a million tokens."""

    input_per_million: PricePerMillion | None = None
    cached_input_per_million: PricePerMillion | None = None
    cache_write_per_million: PricePerMillion | None = None
    output_per_million: PricePerMillion | None = None
    audio_input_per_million: PricePerMillion | None = None
    """None: as input."""
    audio_output_per_million: PricePerMillion | None = None
    """None: as output."""


class TargetConfig(Part):
    """Where requests for a model go."""

    provider: str
    model: str
    weight: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 1
    """How much of the calls it takes, beside the others. 0: none while one of these can be asked."""
    region: TargetWord | None = None
    """Where it is. A call may ask for one."""
    tag: TargetWord | None = None
    """What else it is told apart by. A call may ask for one."""
    max_concurrent_calls: Count | None = None
    requests_per_minute: Count | None = None
    context_length: Count | None = None
    """None: the model's."""
    price: PriceConfig | None = None
    """What its provider takes, for the strategy `cost` alone: callers pay the model's price. None: not known."""


class ModelConfig(Part):
    """A model under a short name."""

    targets: Annotated[tuple[TargetConfig, ...], Field(min_length=1)]
    strategy: Literal["ordered", "weighted", "least_busy", "latency", "cost", "sticky"] = "ordered"
    sticky_by: Annotated[tuple[Affinity, ...], Field(min_length=1)] = ("session", "user", "prompt")
    """What calls have in common that go to the same target: the first of these that a call has."""
    first_token_seconds: Seconds | None = None
    """Until the first token of a stream; the next target is asked then, where there is one. None: no limit."""
    hold_back_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0
    """How long the beginning of a stream is kept: a target that fails within is replaced, and nobody sees it."""
    hedge: bool = False
    """Whether a second target is asked where the first token of a stream is later than in 95 of 100 calls."""
    price: PriceConfig | None = None
    price_class: PriceClass | None = None
    """By which plans allow it, beside its name."""
    context_length: Count | None = None
    max_output_tokens: Count | None = None
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    features: frozenset[Feature] | None = None
    """What it can do. None: as the table of known models says."""
    on_unsupported: OnUnsupported | None = None
    unsupported_parameters: frozenset[str] = frozenset()
    supported_parameters: frozenset[str] = frozenset()
    """Names of parameters that it takes, whatever the table of known models says."""


class CircuitConfig(Part):
    """When a target that fails is left alone."""

    window_seconds: Seconds = 30
    """The time in which failures are counted, from the first of them."""
    failures: Count = 5
    """As many there must be at least."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    """… and this part of all attempts since the first of them."""
    open_seconds: Annotated[float, Field(gt=0, le=25)] = 10
    """Until one call tries again."""
    shared: bool = True
    """Whether processes tell each other of circuits, where there is a redis_url."""


class RoutingConfig(Part):
    """What bounds further attempts."""

    retry_budget: Annotated[float, Field(ge=0, le=10)] = 0.2
    """Attempts beyond the first of each call, as a part of the calls."""
    retry_reserve: Annotated[int, Field(ge=0, le=10_000)] = 10
    """So many there may be before calls have paid for them."""
    retry_after_at_most_seconds: Annotated[float, Field(ge=0, le=60)] = 2
    """Longest wait for a target that tells how long to wait; for more the next one is asked."""
    backoff_seconds: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Longest wait before a target is asked a second time; half of it at least."""
    failover: bool = True
    """Whether another target goes on with an answer where one fails in the midst of it."""
    circuit: CircuitConfig = CircuitConfig()


class DetachConfig(Part):
    """What streams may take that go on without their callers."""

    at_most_seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 300
    """Longest time after the loss of the caller; callers that ask for more get so much. 0: no stream goes on."""
    buffer_bytes: Annotated[int, Field(ge=1024, le=1024 * MEBIBYTE)] = MEBIBYTE
    """What is kept of one answer: half of it at most was sent before, in case it did not arrive."""
    calls: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """Most such streams at the same time; further ones end with their callers."""
    process: Annotated[str, Field(pattern=r"^[a-z0-9]{1,63}$")] | None = None
    """What the ids of such streams begin with, by which a proxy finds the process. None: a random word."""
    shared: bool = True
    """Whether all processes can continue them, where there is a redis_url: what is kept of answers is there too."""


class LimitsConfig(Part):
    """What one client may take of the server."""

    request_body_bytes: Count = 32 * MEBIBYTE
    header_bytes: Count = 64 * 1024
    json_depth: Annotated[int, Field(ge=1, le=200)] = 100
    grpc_message_bytes: Count = 64 * MEBIBYTE
    grpc_streams_per_connection: Count = 10_000
    """Calls at the same time on one gRPC connection; further ones wait at the client."""
    header_seconds: Seconds = 10
    """Until the headers of a request are whole."""
    body_idle_seconds: Seconds = 30
    """Between two pieces of a request's body."""
    body_seconds: Seconds = 600
    """Until a request's body is whole."""
    connections_per_client: Count = 4096
    """HTTP connections from one address at the same time; of a trusted proxy, requests under way for one address."""
    keep_alive_seconds: Seconds = 75
    trusted_proxies: frozenset[str] = frozenset({"127.0.0.1", "::1"})
    """Addresses whose X-Forwarded-For is believed; "*" is everybody."""
    trusted_bridges: tuple[IPvAnyNetwork, ...] = ()
    """Networks of bridges in processes of their own, whose word for their callers' addresses the core believes."""


class LogConfig(Part):
    """How the server tells what it does."""

    format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Part):
    """The one config file."""

    data_directory: Path | None = None
    """Where files are kept. None: as the program's --data says, or where the platform keeps such files."""
    database_url: SecretStr | None = None
    """"postgresql://user:password@host/database" or "sqlite:///path", which is relative to the data directory unless it
    begins with a slash. None: headgate.db in the data directory."""
    redis_url: SecretStr | None = None
    """"redis://user:password@host:port/database" or rediss://: where processes share limits, circuits
    and streams. None: limits in the database, and each process has circuits and streams for itself."""
    listen: ListenConfig = ListenConfig()
    tls: TlsConfig = TlsConfig()
    client_certificates: ClientCertificatesConfig = ClientCertificatesConfig()
    core_tls: CoreTlsConfig | None = None
    """Of a bridge apart. None: it calls the core in the clear, unless --core says https."""
    workers: Count | Literal["auto"] = 1
    """Processes that share the addresses; auto: one for each processor."""
    ledger_journal: Literal["file", "database"] = "file"
    """Where calls are written down before they are in the ledger: a file of this machine outlives the process, and a
    power cut may take its end; the database is waited for, twice a call."""
    storage_outage_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600
    """How long what is known of keys, accounts and plans is believed while PostgreSQL is away. 0: not at all."""
    storage: bool = True
    """Whether anything is kept. False: no accounts, no keys, no ledger; everybody who can connect is the operator."""
    authentication: Literal["required", "optional"] = "required"
    """Whether every call needs a key; optional: one without is the operator's."""
    public_keys: PublicKeysConfig = PublicKeysConfig()
    providers: dict[str, ProviderConfig] = Field(default_factory=dict)
    models: dict[str, ModelConfig] = Field(default_factory=dict)
    routing: RoutingConfig = RoutingConfig()
    plans: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")], PlanConfig] = Field(default_factory=dict)
    """A plan of the same name that was made by RPC counts instead."""
    on_unsupported: OnUnsupported = "warn"
    """What becomes of a parameter that the target cannot take."""
    limits: LimitsConfig = LimitsConfig()
    detach: DetachConfig = DetachConfig()
    cors: CorsConfig = CorsConfig()
    envoy_services: EnvoyServicesConfig = EnvoyServicesConfig()
    envoy: EnvoyConfig = EnvoyConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    log: LogConfig = LogConfig()
    private_endpoint_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks that are not public in which endpoints of gateways' owners, and of webhooks, may be all the same:
    "10.1.0.0/16". Where there are any, webhooks may go over HTTP without TLS."""
    known_models: bool = True
    """Whether the table of known models counts where rows leave facts and prices open."""
    unpriced_models: Literal["refuse", "allow"] = "refuse"
    """Whether sub-accounts may ask, as "provider/model", what has neither a row here nor a known price: for nothing."""
    reasoning_output: Literal["both", "reasoning", "reasoning_content"] = "both"
    """The names under which the OpenAI dialect tells what a model thought."""
    metrics: bool = True
    """Whether GET /metrics answers."""
    model_list_seconds: Seconds = 300
    """How long what a provider lists is kept before it is asked again."""
    ping_seconds: Seconds = 15
    """Silence after which a stream gets a comment, so that proxies keep it open."""
    drain_delay_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0
    """How long after SIGTERM new calls are taken while the health says already that they should go elsewhere."""
    drain_seconds: Seconds = 30
    """How long open calls may go on after that."""

    @field_validator("data_directory")
    @classmethod
    def _is_a_directory(cls, value: Path | None) -> Path | None:
        try:
            directory = None if value is None else value.expanduser()
        except RuntimeError:
            raise ValueError('begins with "~", and there is no home directory') from None
        if directory is not None and directory.exists() and not directory.is_dir():
            raise ValueError("is not a directory")
        return directory

    @field_validator("database_url")
    @classmethod
    def _is_a_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        problem = None if value is None else database_url_problem(value.get_secret_value())
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        problem = None if value is None else redis_url_problem(value.get_secret_value())
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("providers")
    @classmethod
    def _names_can_be_told_from_models(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name or "/" in name or name != name.strip():
                raise ValueError(f"provider name {name!r} must not be empty or contain a slash or outer spaces")
        return value

    @model_validator(mode="after")
    def _what_is_kept_has_a_place(self) -> "Config":
        if not self.storage:
            asked = self.model_fields_set & {"database_url", "redis_url", "plans", "public_keys", "client_certificates"}
            if "authentication" in self.model_fields_set and self.authentication == "required":
                asked = asked | {"authentication"}
            if asked:
                raise ValueError(f"storage: false keeps nothing, which {sorted(asked)[0]} needs")
        return self

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> "Config":
        if self.client_certificates.accounts and not self.tls.asks_clients:
            needed = "tls.grpc.client_authorities or tls.http.client_authorities"
            raise MissingReference(f"needs {needed}", ("client_certificates", "accounts"))
        return self

    @model_validator(mode="after")
    def _price_classes_exist(self) -> "Config":
        known = {row.price_class for row in self.models.values()}
        for name, plan in self.plans.items():
            for unknown in sorted(plan.allowed_price_classes - known):
                raise MissingReference(
                    f"no model has the price class {unknown!r}", ("plans", name, "allowed_price_classes")
                )
        return self

    @model_validator(mode="after")
    def _targets_exist(self) -> "Config":
        for name, model in self.models.items():
            for index, target in enumerate(model.targets):
                if target.provider not in self.providers and target.provider != "echo":
                    known = ", ".join(sorted(self.providers)) or "none"
                    path = ("models", name, "targets", index, "provider")
                    raise MissingReference(f"there is no provider {target.provider!r} (providers: {known})", path)
        return self
