"""The command `python -m bench`: measures, prints a table, writes JSON; exit status 1 where an answer was wrong."""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from bench.figures import Figures, figures_of
from bench.memory import memory
from bench.process import ROOT, DidNotStart
from bench.report import report
from bench.run import measurements
from bench.scenario import QUICK, Options
from bench.servers import SERVERS


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


def leave(_number: int, _frame: FrameType | None) -> None:
    """Ends the run on SIGTERM as Ctrl-C does, so that everything that was started is ended."""
    raise KeyboardInterrupt


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
    signal.signal(signal.SIGTERM, leave)
    asked = [server for server in SERVERS if not arguments.only or server.name in arguments.only]
    skipped = {server.name: reason for server in asked if (reason := server.absence()) is not None}
    options = options_of(arguments)
    held: list[Figures] = []
    try:
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as directory:
            present = [server for server in asked if server.name not in skipped]
            found = measurements(present, options, Path(directory))
            if options.open_streams:
                holding = [server for server in present if server.everywhere and server.wires & {"http", "chat"}]
                held = list(memory(holding, options, Path(directory)))
    except KeyboardInterrupt:
        return 130
    except DidNotStart as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    figures = figures_of(found, options, skipped) | {"open_streams": held}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(report(figures))
    return 1 if figures["failed"] or any(row["flaw"] for row in held) else 0


if __name__ == "__main__":
    sys.exit(main())
