"""What a run says, as text."""

from collections.abc import Sequence

from bench.figures import Figures
from bench.goals import goal_table
from bench.headgate import ALL_ON
from bench.table import callers_table, cpu_table, latency_table, memory_table, range_text

QUIET_CORES = 0.1
"""What may be used beside by others, in the middle of the phases, before the report says so."""


def report(figures: Figures) -> str:
    """Every table of a run."""
    options, cores = figures["options"], figures["machine"]["cores"]
    usual = options["usual_connections"]
    noisy = figures["other_programs_cores"]["median"] > QUIET_CORES
    pinned = "server on one core, load and mock upstream on another" if cores > 1 else "one core for all"
    lines = [
        f"Headgate benchmark: {options['rounds']} rounds, {pinned}; Python {figures['machine']['python']}.",
        f"CPU of the server in microseconds at {usual} callers, median of the rounds; "
        "ratios round by round, median (lowest-highest).",
        f"Other programs took {range_text(figures['other_programs_cores'])} cores of the machine meanwhile"
        + (": it was not quiet, the numbers waver." if noisy else "."),
        "",
        *cpu_table([row for row in figures["rows"] if row["connections"] == usual]),
        "",
        "By the number of callers: µs/request (ratio to Envoy; of gRPC to the floor).",
        "",
        *callers_table(figures["rows"], options["connections"]),
        "",
        f"At {options['rate']:g} requests/s: latency in milliseconds (added: over direct, round by round), and CPU.",
        "",
        *latency_table(figures["rows"]),
        "",
        "From start to first answer, in seconds: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in figures["start_seconds"].items()),
    ]
    lines += _memory(figures.get("open_streams", []))
    lines += _workers(figures["workers"])
    lines += _peers(figures.get("peers"))
    if any(one["measured"] is not None for one in figures["goals"]):
        lines += ["", f'The goals, for "{ALL_ON}" at {usual} callers:', "", *goal_table(figures["goals"]), ""]
    lines += [f"skipped {one['server']}: {one['reason']}" for one in figures["skipped"]]
    lines += [
        f"FAILED {one['server']}, {one['scenario']}, {one['connections']} callers: {one['flaw']}"
        for one in figures["failed"]
    ]
    return "\n".join(lines)


def _memory(rows: Sequence[Figures]) -> list[str]:
    if not rows:
        return []
    lines = ["", "Streams that have begun and then idle; resident memory of the server's process:", ""]
    lines += memory_table(rows)
    for row in rows:
        if row.get("limited_by"):
            lines.append(f"{row['server']}, {row['wire']}: no more than {row['streams']}, for {row['limited_by']}")
        if row["flaw"]:
            lines.append(f"FAILED {row['server']}, {row['wire']}, open streams: {row['flaw']}")
    return lines


def _workers(figures: Figures) -> list[str]:
    if "ratio" not in figures:
        return ["", f"Two workers: {figures.get('absent') or 'FAILED ' + figures['flaw']}"]
    others = "sharing those cores" if figures["shared_cores"] else "on others"
    rates, costs = figures["requests_per_second"], figures["cpu_us_per_request"]
    told = "; ".join(f"{name} {rates[name]['median']:.0f}/s, {costs[name]['median']:.1f} µs/request" for name in rates)
    left, idle = figures["left_cores"]["median"], figures["idle_cores"]["median"]
    return [
        "",
        f"Two workers on two cores, load and mock {others}, over one on one; REST unary, {figures['callers']} callers:",
        f"throughput {range_text(figures['ratio'])} of one worker's, with {left:.2f} cores left, {idle:.2f} not used "
        f"(other programs took {figures['other_programs_cores']['median']:.2f});",
        f"CPU per request {range_text(figures['cpu_ratio'])} of one worker's; "
        f"the busier worker did {figures['busiest_share']['median']:.0%}; {told}",
    ]


def _peers(figures: Figures | None) -> list[str]:
    if figures is None:
        return []
    lines = ["", "Peers, measured apart with the rows that they are compared to:", ""]
    lines += cpu_table(figures["rows"]) if figures["rows"] else []
    lines += [f"{one['server']}: {one['reason']}" for one in figures["skipped"]]
    return lines + [f"{one['server']}, {one['scenario']}: answers wrongly: {one['flaw']}" for one in figures["failed"]]
