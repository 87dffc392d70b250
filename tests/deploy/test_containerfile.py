"""The image: what its recipe copies is enough for a wheel that runs, and what it leaves cannot do much."""

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy.documents import DEPLOY, ROOT, compose, program, said

TEXT = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", TEXT).splitlines() if line[:1].isupper()]
HADOLINT = program("hadolint")


def of(name: str) -> list[str]:
    """What an instruction is given, each time."""
    return [given for instruction, given in INSTRUCTIONS if instruction == name]


def copied() -> list[str]:
    """What is taken from the tree."""
    return [source for given in of("COPY") if not given.startswith("--from") for source in given.split()[:-1]]


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint here")
def test_a_linter_finds_nothing() -> None:
    said(HADOLINT, DEPLOY / "Containerfile")


def test_the_base_has_an_exact_version() -> None:
    (default,) = of("ARG")
    assert re.fullmatch(
        r"PYTHON_IMAGE=docker\.io/library/python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", default
    )
    assert of("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_it_runs_as_nobody_special_and_ends_when_told() -> None:
    assert of("USER") == ["65532:65532"]
    assert compose()["services"]["replica-1"]["user"] == "65532:65532"
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert "/healthz" in of("HEALTHCHECK")[0]
    assert of("ENTRYPOINT") == ['["headgate"]']


def test_dependencies_are_held_to_their_hashes_and_what_builds_is_gone() -> None:
    build, wheel, rest = of("RUN")
    assert "--require-hashes --only-binary :all:" in build
    gone = re.search(r"pip uninstall --yes ([a-z -]+?) *&&", wheel)
    assert gone
    assert {"pip", "hatchling", "editables"} <= set(gone[1].split())
    assert "pip uninstall --yes pip" in rest


def test_no_secret_is_in_it() -> None:
    for given in (*of("ARG"), *of("ENV")):
        assert not re.search(r"(KEY|TOKEN|PASSWORD|SECRET)\w*=", given)


def test_what_it_copies_is_let_through_and_nothing_else_is() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_through = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_through == set(copied())
    assert not any(fnmatch.fnmatch(".env", rule) for rule in let_through)


def test_what_it_copies_makes_a_wheel_that_has_everything(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for name in copied():
        to = source / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=source, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    found = set(zipfile.ZipFile(wheel).namelist())
    for package in ("gateway_core", "rest_bridge", "headgate_cli"):
        files = (ROOT / package).rglob("*")
        needed = {
            file.relative_to(ROOT).as_posix() for file in files if file.is_file() and "__pycache__" not in file.parts
        }
        assert needed <= found
    assert "headgate/v1/chat_completion_service_pb2_grpc.py" in found
