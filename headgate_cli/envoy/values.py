"""What the configuration says → what the templates need to know."""

import json
import math
from base64 import b64encode
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from gateway_core.config import Config, TimeoutsConfig
from gateway_core.config_envoy import EnvoyConfig, EnvoyReplicaConfig, EnvoyTlsConfig, EnvoyUpstreamTlsConfig
from headgate_cli.address import Address
from headgate_cli.envoy.descriptors import descriptor_set, services
from headgate_cli.envoy.template import Values
from headgate_cli.errors import CommandFailed

TOLD = {
    "provider": "x-headgate-provider",
    "input_tokens": "x-headgate-input-tokens",
    "output_tokens": "x-headgate-output-tokens",
    "cost_usd": "x-headgate-cost",
}
"""What a line of the access log tells of the ledger, and where an answer tells it."""
ACCESS_LOGS = (
    {"is_transcoded": "false", "grpc_status": '"%GRPC_STATUS(SNAKE_STRING)%"'},
    {"is_transcoded": "true", "grpc_status": "null"},
)
AUTHORIZATION_HEADERS = (
    "authorization",
    "x-api-key",
    "api-key",
    "x-forwarded-client-cert",
    "x-envoy-external-address",
    "origin",
    "x-request-id",
    "traceparent",
)
"""What the core is sent to judge a key by; the path, with its query, is sent in any case."""
KEY_HEADERS = AUTHORIZATION_HEADERS[:4]
"""What tells who calls."""
OPEN_PREFIXES = ("/grpc.health.v1.", "/grpc.reflection.")
MESSAGE_SECONDS = 60
"""How long an administrative RPC may take."""


def values(config: Config) -> Values:
    """All of them; raises CommandFailed where the configuration has nothing that could be fronted."""
    envoy = config.envoy
    replicas = envoy.replicas or (own_replica(config),)
    clusters = [
        row for row in (_cluster("core", replicas, config), _cluster("bridge", replicas, config)) if row["endpoints"]
    ]
    names = {row["name"] for row in clusters}
    if not names:
        raise CommandFailed(
            "there is nothing to front: listen.http and listen.grpc are null, and envoy.replicas names none"
        )
    for key in ("rate_limit_service", "external_authorization", "transcode"):
        if getattr(envoy, key) and "core" not in names:
            raise CommandFailed(f"envoy.{key} needs a core: none of the replicas has one")
    return {
        **_listener(envoy),
        **_limits(config),
        **_tls(envoy.tls),
        **_tracing(envoy),
        **_transcoding(config),
        "access_logs": ACCESS_LOGS if envoy.transcode else ACCESS_LOGS[:1],
        "clusters": clusters,
        "has_core": "core" in names,
        "has_bridge": "bridge" in names,
        "many": len(replicas) > 1 or any(replica.is_name for replica in replicas),
        "ring_hash": envoy.balance == "ring_hash",
        "hash_headers": [{"header": name} for name in envoy.hash_headers],
        "cors": bool(config.cors.allowed_origins) and "core" in names,
        "origins": [{"origin_match": _origin_match(origin)} for origin in sorted(config.cors.allowed_origins)],
        "rate_limit_service": envoy.rate_limit_service,
        "core_refuses": envoy.rate_limit_service or envoy.external_authorization,
        "external_authorization": envoy.external_authorization,
        "authorization_headers": [{"header": name} for name in AUTHORIZATION_HEADERS],
        "key_headers": [{"header": name} for name in KEY_HEADERS],
        "open_prefixes": [{"prefix": prefix} for prefix in OPEN_PREFIXES],
        "told": [{"told_key": key, "told_header": header} for key, header in TOLD.items()],
    }


def own_replica(config: Config) -> EnvoyReplicaConfig:
    """The Headgate of this configuration, on this machine; raises CommandFailed where its ports are not known."""
    found = {name: _listening(getattr(config.listen, name), name) for name in ("http", "grpc")}
    hosts = {address.host for address in found.values() if address is not None}
    if len(hosts) > 1:
        raise CommandFailed("listen.http and listen.grpc are of different hosts: name the replicas in envoy.replicas")
    ports: dict[str, Any] = {name: None if address is None else address.port for name, address in found.items()}
    return EnvoyReplicaConfig(host=hosts.pop() if hosts else "127.0.0.1", **ports)


def _listening(text: str | None, name: str) -> Address | None:
    if text is None:
        return None
    address = Address.parse(text, f"listen.{name}").reachable()
    if not address.port:
        raise CommandFailed(f"listen.{name} takes any free port: give it one, or name the replicas in envoy.replicas")
    return address


def _cluster(name: str, replicas: tuple[EnvoyReplicaConfig, ...], config: Config) -> dict[str, Any]:
    protocol = "grpc" if name == "core" else "http"
    endpoints = [
        {"host": quoted(replica.host), "port": port}
        for replica in replicas
        if (port := getattr(replica, protocol)) is not None
    ]
    return {
        "name": name,
        "is_core": name == "core",
        "by_name": any(replica.is_name for replica in replicas),
        "endpoints": endpoints,
        **_upstream_tls(config, protocol),
    }


def _listener(envoy: EnvoyConfig) -> dict[str, Any]:
    first, *more = [Address.parse(text, "envoy.listen") for text in envoy.listen]
    admin = Address.parse(envoy.admin, "envoy.admin")
    return {
        "admin_host": quoted(admin.host),
        "admin_port": admin.port,
        "connections": envoy.connections,
        "streams_per_connection": envoy.streams_per_connection,
        "listen_host": quoted(first.host),
        "listen_port": first.port,
        "more_addresses": [{"listen_host": quoted(each.host), "listen_port": each.port} for each in more],
        "trusted_hops": envoy.trusted_hops,
    }


def _limits(config: Config) -> dict[str, Any]:
    """Each a little on that side of Headgate's own on which Headgate has the last word."""
    envoy, limits = config.envoy, config.limits
    longest = max([row.timeouts.total_seconds for row in config.providers.values()] or [TimeoutsConfig().total_seconds])
    rate = envoy.per_address
    return {
        "ping_seconds": number(config.ping_seconds),
        "idle_seconds": math.ceil(max(longest, config.ping_seconds * 2)) + 60,
        "header_seconds": number(limits.header_seconds),
        "header_bytes": limits.header_bytes,
        "header_kb": min(8192, math.ceil(limits.header_bytes * 1.5 / 1024)),
        "body_seconds": number(limits.body_seconds),
        "request_seconds": math.ceil(limits.body_seconds) + 10,
        "keep_alive_seconds": number(limits.keep_alive_seconds),
        "bridge_idle_seconds": number(limits.keep_alive_seconds * 0.8),
        "request_body_bytes": limits.request_body_bytes,
        "message_bytes": limits.grpc_message_bytes,
        "message_seconds": MESSAGE_SECONDS,
        "health_seconds": number(envoy.health_seconds),
        "unhealthy_seconds": number(min(1.0, envoy.health_seconds)),
        "per_address": rate is not None,
        "burst": 0 if rate is None else max(rate.burst, rate.requests_per_second),
        "tokens_per_fill": 0 if rate is None else rate.requests_per_second,
        "fill_interval": 1,
        "addresses": 0 if rate is None else rate.addresses,
    }


def _tls(tls: EnvoyTlsConfig | None) -> dict[str, Any]:
    if tls is None:
        return {"tls": False, "client_authorities": False}
    return {
        "tls": True,
        "certificate": quoted(tls.certificate),
        "private_key": quoted(tls.private_key),
        "client_authorities": tls.client_authorities is not None and quoted(tls.client_authorities),
        "client_certificate_required": str(tls.client_certificate == "required").lower(),
    }


def _upstream_tls(config: Config, protocol: str) -> dict[str, Any]:
    """How one of the two clusters is reached; raises CommandFailed where nothing says whom to believe."""
    listener = getattr(getattr(config, "tls", None), protocol, None)
    if listener is None:
        return {"upstream_tls": False}
    upstream = config.envoy.upstream_tls
    if upstream is None:
        raise CommandFailed(
            f"envoy.upstream_tls is required: Headgate has tls.{protocol}, and Envoy must know whom to believe"
        )
    if listener.client_authorities is not None and upstream.certificate is None:
        raise CommandFailed(f"envoy.upstream_tls.certificate is required: tls.{protocol} has client_authorities")
    return {
        "upstream_tls": True,
        "server_name": _server_name(upstream),
        "upstream_authorities": quoted(upstream.authorities),
        "upstream_certificate": upstream.certificate is not None and quoted(upstream.certificate),
        "upstream_private_key": upstream.private_key is not None and quoted(upstream.private_key),
        "upstream_names": [{"san_type": _san_type(name), "san": quoted(name)} for name in upstream.names],
    }


def _server_name(upstream: EnvoyUpstreamTlsConfig) -> str | bool:
    hosts = [name for name in upstream.names if _san_type(name) == "DNS"]
    name = upstream.server_name or (hosts[0] if hosts else None)
    return name is not None and quoted(name)


def _san_type(name: str) -> str:
    """What a name of a certificate is, as Envoy calls it."""
    if "://" in name:
        return "URI"
    try:
        ip_address(name)
    except ValueError:
        return "DNS"
    return "IP_ADDRESS"


def _tracing(envoy: EnvoyConfig) -> dict[str, Any]:
    if envoy.otlp_url is None:
        return {"tracing": False}
    parts = urlsplit(envoy.otlp_url)
    return {
        "tracing": True,
        "trace_percent": number(envoy.trace_percent),
        "otlp_uri": quoted(envoy.otlp_url),
        "otlp_host": quoted(parts.hostname or ""),
        "otlp_port": parts.port or 80,
    }


def _transcoding(config: Config) -> dict[str, Any]:
    prefix = config.envoy.transcode
    if prefix is None:
        return {"transcode": False}
    return {
        "transcode": True,
        "transcode_path": prefix,
        "descriptors": b64encode(descriptor_set(prefix)).decode("ascii"),
        "services": [{"service": name} for name in services()],
    }


def _origin_match(origin: str) -> str:
    return '{safe_regex: {regex: ".*"}}' if origin == "*" else f"{{exact: {quoted(origin)}}}"


def quoted(text: str) -> str:
    """A text as YAML reads it whatever is in it: JSON's form is YAML's too."""
    return json.dumps(text)


def number(value: float) -> str:
    """A number without an exponent, as durations are written: at most nine digits behind the point."""
    return f"{value:.9f}".rstrip("0").rstrip(".")
