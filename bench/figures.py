"""What was measured as figures, ready for JSON: each row with its ratios, which are taken round by round."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.answers import EVENT_COUNT
from bench.envoy import ENVOY
from bench.load import Outcome
from bench.run import Measurements
from bench.scenario import ENVOY_DOES, SCENARIOS, UNARY_OF, Measure, Options
from bench.servers import DIRECT, FLOOR

Figures = dict[str, Any]
MICRO = 1e6
MILLI = 1e3
MEBIBYTE = 1024 * 1024

_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def spread(values: Sequence[float]) -> Figures:
    """Median, lowest and highest of what the rounds measured, and the values themselves."""
    rounded = [round(value, 4) for value in values]
    median = round(statistics.median(values), 4)
    return {"median": median, "lowest": min(rounded), "highest": max(rounded), "rounds": rounded}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value of sorted values that a share of them does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> Figures:
    """Where it was measured."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
    }


def figures_of(found: Measurements, options: Options, skipped: dict[str, str]) -> Figures:
    """What a run measured. Times in microseconds, latencies in milliseconds, memory in MiB."""
    return {
        "machine": machine(),
        "options": asdict(options) | {"usual_connections": options.usual_connections},
        "rows": [
            _row(measure, found)
            for scenario in SCENARIOS
            for measure in found.outcomes
            if measure.scenario == scenario.name
        ],
        "other_programs_cores": spread(_others(found) or [0.0]) | {"rounds": []},
        "start_seconds": {name: round(seconds, 3) for name, seconds in found.start_seconds.items()},
        "failed": [asdict(measure) | {"flaw": flaw} for measure, flaw in found.flaws.items()],
        "skipped": [{"server": server, "reason": reason} for server, reason in skipped.items()],
    }


def _others(found: Measurements) -> list[float]:
    return [one.other_cores for outcomes in found.outcomes.values() for one in outcomes]


def _cpu(outcomes: Sequence[Outcome]) -> list[float]:
    return [one.server_cpu / one.requests * MICRO for one in outcomes]


def _latencies(outcomes: Sequence[Outcome], share: float) -> list[float]:
    return [percentile(sorted(one.latencies), share) * MILLI for one in outcomes]


def _row(measure: Measure, found: Measurements) -> Figures:
    outcomes = found.outcomes[measure]
    row: Figures = {
        **asdict(measure),
        "requests": sum(one.requests for one in outcomes),
        "cpu_us_per_request": spread(_cpu(outcomes)),
        "mock_cpu_us_per_request": spread([one.mock_cpu / one.requests * MICRO for one in outcomes]),
        "load_cpu_us_per_request": spread([one.load_cpu / one.requests * MICRO for one in outcomes]),
        "requests_per_second": spread([one.requests / one.seconds for one in outcomes]),
        "server_busy_share": spread([one.server_cpu / one.seconds for one in outcomes]),
        "server_mib": round(max(one.server_bytes for one in outcomes) / MEBIBYTE, 1),
    }
    if outcomes[0].latencies:
        row["latency_ms"] = {name: spread(_latencies(outcomes, share)) for name, share in _SHARES.items()}
    return row | _comparisons(measure, found)


def _comparisons(measure: Measure, found: Measurements) -> Figures:
    """Ratios and differences, each within one round."""
    outcomes = found.outcomes[measure]
    own = _cpu(outcomes)
    figures: Figures = {}
    for name, reference in (
        ("ratio_to_envoy", measure.of(ENVOY_DOES[measure.scenario], ENVOY)),
        ("ratio_to_floor", measure.of(measure.scenario, FLOOR)),
    ):
        if reference in found.outcomes:
            others = _cpu(found.outcomes[reference])
            figures[name] = spread([cpu / other for cpu, other in zip(own, others, strict=True)])
    unary = measure.of(UNARY_OF.get(measure.scenario, ""))
    if unary in found.outcomes:
        beyond = [(cpu - other) / EVENT_COUNT for cpu, other in zip(own, _cpu(found.outcomes[unary]), strict=True)]
        figures["cpu_us_per_event"] = spread(beyond)
    direct = measure.of(measure.scenario, DIRECT)
    if outcomes[0].latencies and direct in found.outcomes:
        figures["added_ms"] = {
            name: spread(_differences(_latencies(outcomes, share), _latencies(found.outcomes[direct], share)))
            for name, share in _SHARES.items()
        }
    return figures


def _differences(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]
