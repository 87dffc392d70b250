"""`headgate doctor`: says what is wrong, and what to do about it."""

import asyncio
import os
import platform
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gateway_core.config import Config
from headgate_cli.address import Address
from headgate_cli.checks import Check, ProviderCheck, circuits_check, clock_check, port_check
from headgate_cli.commands import version_text
from headgate_cli.database_check import database_check
from headgate_cli.discovery import discover
from headgate_cli.errors import FAILED, CommandFailed
from headgate_cli.limits_check import limits_check
from headgate_cli.locations import config_file, data_directory, key_place, read_config
from headgate_cli.tls_check import shows, tls_checks
from headgate_cli.workers_check import workers_checks

LIBRARIES = ("grpcio", "protobuf", "uvicorn", "httptools")
MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def run(*, config: Path | None, data: Path | None) -> int:
    """Prints the findings; returns 1 where something is wrong."""
    checks = asyncio.run(examine(config, data))
    width = max(len(check.subject) for check in checks)
    for check in checks:
        print(f"{MARKS[check.verdict]}  {check.subject:{width}}  {check.text}")
        if check.advice:
            print(f"{'':7}{'':{width}}  -> {check.advice}")
    wrong = sum(check.verdict == "wrong" for check in checks)
    print("nothing is wrong" if not wrong else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong")
    return FAILED if wrong else 0


async def examine(chosen: Path | None, data: Path | None) -> list[Check]:
    """All the checks."""
    path = config_file(chosen, data)
    checks = [versions()]
    config, origins = Config(), {}
    is_read = True
    if path is None:
        findings = await discover(os.environ, [Address.parse(own, "listen") for own in listening(config)])
        config = findings.config()
        origins = {found.name: found.origin for found in findings.found}
        found = ", ".join(f"{name} {origin}" for name, origin in origins.items()) or "nothing"
        checks.append(Check("ok", "config", f"there is no file; found: {found}"))
        checks += [Check("note", "config", note) for note in findings.notes]
    else:
        try:
            config = read_config(path)
        except CommandFailed as error:
            checks += [Check("wrong", "config", problem) for problem in error.problems]
            is_read = False
        else:
            checks.append(Check("ok", "config", str(path)))
            origins = {name: key_place(path, name) for name in config.providers}
    providers = [ProviderCheck(name, row, origins[name]) for name, row in config.providers.items()]
    checks += await asyncio.gather(*(provider.run() for provider in providers))
    kept = data_directory(data or config.data_directory)
    checks += directory(kept)
    if is_read and config.storage:
        checks.append(await database_check(config, kept))
    if config.redis_url is not None:
        checks.append(await limits_check(config.redis_url))
    checks += [*workers_checks(config.workers), *tls_checks(config)]
    checks += await ports(config)
    offsets = [provider.clock_offset for provider in providers if provider.clock_offset is not None]
    return [*checks, clock_check(offsets)]


def versions() -> Check:
    """What runs."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Check(
        "ok", "versions", f"headgate {version_text()}, Python {platform.python_version()}, {libraries}, {system}"
    )


def directory(data: Path) -> Iterator[Check]:
    """The data directory."""
    if not data.exists():
        yield Check("ok", "data", f"{data}: not there, and not needed yet")
    elif not data.is_dir():
        yield Check("wrong", "data", f"{data}: is no directory", "remove it, or choose another with --data")
    elif not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield Check("wrong", "data", f"{data}: cannot be read and written", "change its owner, or choose another")
    else:
        yield Check("ok", "data", str(data))


def listening(config: Config) -> list[str]:
    """The addresses of a configuration."""
    return [address for address in (config.listen.http, config.listen.grpc) if address is not None]


async def ports(config: Config) -> list[Check]:
    """Whether the addresses are free, or served by Headgate already."""
    chosen = config.listen.model_fields_set if "listen" in config.model_fields_set else set()
    checks = []
    for what, text in (("HTTP", config.listen.http), ("gRPC", config.listen.grpc)):
        if text is not None:
            address = Address.parse(text, "listen")
            row = config.tls.http if what == "HTTP" else config.tls.grpc
            asks = None if row is None else partial(shows, certificate=row.certificate)
            checks.append(await port_check(what, address, may_move=what.lower() not in chosen, asks=asks))
            if what == "HTTP" and row is None and (circuits := await circuits_check(address)) is not None:
                checks.append(circuits)
    return checks
