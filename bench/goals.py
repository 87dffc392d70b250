"""The goals, and whether the row with everything on meets them in this run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.figures import Figures
from bench.headgate import ALL_ON
from bench.scenario import (
    APART,
    BURST,
    GRPC_BURST,
    GRPC_ONE_WRITE,
    GRPC_UNARY,
    ONE_WRITE,
    UNARY,
    UNARY_AT_RATE,
    Scenario,
)
from bench.table import aligned, range_text

GOAL_STREAMS = 10_000


@dataclass(frozen=True)
class Goal:
    """One number that is to be reached."""

    path: str
    limit: float
    unit: str
    measured: Callable[[Figures], Figures | float | None]
    """In a run's figures: a spread, a number, or None where it was not measured."""
    at_least: bool = False
    """Whether more is better."""
    scenario: str = ""
    """Of the rows that it is about, where it is about such."""


def _row(figures: Figures, scenario: str) -> Figures:
    usual = figures["options"]["usual_connections"]
    return next(
        (
            row
            for row in figures["rows"]
            if (row["scenario"], row["server"], row["connections"]) == (scenario, ALL_ON, usual)
        ),
        {},
    )


def _cost(path: str, limit: float, unit: str, name: str, scenario: Scenario) -> Goal:
    """A goal of what a scenario costs."""

    return Goal(path, limit, unit, lambda figures: _row(figures, scenario.name).get(name), scenario=scenario.name)


def _added(share: str) -> Callable[[Figures], Figures | None]:
    return lambda figures: _row(figures, UNARY_AT_RATE.name).get("added_ms", {}).get(share)


def _memory(wire: str) -> Callable[[Figures], float | None]:
    return lambda figures: _streams(figures, wire).get("kib_per_stream")


def _whole(wire: str) -> Callable[[Figures], float | None]:
    # Who asked for fewer learns nothing of as many.
    asked = "open_streams"
    return lambda figures: _streams(figures, wire).get("whole") if figures["options"][asked] >= GOAL_STREAMS else None


def _workers(figures: Figures) -> Figures | None:
    found: Figures | None = figures["workers"].get("ratio")
    return found


def _streams(figures: Figures, wire: str) -> Figures:
    rows = figures["open_streams"]
    return next((row for row in rows if (row["server"], row["wire"]) == (ALL_ON, wire)), {})


GOALS = (
    _cost("REST unary", 2.2, "of Envoy", "ratio_to_envoy", UNARY),
    _cost("REST stream, 34 events in a burst", 2.2, "of Envoy", "ratio_to_envoy", BURST),
    _cost("REST stream, 34 events in one write", 2.2, "of Envoy", "ratio_to_envoy", ONE_WRITE),
    _cost("REST stream, events apart", 22, "µs an event", "cpu_us_per_event", APART),
    _cost("gRPC unary", 1.5, "of an empty method", "ratio_to_floor", GRPC_UNARY),
    _cost("gRPC stream, 34 events in a burst", 0.5, "of 34 empty messages", "ratio_to_floor", GRPC_BURST),
    _cost("gRPC stream, 34 events in one write", 0.5, "of 34 empty messages", "ratio_to_floor", GRPC_ONE_WRITE),
    Goal("added latency at the fixed rate, p50", 0.35, "ms", _added("p50")),
    Goal("added latency at the fixed rate, p99", 1, "ms", _added("p99")),
    Goal("memory of an idle open stream, REST", 40, "KiB", _memory("REST")),
    Goal("memory of an idle open stream, gRPC", 40, "KiB", _memory("gRPC")),
    Goal("open streams on one process, REST", GOAL_STREAMS, "whole", _whole("REST"), at_least=True),
    Goal("open streams on one process, gRPC", GOAL_STREAMS, "whole", _whole("gRPC"), at_least=True),
    Goal("throughput on 2 workers", 1.85, "of one worker", _workers, at_least=True),
    Goal("start to first answer", 1.2, "s", lambda figures: figures["start_seconds"].get(ALL_ON)),
)


def verdicts(figures: Figures) -> Iterator[Figures]:
    """Each goal with what was measured: met, missed by how much, or not measured."""
    for goal in GOALS:
        found = goal.measured(figures)
        middle = found["median"] if isinstance(found, dict) else found
        bound = "at least" if goal.at_least else "at most"
        yield {
            "path": goal.path,
            "goal": f"{bound} {goal.limit:g} {goal.unit}",
            "limit": goal.limit,
            "measured": found,
            "verdict": "not measured" if middle is None else verdict(goal, middle),
        }


def verdict(goal: Goal, measured: float) -> str:
    """Met, or missed by how many times."""
    if measured >= goal.limit if goal.at_least else measured <= goal.limit:
        return "met"
    factor = goal.limit / measured if goal.at_least else measured / goal.limit
    return f"missed: {factor:.2f} times too {'little' if goal.at_least else 'much'}"


def goal_table(found: Sequence[Figures]) -> list[str]:
    """The verdicts as text."""
    lines = []
    for goal, one in zip(GOALS, found, strict=True):
        measured = one["measured"]
        lines.append([goal.path, one["goal"], _text(measured), one["verdict"]])
    return aligned(["path", "goal", "measured", ""], lines, texts=4)


def _text(measured: Figures | float | None) -> str:
    if isinstance(measured, dict):
        return range_text(measured)
    return "" if measured is None else f"{measured:g}"
