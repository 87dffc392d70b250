"""The command `python -m bench`: measures, prints a table, writes JSON; exit status 1 where an answer was wrong."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.chart import chart
from bench.figures import Figures, figures_of
from bench.goals import verdicts
from bench.headgate import ALL_ON
from bench.interrupt import interrupted_by_sigterm
from bench.memory import memory
from bench.peers import Installed, measured_peers
from bench.process import ROOT, DidNotStart
from bench.report import report
from bench.run import measurements
from bench.scenario import QUICK, Options
from bench.server import Server
from bench.servers import SERVERS
from bench.workers import workers


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of callers, as the command line tells them: `1,16,64`."""
    return tuple(max(1, int(number)) for number in text.split(","))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    usual = Options()
    names = ", ".join(server.name for server in SERVERS)
    result = argparse.ArgumentParser(
        prog="python -m bench", description="CPU per request and per event beside a plain Envoy. See bench/README.md."
    )
    result.add_argument("--rounds", type=int, default=usual.rounds, help="default: %(default)s")
    result.add_argument("--seconds", type=float, default=usual.seconds, help="of each phase; default: %(default)s")
    result.add_argument("--requests", type=int, default=usual.requests, help="most per phase; default: %(default)s")
    result.add_argument(
        "--connections",
        type=numbers,
        default=usual.connections,
        metavar="N,…",
        help="callers at once; default: 1,16,64,256",
    )
    result.add_argument("--rate", type=float, default=usual.rate, help="requests/s for latency; default: %(default)s")
    result.add_argument(
        "--open-streams", type=int, default=usual.open_streams, help="idle ones, 0 to 10000; default: %(default)s"
    )
    result.add_argument("--only", action="append", metavar="SERVER", help=f"measure this one; repeatable ({names})")
    result.add_argument("--peers", action="store_true", help="LiteLLM and Portkey too, where they are installed")
    result.add_argument("--litellm", metavar="PROGRAM", help="default: $HEADGATE_BENCH_LITELLM, or that of PATH")
    result.add_argument("--portkey", metavar="FOLDER", help="of its node_modules; default: $HEADGATE_BENCH_PORTKEY")
    result.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="default: build/bench.json")
    result.add_argument("--quick", action="store_true", help="a smoke run: all rows answer, the numbers say nothing")
    return result


def options_of(arguments: argparse.Namespace) -> Options:
    """How much is measured."""
    if arguments.quick:
        return QUICK
    return Options(
        rounds=max(1, arguments.rounds),
        seconds=arguments.seconds,
        requests=max(1, arguments.requests),
        connections=arguments.connections,
        rate=max(1.0, arguments.rate),
        open_streams=arguments.open_streams,
    )


def measured(asked: Sequence[Server], arguments: argparse.Namespace, directory: Path) -> Figures:
    """Everything that the command line asks for."""
    options = options_of(arguments)
    skipped = {server.name: reason for server in asked if (reason := server.absence()) is not None}
    present = [server for server in asked if server.name not in skipped]
    figures = figures_of(measurements(present, options, directory), options, skipped)
    holding = [server for server in present if server.everywhere and server.wires & {"http", "chat"}]
    figures["open_streams"] = list(memory(holding, options, directory)) if options.open_streams else []
    everything = any(server.name == ALL_ON for server in present)
    figures["workers"] = workers(options, directory) if everything else {"absent": "not asked for"}
    if arguments.peers:
        others = [server for server in holding if "http" in server.wires]
        installed = Installed.told(arguments.litellm, arguments.portkey)
        figures["peers"] = measured_peers(others, installed, options, directory)
    return figures


def main() -> int:
    """The command line."""
    arguments = parser().parse_args()
    if sys.platform != "linux":
        print("bench: needs Linux: CPU and memory of other processes are read from /proc.", file=sys.stderr)
        return 2
    unknown = set(arguments.only or ()) - {server.name for server in SERVERS}
    if unknown:
        print(f"bench: there is no server {sorted(unknown)[0]!r}; see --help.", file=sys.stderr)
        return 2
    interrupted_by_sigterm()
    asked = [server for server in SERVERS if not arguments.only or server.name in arguments.only]
    try:
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as directory:
            figures = measured(asked, arguments, Path(directory))
    except KeyboardInterrupt:
        return 130
    except DidNotStart as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    figures["goals"] = list(verdicts(figures))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    drawing = arguments.json.with_suffix(".svg")
    drawing.write_text(chart(figures))
    print(report(figures))
    print(f"\nWritten to {arguments.json} and {drawing}.")
    beside = [*figures["open_streams"], figures["workers"]]
    return 1 if figures["failed"] or any(row.get("flaw") for row in beside) else 0


if __name__ == "__main__":
    sys.exit(main())
