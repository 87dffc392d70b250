"""What two workers answer over what one does, on a machine whose cores load and mock upstream may have to share."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import MICRO, Figures, spread
from bench.headgate import all_on
from bench.load import Outcome
from bench.process import Cores, cpu_seconds_of_each, settle
from bench.run import Run, Started
from bench.scenario import UNARY, Options
from bench.server import plain_environment

CALLERS = 64
WORKERS = 2
SETTLE_SECONDS = 20.0
"""How long is waited for the workers that start."""
ONE, TWO = "1 worker", f"{WORKERS} workers"


@dataclass(frozen=True)
class Pair:
    """One round: one worker on a core of its own, and two workers."""

    one: Outcome
    two: Outcome
    busiest_share: float
    """Of the CPU of the two workers, what the busier one used: 0.5 is even."""
    shared: bool
    """Whether the two workers shared their cores with load and mock upstream."""

    @property
    def left_cores(self) -> float:
        """The cores that load and mock upstream left to the two workers."""
        others = (self.two.load_cpu + self.two.mock_cpu) / self.two.seconds
        return WORKERS - others if self.shared else WORKERS

    @property
    def ratio(self) -> float:
        """Requests a second of two workers with two whole cores, over those of one worker with one whole core.

        Two workers: what they answered, for each core that was left to them; cores that idled count against them.
        One worker: what its CPU per request allows, even where the load did not keep it busy.
        """
        one_core = self.one.requests / self.one.server_cpu
        return WORKERS * (self.two.requests / self.two.seconds / self.left_cores) / one_core

    @property
    def cpu_ratio(self) -> float:
        """CPU per request with two workers over that with one."""
        return (self.two.server_cpu / self.two.requests) / (self.one.server_cpu / self.one.requests)


def absence() -> str | None:
    """Why workers cannot be measured, or None."""
    server = all_on(ONE)
    command = [sys.executable, "-m", "headgate_cli", "serve", "--help"]
    told = subprocess.run(
        command, cwd=server.directory, env=plain_environment(server), capture_output=True, text=True, timeout=60
    )
    if "--workers" not in told.stdout:
        return "not there: `headgate serve` has no --workers"
    if len(Cores.of_this_machine().all) < WORKERS:
        return f"it takes {WORKERS} cores"
    return None


def workers(options: Options, directory: Path) -> Figures:
    """One worker and two in turn, round by round."""
    reason = absence()
    if reason is not None:
        return {"absent": reason}
    one_core = Cores.of_this_machine()
    both = Cores.for_workers(WORKERS)
    options = replace(options, connections=(CALLERS,))
    pairs = []
    with ExitStack() as stack:
        alone, together = Run(options, directory, stack), Run(options, directory, stack, both)
        first = alone.start(all_on(ONE, ["--workers", "1"]), one_core.server)
        second = together.start(all_on(TWO, ["--workers", str(WORKERS)]), both.server)
        if first is None or second is None:
            return {"flaw": next(iter((alone.found.flaws | together.found.flaws).values()))}
        # The first worker that is ready answers while the others still start.
        settle(second.pid, SETTLE_SECONDS)
        for _ in range(options.rounds):
            pair = _pair((alone, first), (together, second), shared=bool(both.server & both.load))
            if pair is None:
                return {"flaw": next(iter((alone.found.flaws | together.found.flaws).values()))}
            pairs.append(pair)
    return figures_of_pairs(pairs)


def _pair(alone: tuple[Run, Started], together: tuple[Run, Started], shared: bool) -> Pair | None:
    one = _outcome(*alone)
    before = cpu_seconds_of_each(together[1].pid)
    two = _outcome(*together)
    after = cpu_seconds_of_each(together[1].pid)
    spent = [after[pid] - before[pid] for pid in after if pid in before]
    return None if one is None or two is None else Pair(one, two, max(spent) / sum(spent), shared)


def _outcome(run: Run, started: Started) -> Outcome | None:
    run.measure(UNARY, started, CALLERS)
    found = [outcomes for measure, outcomes in run.found.outcomes.items() if measure.server == started.server.name]
    return found[0][-1] if found else None


def figures_of_pairs(pairs: Sequence[Pair]) -> Figures:
    """Ratios round by round, and what they are made of."""
    return {
        "callers": CALLERS,
        "shared_cores": pairs[0].shared,
        "ratio": spread([pair.ratio for pair in pairs]),
        "cpu_ratio": spread([pair.cpu_ratio for pair in pairs]),
        "busiest_share": spread([pair.busiest_share for pair in pairs]),
        "left_cores": spread([pair.left_cores for pair in pairs]),
        "idle_cores": spread([pair.left_cores - pair.two.server_cpu / pair.two.seconds for pair in pairs]),
        "other_programs_cores": spread([pair.two.other_cores for pair in pairs]),
        "requests_per_second": {
            ONE: spread([pair.one.requests / pair.one.seconds for pair in pairs]),
            TWO: spread([pair.two.requests / pair.two.seconds for pair in pairs]),
        },
        "cpu_us_per_request": {
            ONE: spread([pair.one.server_cpu / pair.one.requests * MICRO for pair in pairs]),
            TWO: spread([pair.two.server_cpu / pair.two.requests * MICRO for pair in pairs]),
        },
    }
