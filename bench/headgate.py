"""Headgate as it is measured: bare, with its ledger, and with everything on."""

import http.client
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.mock import MODELS
from bench.process import ROOT, DidNotStart
from bench.server import Asking, Place, Server

ALL_ON = "headgate, all on"

ROOT_KEY = "sk-hg-bench0000000" + "0" * 32
"""Of the server that is measured, which lives for as long as a run."""


def absence() -> str | None:
    """Why Headgate cannot be run, or None."""
    if find_spec("headgate_cli") is None or find_spec("headgate_cli.__main__") is None:
        return "headgate_cli is not installed: pip install -e ."
    return None


def bare_command(place: Place) -> list[str]:
    """Without a database: what translation and transport cost."""
    return _serve_command(place, {"storage": False})


def kept_command(place: Place) -> list[str]:
    """With accounts, limits and the ledger, in SQLite on the disk."""
    # What asks without a key is the operator's: it is looked up, and written down, all the same.
    return _serve_command(place, {"authentication": "optional", "models": _models()})


def all_on_command(place: Place) -> list[str]:
    """With a key, a plan whose limits are counted, and a gateway: what a call costs in earnest."""
    # Limits that nobody reaches: they are counted all the same.
    window = {"window_seconds": 60, "requests": 10**8, "input_tokens": 10**11}
    plan = {"windows": [window], "concurrent_calls_per_key": 10**6}
    return _serve_command(place, {"models": _models(), "plans": {"all": plan}})


def all_on(name: str, options: Sequence[str] = (), tree: Path = ROOT) -> Server:
    """The row of a Headgate with everything on, started with more options, from a tree of its sources."""
    # Before the environment's own packages, so that it is this tree's that are imported.
    sources = {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'proto'}"}
    return Server(
        name,
        frozenset({"http", "chat"}),
        lambda place: [*all_on_command(place), *options],
        absence,
        ready_path="/healthz",
        environment={"HEADGATE_ROOT_KEY": ROOT_KEY, **sources},
        prepared=_with_gateways,
        directory=tree,
        everywhere=True,
    )


def _models() -> dict[str, object]:
    price = {"input_per_million": 0.15, "output_per_million": 0.6}
    return {f"mock/{name}": {"targets": [{"provider": "mock", "model": name}], "price": price} for name in MODELS}


def _with_gateways(place: Place) -> Asking:
    """An account with a plan and a balance, its key, and a gateway for each model."""
    made = _admin(place, "accounts", ROOT_KEY, {"name": "bench", "plan": "all"})
    credit = {"account_id": made["account"]["id"], "amount_usd": "100000", "reference": "1"}
    _admin(place, "balance/credits", ROOT_KEY, credit)
    key: str = made["secret"]
    models = {}
    for model in MODELS:
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
            raise DidNotStart(f"{path} cannot be made: {answer.status} {said}")
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
