"""Builds the clients that are not in Python, once for each state of their sources, below build/ in the tree.

A machine that lacks a toolchain, or cannot reach what the modules come from, skips the tests with that as the reason; what
cannot be built fails them.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.api import annotations_pb2

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs/clients.md"
BUILT = ROOT / "build/clients"
CONTRACT = "headgate/v1"
GOOGLE = Path(annotations_pb2.__file__).parents[1]
"""google/ of the installed googleapis-common-protos."""
MINUTES = 10
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# What was fetched is not what was pinned: no reason to skip.
TAMPERED = ("checksum mismatch", "EINTEGRITY", "SECURITY ERROR", "Missing: ")

UNAVAILABLE: dict[str, str] = {}
"""What could not be fetched, and why: it is tried once, for it may take as long as a time limit of the network."""


def go_programs() -> Path:
    """The folder with the programs in Go, in bin/: client, gateway and quickstart."""
    go = needed("go", "no Go here: https://go.dev/doc/install, or Debian's golang package from testing")
    wanted = re.search(r"^go (\d+)\.(\d+)", (HERE / "go/go.mod").read_text(), re.M)
    there = re.search(r"go(\d+)\.(\d+)", said(Path("/"), [go, "version"]))
    assert wanted
    assert there
    is_older = (int(there[1]), int(there[2])) < (int(wanted[1]), int(wanted[2]))
    # Others fetch the one that go.mod names.
    if is_older and said(Path("/"), [go, "env", "GOTOOLCHAIN"]).strip() == "local":
        pytest.skip(f"this Go is {there[0]}; the clients need {wanted[0]}")
    return built("go", _build_go)


def node_programs() -> Path:
    """The folder with the programs for Node and browsers: client.js, quickstart.js and page.bundle.js."""
    node = needed("node", "no Node here: apt-get install nodejs npm, version 20 or newer")
    needed("npm", "no npm here: apt-get install npm")
    if int(said(Path("/"), [node, "--version"]).lstrip("v").partition(".")[0]) < 20:
        pytest.skip("this Node is older than 20")
    return built("node", _build_node)


def browser() -> str:
    """A Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip("no Chromium here: apt-get install chromium-headless-shell")


def needed(program: str, reason: str) -> str:
    """Where a program is; skips the test where it is not."""
    return shutil.which(program) or pytest.skip(reason)


def snippet(name: str, language: str) -> str:
    """An example of docs/clients.md."""
    found = re.search(rf"<!-- example: {name} -->\n```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    assert found, f"docs/clients.md has no example {name}"
    return found[1]


def built(kind: str, build: Callable[[Path], None]) -> Path:
    """The folder of a build; it is built where there is none of these sources yet."""
    if kind in UNAVAILABLE:
        pytest.skip(UNAVAILABLE[kind])
    sources = sorted(path for path in (HERE / kind).rglob("*") if path.is_file())
    contract = sorted((ROOT / "proto" / CONTRACT).glob("*.proto"))
    digest = hashlib.sha256()
    for path in (*sources, *contract, DOCUMENT, Path(__file__)):
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    folder = BUILT / f"{kind}-{digest.hexdigest()[:16]}"
    with alone(kind):
        if not folder.exists():
            for old in BUILT.glob(f"{kind}-*"):
                shutil.rmtree(old)
            # It has its last name only when it is whole.
            partial = BUILT / f"{kind}-partial"
            shutil.copytree(HERE / kind, partial)
            _add_contract(partial)
            try:
                build(partial)
            except pytest.skip.Exception as skipped:
                UNAVAILABLE[kind] = str(skipped)
                raise
            partial.rename(folder)
    return folder


@contextmanager
def alone(kind: str) -> Iterator[None]:
    """Keeps other processes from building the same."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f".{kind}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _add_contract(folder: Path) -> None:
    shutil.copytree(ROOT / "proto" / CONTRACT, folder / "proto" / CONTRACT, ignore=_all_but_protos)
    for part in ("api", "rpc"):
        shutil.copytree(GOOGLE / part, folder / "googleapis/google" / part, ignore=_all_but_protos)
    (folder / "buf.yaml").write_text("version: v2\nmodules: [{path: proto}, {path: googleapis}]\n")


def _all_but_protos(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".proto") and not (Path(folder) / name).is_dir()]


def _build_go(folder: Path) -> None:
    (folder / "quickstart").mkdir()
    (folder / "quickstart/main.go").write_text(snippet("go", "go"))
    obtain(folder, ["go", "mod", "download"])
    run(folder, ["go", "build", "-buildvcs=false", "-o", "bin/", "tool"])
    generate(folder, "go-generate", folder / "bin", f"proto/{CONTRACT}")
    run(folder, ["go", "build", "-buildvcs=false", "-o", "bin/", "./..."])


def _build_node(folder: Path) -> None:
    (folder / "quickstart.js").write_text(snippet("node", "js"))
    (folder / "quickstart_page.js").write_text(snippet("browser", "js"))
    obtain(
        folder, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"]
    )
    details = "googleapis/google/rpc/error_details.proto"
    generate(folder, "browser-generate", folder / "node_modules/.bin", f"proto/{CONTRACT}", details)
    for page in ("page", "quickstart_page"):
        bundle = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={page}.bundle.js"]
        run(folder, ["node_modules/.bin/esbuild", f"{page}.js", *bundle])


def generate(folder: Path, template: str, plugins: Path, *paths: str) -> None:
    """Generates what a template in the document says from the proto files at some paths."""
    buf = Path(sys.executable).with_name("buf")
    chosen = [argument for path in paths for argument in ("--path", path)]
    run(
        folder,
        [buf, "generate", "--template", snippet(template, "yaml"), *chosen],
        PATH=f"{plugins}:{os.environ['PATH']}",
    )


def obtain(folder: Path, command: Sequence[str]) -> None:
    """Runs a command that fetches modules; skips the test where they cannot be had."""
    done = _done(folder, command)
    if done.returncode != 0 and not any(word in done.stdout for word in TAMPERED):
        shutil.rmtree(folder)
        pytest.skip(f"'{' '.join(command[:3])}' could not fetch modules: {done.stdout.strip()[-300:]}")
    assert done.returncode == 0, done.stdout


def run(folder: Path, command: Sequence[str | Path], **variables: str) -> None:
    """Runs a command; fails where it fails."""
    done = _done(folder, command, **variables)
    if done.returncode != 0:
        shutil.rmtree(folder)
    assert done.returncode == 0, f"{command}:\n{done.stdout}"


def said(folder: Path, command: Sequence[str]) -> str:
    """What a command says."""
    return _done(folder, command).stdout


def _done(folder: Path, command: Sequence[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
    # What this machine says of Go's modules stays, but a workspace or flags of its own are not ours.
    environ = {**os.environ, "GOWORK": "off", "GOFLAGS": "", **variables}
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        text=True,
        timeout=60 * MINUTES,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
