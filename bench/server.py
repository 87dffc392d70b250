"""What a server that is measured is: how it is started, what it speaks, how it is asked."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import ROOT


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
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside what every HTTP request has."""


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
    directory: Path = ROOT
    """Where it is started."""
    everywhere: bool = False
    """Whether it is measured at every number of callers, and not at the usual one only."""
    start_seconds: float = 30.0
    """How long it may take to be ready."""


def plain_environment(server: Server) -> dict[str, str]:
    """The environment of a server: no proxies, keys or exporters of whoever runs the bench."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"} | dict(server.environment)
