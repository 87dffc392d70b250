"""Other gateways, before the same mock and under the same load, where they are installed; none is needed."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import Figures, figures_of
from bench.mock import MODELS
from bench.run import measurements
from bench.scenario import APART, BURST, UNARY, Options
from bench.server import Asking, Place, Server

LITELLM = "LiteLLM"
PORTKEY = "Portkey"
SECONDS = 1.5
"""Of each phase: the slower ones answer a few dozen streams in it."""
SCENARIOS = (UNARY, BURST, APART)

_LITELLM_KEY = "sk-bench" + "0" * 32
_PORTKEY_PROGRAM = Path("node_modules", "@portkey-ai", "gateway", "build", "start-server.js")


@dataclass(frozen=True)
class Installed:
    """Where peers are, as the command line or the environment tells; None: on PATH, or not at all."""

    litellm: str | None = None
    """The program `litellm`, of an environment of its own."""
    portkey: str | None = None
    """The folder in which `npm install @portkey-ai/gateway` was run."""

    @staticmethod
    def told(litellm: str | None, portkey: str | None) -> "Installed":
        """By options, or else by HEADGATE_BENCH_LITELLM and HEADGATE_BENCH_PORTKEY."""
        environment = os.environ.get
        return Installed(
            litellm or environment("HEADGATE_BENCH_LITELLM"), portkey or environment("HEADGATE_BENCH_PORTKEY")
        )


def peers(installed: Installed) -> tuple[Server, ...]:
    """A row for each."""
    return _litellm(installed), _portkey(installed)


def measured_peers(others: Sequence[Server], installed: Installed, options: Options, directory: Path) -> Figures:
    """The peers beside the servers that they are compared to, each scenario at the usual number of callers.

    A peer that is not installed is skipped; what it answers wrongly is told, and no failure of the run.
    """
    rows = peers(installed)
    skipped = {server.name: reason for server in rows if (reason := server.absence()) is not None}
    present = [server for server in rows if server.name not in skipped]
    usual = replace(options, connections=(options.usual_connections,), seconds=max(SECONDS, options.seconds))
    found = measurements([*others, *present] if present else [], usual, directory, SCENARIOS)
    figures = figures_of(found, usual, skipped)
    names = {server.name for server in rows}
    for row in figures["rows"]:
        row["peer"] = row["server"] in names
    return figures


def _litellm(installed: Installed) -> Server:
    program = shutil.which(installed.litellm or "litellm")

    def command(place: Place) -> list[str]:
        file = place.directory / "litellm.yaml"
        upstream = {"api_base": f"http://127.0.0.1:{place.mock_port}/v1", "api_key": "bench"}
        models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **upstream}} for name in MODELS]
        # JSON is YAML.
        file.write_text(json.dumps({"model_list": models}))
        where = ("--port", str(place.http_port), "--host", "127.0.0.1")
        return [program or "litellm", "--config", str(file), *where, "--num_workers", "1", "--telemetry", "False"]

    return Server(
        LITELLM,
        frozenset({"http"}),
        command,
        lambda: None if program else "not installed (--litellm names the program)",
        ready_path="/health/liveliness",
        # Nothing is fetched, and nothing but errors is logged.
        environment={
            "LITELLM_MASTER_KEY": _LITELLM_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        },
        prepared=lambda _: Asking(key=_LITELLM_KEY),
        start_seconds=120,
    )


def _portkey(installed: Installed) -> Server:
    node = shutil.which("node")
    program = Path(installed.portkey or ".") / _PORTKEY_PROGRAM

    def headers(place: Place) -> Asking:
        host = f"http://127.0.0.1:{place.mock_port}/v1"
        return Asking(headers={"x-portkey-provider": "openai", "x-portkey-custom-host": host})

    return Server(
        PORTKEY,
        frozenset({"http"}),
        lambda place: [node or "node", str(program), f"--port={place.http_port}", "--headless"],
        lambda: None if node and program.is_file() else "not installed (--portkey names the folder)",
        ready_path="/",
        environment={"NODE_ENV": "production"},
        prepared=headers,
        start_seconds=60,
    )
