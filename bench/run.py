"""One run: starts everything, measures the servers in turn, round by round, and ends everything."""

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from bench.load import OVERTIME_SECONDS, Job, Outcome
from bench.mock import APART_SUFFIX
from bench.process import Cores, free_port, running
from bench.servers import Asking, Place, Server, plain_environment

START_SECONDS = 30.0


class DidNotStart(Exception):
    """A process of the run was not ready in time, or ended."""


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 1.0
    """Of each phase that counts."""
    requests: int = 200_000
    """Most requests of each phase that counts."""
    warmup_seconds: float = 0.25
    connections: int = 16
    rate: float = 200
    """Requests per second where latency is measured."""


@dataclass(frozen=True)
class Scenario:
    """One kind of request."""

    name: str
    wires: tuple[Literal["http", "chat", "floor"], ...]
    stream: bool = False
    apart: bool = False
    """Whether the events come one by one."""
    fixed_rate: bool = False
    """Whether requests come at a fixed rate, for their latency, and not as fast as they are answered."""


SCENARIOS = (
    Scenario("REST unary", ("http",)),
    Scenario("REST stream, burst", ("http",), stream=True),
    Scenario("REST stream, apart", ("http",), stream=True, apart=True),
    Scenario("gRPC unary", ("chat", "floor")),
    Scenario("gRPC stream, burst", ("chat", "floor"), stream=True),
    Scenario("REST unary, fixed rate", ("http",), fixed_rate=True),
    Scenario("gRPC unary, fixed rate", ("chat", "floor"), fixed_rate=True),
)


@dataclass
class Measurements:
    """What a run measured."""

    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    """By scenario and server, one for each round."""
    flaws: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a scenario and server have no outcomes; the scenario is "start" where the server did not."""
    start_seconds: dict[str, float] = field(default_factory=dict)
    """From starting the process to its first answer, by server."""


@dataclass(frozen=True)
class Started:
    """A server that serves."""

    server: Server
    place: Place
    pid: int
    asking: Asking


class Load:
    """The process of the load generator."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def outcome(self, job: Job) -> Outcome:
        """Has a job done; raises DidNotStart where the process itself fails."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        stdin.flush()
        patience = job.warmup_seconds + job.seconds + 2 * OVERTIME_SECONDS + START_SECONDS
        readable, _, _ = select.select([stdout], [], [], patience)
        line = stdout.readline() if readable else b""
        if not line:
            raise DidNotStart(f"the load generator does not answer (it has {patience:.0f} s)")
        return Outcome(**json.loads(line))


class Run:
    """The processes of one run, and what they measured so far."""

    def __init__(self, options: Options, directory: Path, stack: ExitStack) -> None:
        """Starts the mock upstream and the load generator; the stack ends what is started."""
        self.found = Measurements()
        self._options = options
        self._directory = directory
        self._stack = stack
        self._cores = Cores.of_this_machine()
        self._mock_port = free_port()
        mock_log, load_log = directory / "mock.log", directory / "load.log"
        mock_command = [sys.executable, "-m", "bench.mock", "--port", str(self._mock_port)]
        self._mock = stack.enter_context(running(mock_command, self._cores.load, mock_log, os.environ))
        _wait(self._mock, mock_log, partial(_answers, self._mock_port, "/v1/models"))
        load_command = [sys.executable, "-m", "bench.load"]
        self._load = Load(
            stack.enter_context(running(load_command, self._cores.load, load_log, os.environ, piped=True))
        )

    def start(self, server: Server) -> Started | None:
        """Starts a server; None, with a flaw noted, where it does not start."""
        own = self._directory / server.name.replace(" ", "-")
        own.mkdir()
        place = Place(free_port(), free_port(), self._mock_port, own)
        log = own / "log"
        begun = time.perf_counter()
        command, environment = server.command(place), plain_environment(server)
        process = self._stack.enter_context(running(command, self._cores.server, log, environment))
        try:
            if "http" in server.wires:
                _wait(process, log, partial(_answers, place.http_port, server.ready_path))
            if server.wires & {"chat", "floor"}:
                _wait(process, log, partial(_accepts, place.grpc_port))
        except DidNotStart as error:
            self.found.flaws["start", server.name] = str(error)
            return None
        self.found.start_seconds[server.name] = time.perf_counter() - begun
        return Started(server, place, process.pid, server.prepared(place))

    def measure(self, scenario: Scenario, one: Started) -> None:
        """Measures one scenario of one server, where it speaks it and was right so far."""
        key = scenario.name, one.server.name
        wire = next((wire for wire in scenario.wires if wire in one.server.wires), None)
        if wire is None or key in self.found.flaws:
            return
        model = "tiny" + (APART_SUFFIX if scenario.apart else "")
        job = Job(
            wire=wire,
            port=one.place.http_port if wire == "http" else one.place.grpc_port,
            stream=scenario.stream,
            server_pid=one.pid,
            mock_pid=self._mock.pid,
            model=one.asking.models.get(model, one.server.model_prefix + model),
            key=one.asking.key,
            path=one.server.path,
            connections=self._options.connections,
            rate=self._options.rate if scenario.fixed_rate else 0,
            requests=self._options.requests,
            seconds=self._options.seconds,
            warmup_seconds=self._options.warmup_seconds,
        )
        outcome = self._load.outcome(job)
        if outcome.flaw is None and outcome.requests:
            self.found.outcomes.setdefault(key, []).append(outcome)
        else:
            self.found.flaws[key] = outcome.flaw or "nothing was answered"
            self.found.outcomes.pop(key, None)


def measurements(servers: list[Server], options: Options, directory: Path) -> Measurements:
    """Measures the servers, each scenario in turn over all of them, so that what is compared is close in time."""
    with ExitStack() as stack:
        run = Run(options, directory, stack)
        started = [one for server in servers if (one := run.start(server)) is not None]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} …", file=sys.stderr, flush=True)
            for scenario in SCENARIOS:
                for one in started if number % 2 == 0 else reversed(started):
                    run.measure(scenario, one)
    return run.found


def _wait(process: "subprocess.Popen[bytes]", log: Path, ready: Callable[[], bool]) -> None:
    """Waits until a server is ready; raises DidNotStart with the end of its log."""
    end = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            became = f"is not ready after {START_SECONDS:.0f} s" if process.returncode is None else "ended"
            tail = log.read_text(errors="replace").strip()[-800:]
            raise DidNotStart(f"it {became}; the end of its log: {tail or '(empty)'}")
        time.sleep(0.02)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False
