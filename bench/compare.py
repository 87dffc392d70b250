"""The command `python -m bench.compare BASE`: this tree and that of a commit in turn, and their ratio pair by pair.

Both are Headgate with everything on, on the same core, before the same mock upstream and load, which are this tree's.
This tree is measured as it lies there, with what is not committed; both use this environment's packages.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.figures import MICRO, Figures, spread
from bench.headgate import all_on
from bench.interrupt import interrupted_by_sigterm
from bench.process import ROOT, DidNotStart
from bench.run import Measurements, measurements
from bench.scenario import QUICK, SCENARIOS, Measure, Options, Scenario
from bench.server import Server, plain_environment
from bench.table import aligned, range_text

BASE, HEAD = "base", "head"
PACKAGES = ("gateway_core", "rest_bridge", "headgate_cli", "headgate.v1.chat_pb2")
PAIRS = 7
STARTS = 2
"""How often both are started anew: what memory lies where is luck, and differs from start to start."""


class NotComparable(Exception):
    """The trees cannot be measured one beside the other."""


@contextmanager
def worktree(commit: str, directory: Path) -> Iterator[Path]:
    """The tree of a commit, in a worktree of git's that is removed on the way out; raises NotComparable."""
    tree = directory / "tree"
    _git("worktree", "add", "--detach", "--force", str(tree), f"{commit}^{{commit}}")
    try:
        yield tree
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise NotComparable(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def assert_own_sources(server: Server) -> None:
    """Raises NotComparable unless a server imports the packages of its own tree."""
    names = ", ".join(PACKAGES)
    code = f"import json, {names}; print(json.dumps([one.__file__ for one in ({names})]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=server.directory,
        env=plain_environment(server),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise NotComparable(f"{server.name} cannot be imported in this environment: {done.stderr.strip()[-400:]}")
    for file in json.loads(done.stdout):
        if not Path(file).resolve().is_relative_to(server.directory.resolve()):
            raise NotComparable(f"{server.name} imports {file}, which is not in {server.directory}")


def compared(base: Path, options: Options, starts: int, scenarios: Sequence[Scenario]) -> list[Measurements]:
    """Both trees, measured in turn; started anew for each share of the pairs."""
    servers = [all_on(BASE, tree=base), all_on(HEAD)]
    for server in servers:
        assert_own_sources(server)
    found = []
    for start in range(starts):
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as directory:
            # Who is started second has other ports and other memory: each has its turn.
            order = servers if start % 2 == 0 else servers[::-1]
            found.append(measurements(order, options, Path(directory), scenarios))
    return found


def ratios(found: Sequence[Measurements]) -> Iterator[Figures]:
    """For each measure that both have: CPU per request of each, and this tree's over the commit's, pair by pair."""
    measures = dict.fromkeys(measure for one in found for measure in one.outcomes if measure.server == BASE)
    for measure in measures:
        base = [cpu for one in found for cpu in _cpu(one, measure)]
        head = [cpu for one in found for cpu in _cpu(one, measure.of(measure.scenario, HEAD))]
        if len(base) == len(head):
            yield {
                "scenario": measure.scenario,
                "connections": measure.connections,
                "base_us": spread(base),
                "head_us": spread(head),
                "ratio": spread([ours / theirs for ours, theirs in zip(head, base, strict=True)]),
            }


def _cpu(found: Measurements, measure: Measure) -> list[float]:
    return [one.server_cpu / one.requests * MICRO for one in found.outcomes.get(measure, ())]


def table(rows: Sequence[Figures]) -> list[str]:
    """The ratios as text; below 1 this tree is cheaper."""
    lines = [
        [
            row["scenario"],
            str(row["connections"]),
            f"{row['base_us']['median']:.1f}",
            f"{row['head_us']['median']:.1f}",
            range_text(row["ratio"], 3),
            " ".join(f"{ratio:.2f}" for ratio in row["ratio"]["rounds"]),
        ]
        for row in rows
    ]
    return aligned(["scenario", "callers", "base µs", "head µs", "head/base", "pair by pair"], lines, texts=1)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    result = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    result.add_argument("base", metavar="BASE", help="a commit: a branch, a tag, HEAD~3, …")
    result.add_argument("--pairs", type=int, default=PAIRS, help="in all; default: %(default)s")
    result.add_argument("--starts", type=int, default=STARTS, help="of both servers; default: %(default)s")
    result.add_argument("--seconds", type=float, default=1.0, help="of each phase; default: %(default)s")
    result.add_argument("--connections", type=int, default=16, help="callers at once; default: %(default)s")
    result.add_argument("--scenario", action="append", metavar="NAME", help=f"this one; repeatable ({names})")
    result.add_argument(
        "--json", type=Path, default=ROOT / "build" / "compare.json", help="default: build/compare.json"
    )
    result.add_argument("--quick", action="store_true", help="a smoke run: the numbers say nothing")
    return result


def options_of(arguments: argparse.Namespace) -> tuple[Options, int]:
    """How much is measured from each start, and how many starts there are."""
    if arguments.quick:
        return replace(QUICK, connections=(4,)), 1
    starts = max(1, min(arguments.starts, arguments.pairs))
    rounds = -(-max(1, arguments.pairs) // starts)
    return Options(rounds=rounds, seconds=arguments.seconds, connections=(max(1, arguments.connections),)), starts


def main() -> int:
    """The command line."""
    arguments = parser().parse_args()
    interrupted_by_sigterm()
    scenarios = [one for one in SCENARIOS if not arguments.scenario or one.name in arguments.scenario]
    options, starts = options_of(arguments)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="headgate-compare-") as directory,
            worktree(arguments.base, Path(directory)) as tree,
        ):
            found = compared(tree, options, starts, scenarios)
    except KeyboardInterrupt:
        return 130
    except (NotComparable, DidNotStart) as error:
        print(f"bench.compare: {error}", file=sys.stderr)
        return 1
    rows = list(ratios(found))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"base": arguments.base, "rows": rows}, indent=2) + "\n")
    print(f"CPU of the server per request, in microseconds, of {arguments.base} (base) and of this tree (head),")
    print(f"in turn, from {starts} starts of both; head/base pair by pair, median (lowest-highest).\n")
    print("\n".join(table(rows)))
    flaws = [(measure, flaw) for one in found for measure, flaw in one.flaws.items()]
    for measure, flaw in flaws:
        print(f"FAILED {measure.server}, {measure.scenario}: {flaw}")
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
