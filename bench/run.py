"""One run: starts everything, measures the servers in turn, round by round, and ends everything."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from bench.load import OVERTIME_SECONDS, Job, Outcome
from bench.process import Cores, DidNotStart, Surroundings, free_port, line_of, running
from bench.scenario import SCENARIOS, Measure, Options, Scenario, Wire, asked_for, counts
from bench.server import Asking, Place, Server, plain_environment

START_SECONDS = 30.0


@dataclass
class Measurements:
    """What a run measured."""

    outcomes: dict[Measure, list[Outcome]] = field(default_factory=dict)
    """One for each round."""
    flaws: dict[Measure, str] = field(default_factory=dict)
    """Why a measure has no outcomes; the scenario is "start" where the server did not."""
    start_seconds: dict[str, float] = field(default_factory=dict)
    """From starting the process to its first answer, by server."""


@dataclass(frozen=True)
class Started:
    """A server that serves."""

    server: Server
    place: Place
    pid: int
    asking: Asking

    def model(self, name: str) -> str:
        """What the server calls a model of the mock's."""
        return self.asking.models.get(name, self.server.model_prefix + name)


class Load:
    """The process of the load generator."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def outcome(self, job: Job) -> Outcome:
        """Has a job done; raises DidNotStart where the process itself fails."""
        patience = job.warmup_seconds + job.seconds + 2 * OVERTIME_SECONDS + START_SECONDS
        return Outcome(**json.loads(line_of(self._process, json.dumps(asdict(job)), patience)))


class Run:
    """The processes of one run, and what they measured so far."""

    def __init__(self, options: Options, directory: Path, stack: ExitStack, cores: Cores | None = None) -> None:
        """Starts the mock upstream and the load generator; the stack ends what is started."""
        self.found = Measurements()
        self._options = options
        self._directory = directory
        self._stack = stack
        self._cores = cores or Cores.of_this_machine()
        self._mock_port = free_port()
        own = Path(tempfile.mkdtemp(dir=directory))
        mock_log, load_log = own / "mock.log", own / "load.log"
        mock_command = [sys.executable, "-m", "bench.mock", "--port", str(self._mock_port)]
        beside = Surroundings(self._cores.load, os.environ)
        self._mock = stack.enter_context(running(mock_command, beside, mock_log))
        _wait(self._mock, mock_log, partial(_answers, self._mock_port, "/v1/models"))
        load_command = [sys.executable, "-m", "bench.load"]
        self._load = Load(stack.enter_context(running(load_command, beside, load_log, piped=True)))

    @property
    def mock_port(self) -> int:
        """Where the mock upstream listens."""
        return self._mock_port

    @property
    def cores(self) -> Cores:
        """Which cores servers and load run on."""
        return self._cores

    def start(self, server: Server, cores: frozenset[int] | None = None) -> Started | None:
        """Starts a server, on the servers' core unless others are given; None, with a flaw noted, if it does not."""
        own = Path(tempfile.mkdtemp(dir=self._directory))
        place = Place(free_port(), free_port(), self._mock_port, own)
        log = own / "log"
        begun = time.perf_counter()
        command = server.command(place)
        surroundings = Surroundings(
            self._cores.server if cores is None else cores, plain_environment(server), server.directory
        )
        process = self._stack.enter_context(running(command, surroundings, log))
        try:
            if "http" in server.wires:
                _wait(process, log, partial(_answers, place.http_port, server.ready_path), server.start_seconds)
            if server.wires & {"chat", "floor"}:
                _wait(process, log, partial(_accepts, place.grpc_port), server.start_seconds)
            self.found.start_seconds.setdefault(server.name, time.perf_counter() - begun)
            asking = server.prepared(place)
        except DidNotStart as error:
            self.found.flaws[Measure("start", server.name, 0)] = str(error)
            return None
        return Started(server, place, process.pid, asking)

    def measure(self, scenario: Scenario, one: Started, connections: int) -> None:
        """Measures one scenario of one server, where it speaks it and was right so far."""
        key = Measure(scenario.name, one.server.name, connections)
        wire = next((wire for wire in scenario.wires if wire in one.server.wires), None)
        if wire is None or key in self.found.flaws:
            return
        outcome = self._load.outcome(self._job(scenario, one, wire, connections))
        if outcome.flaw is None and outcome.requests:
            self.found.outcomes.setdefault(key, []).append(outcome)
        else:
            self.found.flaws[key] = outcome.flaw or "nothing was answered"
            self.found.outcomes.pop(key, None)

    def _job(self, scenario: Scenario, one: Started, wire: Wire, connections: int) -> Job:
        options = self._options
        return Job(
            wire=wire,
            port=one.place.http_port if wire == "http" else one.place.grpc_port,
            stream=scenario.stream,
            server_pid=one.pid,
            mock_pid=self._mock.pid,
            model=one.model(scenario.model),
            key=one.asking.key,
            headers=dict(one.asking.headers),
            path=one.server.path,
            connections=connections,
            rate=options.rate if scenario.fixed_rate else 0,
            requests=options.requests,
            seconds=options.rate_seconds if scenario.fixed_rate else options.seconds,
            warmup_seconds=options.warmup_seconds,
        )


def measurements(
    servers: Sequence[Server], options: Options, directory: Path, scenarios: Sequence[Scenario] = SCENARIOS
) -> Measurements:
    """Measures the servers, each scenario in turn over all of them, so that what is compared is close in time."""
    with ExitStack() as stack:
        run = Run(options, directory, stack)
        started = [one for server in servers if (one := run.start(server)) is not None]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} …", file=sys.stderr, flush=True)
            turn = started if number % 2 == 0 else started[::-1]
            for scenario, connections in asked_for(scenarios, options):
                for one in turn:
                    if connections in counts(scenario, one.server.everywhere, options):
                        run.measure(scenario, one, connections)
    return run.found


def _wait(
    process: "subprocess.Popen[bytes]", log: Path, ready: Callable[[], bool], seconds: float = START_SECONDS
) -> None:
    """Waits until a server is ready; raises DidNotStart with the end of its log."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            became = f"is not ready after {seconds:.0f} s" if process.returncode is None else "ended"
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
