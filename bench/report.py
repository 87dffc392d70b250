"""What a run says, as text."""

from collections.abc import Sequence

from bench.figures import Figures
from bench.table import callers_table, cpu_table, latency_table, memory_table


def report(figures: Figures) -> str:
    """Every table of a run."""
    options, cores = figures["options"], figures["machine"]["cores"]
    usual = options["usual_connections"]
    pinned = "server on one core, load and mock upstream on another" if cores > 1 else "one core for all"
    lines = [
        f"Headgate benchmark: {options['rounds']} rounds, {pinned}; Python {figures['machine']['python']}.",
        f"CPU of the server in microseconds at {usual} callers, median of the rounds; "
        "ratios round by round, median (lowest-highest).",
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
