"""The command `python -m bench.markdown [FILE]`: a run's JSON as the tables of docs/performance.md."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.figures import Figures
from bench.process import ROOT
from bench.table import range_text


def pages(figures: Figures) -> Iterator[str]:
    """The lines: goals, ratios by callers, memory, peers."""
    machine, options = figures["machine"], figures["options"]
    quiet = figures["other_programs_cores"]["median"]
    yield (
        f"{options['rounds']} rounds on {machine['cores']} cores, Python {machine['python']}, {machine['system']}; "
        f"other programs took {quiet:.2f} cores."
    )
    yield ""
    goals = [[one["path"], one["goal"], _told(one["measured"]), one["verdict"]] for one in figures["goals"]]
    yield from _lines(["path", "goal", "measured", ""], goals)
    yield ""
    yield from _lines(*_by_callers(figures))
    if figures["open_streams"]:
        yield ""
        head = ["server", "wire", "streams", "whole", "KiB a stream"]
        names = ("server", "wire", "streams", "whole", "kib_per_stream")
        held = [row for row in figures["open_streams"] if row.get("streams")]
        yield from _lines(head, [[str(row[name]) for name in names] for row in held])
    if figures.get("peers"):
        yield ""
        yield from _lines(["scenario", "server", "µs/request", "to Envoy"], _costs(figures["peers"]["rows"]))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |".replace("|  |", "| |")
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |".replace("|  |", "| |")


def _told(measured: Figures | float | None) -> str:
    if isinstance(measured, dict):
        return range_text(measured)
    return "" if measured is None else f"{measured:g}"


def _costs(rows: Sequence[Figures]) -> list[list[str]]:
    return [
        [
            row["scenario"],
            row["server"],
            f"{row['cpu_us_per_request']['median']:.1f}",
            range_text(row.get("ratio_to_envoy")),
        ]
        for row in rows
    ]


def _by_callers(figures: Figures) -> tuple[list[str], list[list[str]]]:
    """µs/request and the ratio to Envoy, or over gRPC to the floor, by the number of callers."""
    cells: dict[tuple[str, str], dict[int, str]] = {}
    for row in figures["rows"]:
        ratio = row.get("ratio_to_floor") or row.get("ratio_to_envoy")
        text = f"{row['cpu_us_per_request']['median']:.1f}" + (f" ({ratio['median']:.2f})" if ratio else "")
        cells.setdefault((row["scenario"], row["server"]), {})[row["connections"]] = text
    connections = figures["options"]["connections"]
    head = ["scenario", "server", *(f"{count} callers" for count in connections)]
    return head, [[*names, *(found.get(count, "") for count in connections)] for names, found in cells.items()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.markdown", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "build" / "bench.json")
    print("\n".join(pages(json.loads(parser.parse_args().file.read_text()))))


if __name__ == "__main__":
    main()
