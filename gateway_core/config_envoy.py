"""The part of the configuration that says how an Envoy in front is set up."""

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway_core.config_part import Address, Count, Part, Seconds

Port = Annotated[int, Field(ge=1, le=65535)]
PemFile = Annotated[str, Field(min_length=1)]
"""A file in PEM, where the Envoy finds it: Headgate does not read it."""
HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9!#$&'*+.^_`|~-]{1,64}$")]
TAKEN_PATHS = ("v1", "api", "docs", "healthz", "metrics", "headgate")
"""What a path of Headgate's own begins with."""
HOST = r"^[A-Za-z0-9:._-]{1,253}$"


class EnvoyTlsConfig(Part):
    """How callers reach the Envoy over TLS."""

    certificate: PemFile
    """With the certificates between it and its authority's."""
    private_key: PemFile
    client_authorities: PemFile | None = None
    """Whose certificates callers may show; the core is told whose was shown (x-forwarded-client-cert)."""
    client_certificate: Literal["required", "optional"] = "required"
    """Whether those who show none are let in."""

    @model_validator(mode="after")
    def _asks_for_what_it_can_examine(self) -> "EnvoyTlsConfig":
        if "client_certificate" in self.model_fields_set and self.client_authorities is None:
            raise ValueError("client_certificate needs client_authorities")
        return self


class EnvoyUpstreamTlsConfig(Part):
    """How the Envoy reaches Headgate over TLS, where `tls.grpc` or `tls.http` say that Headgate listens so."""

    authorities: PemFile
    """Whose certificates are believed."""
    names: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=253)], ...], Field(min_length=1)]
    """One of these must be in the certificate: a host's name, an address or a URI (SPIFFE)."""
    server_name: str | None = None
    """What the Envoy asks for (SNI). None: the first of `names` that is the name of a host."""
    certificate: PemFile | None = None
    """What the Envoy shows, where Headgate has `client_authorities`."""
    private_key: PemFile | None = None

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> "EnvoyUpstreamTlsConfig":
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together")
        return self


class EnvoyReplicaConfig(Part):
    """Where a Headgate is."""

    host: Annotated[str, Field(pattern=HOST)]
    """An address, or a name: each address that its DNS tells is then a replica."""
    grpc: Port | None = 50051
    """The port of the core. None: it has none."""
    http: Port | None = 8080
    """The port of the bridge. None: it has none."""

    @property
    def is_name(self) -> bool:
        """Whether the host must be looked up."""
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False


class EnvoyRateConfig(Part):
    """Most requests from one address: a wall against floods, far above what any caller needs."""

    requests_per_second: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    burst: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Requests that may come at once."""
    addresses: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Of how many addresses it is kept; one that is forgotten begins anew."""


class EnvoyConfig(Part):
    """An Envoy in front; read by `headgate envoy render` alone."""

    listen: Annotated[tuple[Address, ...], Field(min_length=1)] = ("127.0.0.1:10000",)
    admin: Address = "127.0.0.1:9901"
    """Where the Envoy's own administration listens, which asks for no password."""
    tls: EnvoyTlsConfig | None = None
    """None: HTTP/1.1 and h2c in clear text."""
    upstream_tls: EnvoyUpstreamTlsConfig | None = None
    replicas: tuple[EnvoyReplicaConfig, ...] = ()
    """Empty: the one that `listen` describes, on the same machine."""
    balance: Literal["least_request", "ring_hash"] = "least_request"
    """ring_hash: calls with the same of `hash_headers` go to the same replica."""
    hash_headers: Annotated[tuple[HeaderName, ...], Field(min_length=1)] = ("x-headgate-session",)
    """The first of these that a call has decides; one that has none goes anywhere."""
    trusted_hops: Annotated[int, Field(ge=0, le=10)] = 0
    """How many proxies stand before the Envoy, whose X-Forwarded-For is believed."""
    connections: Count = 50_000
    """Most connections of callers."""
    streams_per_connection: Annotated[int, Field(ge=1, le=16_384)] = 1024
    """Calls at the same time on one HTTP/2 connection of a caller; further ones wait there."""
    per_address: EnvoyRateConfig | None = EnvoyRateConfig()
    """None: no limit."""
    health_seconds: Seconds = 2
    """How often each replica is asked for its health."""
    rate_limit_service: bool = False
    """Whether the core is asked before each call whether its caller's limits are used up."""
    external_authorization: bool = False
    """Whether the core is asked before each call whether its key is good."""
    transcode: Annotated[str, Field(pattern=r"^(/[a-z0-9_-]+)+$", max_length=64)] | None = None
    """The path below which Envoy itself turns the administrative RPCs into JSON: "/proto". None: nowhere."""
    otlp_url: Annotated[str, Field(pattern=r"^http://[A-Za-z0-9.:_\[\]-]+(/[!-~]*)?$")] | None = None
    """Where the Envoy sends spans of its own: "http://127.0.0.1:4318/v1/traces". None: nowhere."""
    trace_percent: Annotated[float, Field(ge=0, le=100)] = 100
    """Of the calls without a traceparent."""

    @field_validator("listen")
    @classmethod
    def _are_told_apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        fixed = [address for address in value if not address.endswith(":0")]
        if len(set(fixed)) != len(fixed):
            raise ValueError("two addresses are the same")
        return value

    @field_validator("transcode")
    @classmethod
    def _hides_nothing(cls, value: str | None) -> str | None:
        if value is not None and (first := value.split("/")[1]) in TAKEN_PATHS:
            raise ValueError(f"must be a path such as /proto: /{first} is Headgate's own")
        return value
