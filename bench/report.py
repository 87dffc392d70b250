"""What a run says: figures of each row, ratios taken round by round, as a table and as JSON."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.answers import EVENT_COUNT
from bench.load import Outcome
from bench.run import SCENARIOS, Measurements, Options, Scenario
from bench.servers import ENVOY, FLOOR

Figures = dict[str, Any]
MICRO = 1e6
MILLI = 1e3
MEBIBYTE = 1024 * 1024

# What a scenario is compared to: Envoy does the same over REST whatever the wire of the row is.
_ENVOY_SCENARIO = {
    "REST unary": "REST unary",
    "REST stream, burst": "REST stream, burst",
    "REST stream, apart": "REST stream, apart",
    "gRPC unary": "REST unary",
    "gRPC stream, burst": "REST stream, burst",
    "REST unary, fixed rate": "REST unary, fixed rate",
    "gRPC unary, fixed rate": "REST unary, fixed rate",
}
_UNARY_SCENARIO = {
    "REST stream, burst": "REST unary",
    "REST stream, apart": "REST unary",
    "gRPC stream, burst": "gRPC unary",
}

_CPU_HEAD = [
    *("scenario", "server", "µs/request", "to Envoy", "to floor", "µs/event"),
    *("requests/s", "busy", "mock µs", "load µs", "MiB"),
]
_LATENCY_HEAD = ["scenario", "server", "p50", "p95", "p99", "added p50", "added p99", "µs/request", "to Envoy"]
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def spread(values: Sequence[float]) -> Figures:
    """Median, lowest and highest of what the rounds measured, and the values themselves."""
    rounded = [round(value, 4) for value in values]
    median = round(statistics.median(values), 4)
    return {"median": median, "lowest": min(rounded), "highest": max(rounded), "rounds": rounded}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value of sorted values that a share of them does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(found: Measurements, options: Options, skipped: dict[str, str]) -> Figures:
    """Everything a run measured, ready for JSON. Times in microseconds, latencies in milliseconds, memory in MiB."""
    return {
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": len(os.sched_getaffinity(0)),
        },
        "options": asdict(options),
        "rows": [
            _row(scenario, server, found)
            for scenario in SCENARIOS
            for name, server in found.outcomes
            if name == scenario.name
        ],
        "start_seconds": {name: round(seconds, 3) for name, seconds in found.start_seconds.items()},
        "failed": [{"scenario": name, "server": server, "flaw": flaw} for (name, server), flaw in found.flaws.items()],
        "skipped": [{"server": server, "reason": reason} for server, reason in skipped.items()],
    }


def _cpu(outcomes: Sequence[Outcome]) -> list[float]:
    return [one.server_cpu / one.requests * MICRO for one in outcomes]


def _row(scenario: Scenario, server: str, found: Measurements) -> Figures:
    outcomes = found.outcomes[scenario.name, server]
    row: Figures = {
        "scenario": scenario.name,
        "server": server,
        "requests": sum(one.requests for one in outcomes),
        "cpu_us_per_request": spread(_cpu(outcomes)),
        "mock_cpu_us_per_request": spread([one.mock_cpu / one.requests * MICRO for one in outcomes]),
        "load_cpu_us_per_request": spread([one.load_cpu / one.requests * MICRO for one in outcomes]),
        "requests_per_second": spread([one.requests / one.seconds for one in outcomes]),
        "server_busy_share": spread([one.server_cpu / one.seconds for one in outcomes]),
        "server_mib": round(max(one.server_bytes for one in outcomes) / MEBIBYTE, 1),
    }
    if scenario.fixed_rate:
        latencies = sorted(latency * MILLI for one in outcomes for latency in one.latencies)
        row["latency_ms"] = {name: round(percentile(latencies, share), 4) for name, share in _SHARES.items()}
    return row | _comparisons(scenario, server, found)


def _comparisons(scenario: Scenario, server: str, found: Measurements) -> Figures:
    """Ratios and differences, each within one round."""
    own = _cpu(found.outcomes[scenario.name, server])
    figures: Figures = {}
    for name, reference in (
        ("ratio_to_envoy", (_ENVOY_SCENARIO[scenario.name], ENVOY)),
        ("ratio_to_floor", (scenario.name, FLOOR)),
    ):
        if reference in found.outcomes:
            others = _cpu(found.outcomes[reference])
            figures[name] = spread([cpu / other for cpu, other in zip(own, others, strict=True)])
    unary = (_UNARY_SCENARIO.get(scenario.name, ""), server)
    if unary in found.outcomes:
        beyond = [(cpu - other) / EVENT_COUNT for cpu, other in zip(own, _cpu(found.outcomes[unary]), strict=True)]
        figures["cpu_us_per_event"] = spread(beyond)
    return figures


def table(figures: Figures) -> str:
    """The report as text."""
    closed = [row for row in figures["rows"] if not row["scenario"].endswith("fixed rate")]
    fixed = [row for row in figures["rows"] if row["scenario"].endswith("fixed rate")]
    options, machine = figures["options"], figures["machine"]
    pinned = "server on one core, load and mock upstream on another" if machine["cores"] > 1 else "one core for all"
    lines = [
        f"Headgate benchmark: {options['rounds']} rounds, {options['connections']} callers, {pinned}; "
        f"Python {machine['python']}.",
        "CPU of the server in microseconds, median of the rounds; ratios round by round, median (lowest-highest).",
        "",
        *_aligned(
            _CPU_HEAD,
            [_cpu_cells(row) for row in closed],
        ),
        "",
        f"At {options['rate']:g} requests/s: latency in milliseconds (added: over direct), CPU as above.",
        "",
        *_aligned(
            _LATENCY_HEAD,
            [_latency_cells(row, fixed) for row in fixed],
        ),
        "",
        "From start to first answer, in seconds: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in figures["start_seconds"].items()),
    ]
    lines += [f"skipped {one['server']}: {one['reason']}" for one in figures["skipped"]]
    lines += [f"FAILED {one['server']}, {one['scenario']}: {one['flaw']}" for one in figures["failed"]]
    return "\n".join(lines)


def _ratio(row: Figures, name: str) -> str:
    ratio = row.get(name)
    return f"{ratio['median']:.2f} ({ratio['lowest']:.2f}-{ratio['highest']:.2f})" if ratio else ""


def _cpu_cells(row: Figures) -> list[str]:
    return [
        row["scenario"],
        row["server"],
        f"{row['cpu_us_per_request']['median']:.1f}",
        _ratio(row, "ratio_to_envoy"),
        _ratio(row, "ratio_to_floor"),
        f"{row['cpu_us_per_event']['median']:.2f}" if "cpu_us_per_event" in row else "",
        f"{row['requests_per_second']['median']:.0f}",
        f"{row['server_busy_share']['median']:.0%}",
        f"{row['mock_cpu_us_per_request']['median']:.1f}",
        f"{row['load_cpu_us_per_request']['median']:.1f}",
        f"{row['server_mib']:.0f}",
    ]


def _latency_cells(row: Figures, rows: list[Figures]) -> list[str]:
    latency = row["latency_ms"]
    direct = next((one["latency_ms"] for one in rows if one["server"] == "direct"), None)
    added = ["", ""]
    if direct is not None and row["scenario"].startswith("REST"):
        added = [f"{latency[name] - direct[name]:.3f}" for name in ("p50", "p99")]
    return [
        row["scenario"],
        row["server"],
        *(f"{latency[name]:.3f}" for name in ("p50", "p95", "p99")),
        *added,
        f"{row['cpu_us_per_request']['median']:.1f}",
        _ratio(row, "ratio_to_envoy"),
    ]


def _aligned(head: list[str], rows: list[list[str]]) -> list[str]:
    """Text columns, the first two to the left and the numbers to the right."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
