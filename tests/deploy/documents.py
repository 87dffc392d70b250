"""What lies in deploy/, read."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from gateway_core.config import Config
from gateway_core.config_file import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
ENVIRONMENT = {
    "HEADGATE_DATABASE_URL": "postgresql://headgate:secret@postgres:5432/headgate",
    "HEADGATE_REDIS_URL": "redis://:secret@valkey:6379/0",
    "OPENAI_API_KEY": "sk-none",
}
"""What the configurations take from Secrets."""


def kustomization() -> dict[str, Any]:
    """The list of what belongs together."""
    document: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    return document


def manifests() -> list[dict[str, Any]]:
    """Every object of the cluster, as it stands in the files."""
    files = [KUBERNETES / name for name in kustomization()["resources"]]
    return [document for file in files for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def manifest(kind: str, name: str) -> dict[str, Any]:
    """The one of a kind and name."""
    (found,) = (each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pods() -> dict[str, dict[str, Any]]:
    """The template of each workload, by its kind."""
    return {each["kind"]: each["spec"]["template"] for each in manifests() if "template" in each.get("spec", {})}


def compose() -> dict[str, Any]:
    """The Compose file, with its anchors resolved."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return document


def configuration(path: Path) -> Config:
    """What a configuration file says; raises ConfigError."""
    return load(path, ENVIRONMENT)


def program(name: str) -> str | None:
    """A tool of the test environment, or of the machine."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def said(*arguments: str | Path | None, given: str | None = None) -> str:
    """What a tool says; raises AssertionError where it is not content."""
    result = subprocess.run(
        [str(each) for each in arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
