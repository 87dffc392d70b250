"""The chart of a run, as SVG: bars of the ratio to Envoy for each scenario, with whiskers from round to round.

It reads on light and on dark: its colours follow the reader's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.envoy import ENVOY
from bench.figures import Figures
from bench.goals import GOALS

WIDTH = 880
LEFT = 250
RIGHT = 190
BAR = 14
STEP = 20
GROUP = 34
TOP = 70
_MOST_TICKS = 8

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .group { font-weight: 600; }
  .quiet { fill: #656d76; }
  .back { fill: #ffffff; }
  .bar0 { fill: #6e7781; } .bar1 { fill: #9ec5f4; } .bar2 { fill: #5a9be0; } .bar3 { fill: #1f6feb; }
  .bar4 { fill: #d4a72c; } .bar5 { fill: #bc6c25; } .bar6 { fill: #8250df; }
  .line { stroke: #d0d7de; } .one { stroke: #656d76; } .whisker { stroke: #1f2328; stroke-width: 1.5; }
  .goal { stroke: #1a7f37; stroke-width: 2; stroke-dasharray: 3 2; } .met { fill: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #8d96a0; } .back { fill: #0d1117; }
    .bar0 { fill: #8b949e; } .bar1 { fill: #24487a; } .bar2 { fill: #2f6fc0; } .bar3 { fill: #58a6ff; }
    .line { stroke: #30363d; } .one { stroke: #8d96a0; } .whisker { stroke: #e6edf3; }
    .goal { stroke: #3fb950; } .met { fill: #3fb950; }
  }
"""


@dataclass(frozen=True)
class Scale:
    """From a ratio to a place on the page; what is beyond the end is cut off there."""

    end: float

    def x(self, ratio: float) -> float:
        """The place of a ratio, in units of the page."""
        return LEFT + min(ratio, self.end) / self.end * (WIDTH - LEFT - RIGHT)


def chart(figures: Figures) -> str:
    """The chart of a run's figures at the usual number of callers; peers, whose bars would dwarf all, are cut off."""
    usual = figures["options"]["usual_connections"]
    own = [row for row in figures["rows"] if _has_bar(row) and row["connections"] == usual]
    peers = [row for row in (figures.get("peers") or {}).get("rows", []) if _has_bar(row) and row["peer"]]
    rows = [*own, *peers]
    servers = list(dict.fromkeys(row["server"] for row in rows))
    scale = Scale(1.05 * max((row["ratio_to_envoy"]["highest"] for row in own), default=1.0))
    told = f"median of {figures['options']['rounds']} rounds, whiskers from the lowest to the highest"
    body: list[str] = []
    y = TOP
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        body.append(_text(16, y + 12, scenario, "group"))
        y += STEP
        begun = y
        for row in rows:
            if row["scenario"] == scenario:
                body.extend(_bar(row, servers.index(row["server"]), y, scale))
                y += STEP
        body.extend(_goal(scenario, begun, y, scale))
        y += GROUP - STEP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 30}" width="{WIDTH}" role="img">',
            f"<title>CPU per request over Envoy's</title><style>{_STYLE}</style>",
            f'<rect class="back" width="{WIDTH}" height="{y + 30}"/>',
            _text(16, 26, "CPU per request, as a ratio to a plain Envoy in the same run", "title"),
            _text(16, 46, f"{usual} callers; {told}; shorter is cheaper", "quiet"),
            *_ticks(scale, y),
            *body,
            "</svg>\n",
        ]
    )


def _has_bar(row: Figures) -> bool:
    return "ratio_to_envoy" in row and "latency_ms" not in row and row["server"] != ENVOY


def _text(x: float, y: float, text: str, name: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{name}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _bar(row: Figures, place: int, y: float, scale: Scale) -> Iterator[str]:
    ratio = row["ratio_to_envoy"]
    low, middle, high = (scale.x(ratio[name]) for name in ("lowest", "median", "highest"))
    yield _text(LEFT - 8, y + 11, row["server"], anchor="end")
    yield f'<rect class="bar{place % 7}" x="{LEFT}" y="{y}" width="{middle - LEFT:.1f}" height="{BAR}" rx="2"/>'
    if ratio["lowest"] < scale.end:
        yield _line(low, y + BAR / 2, high, y + BAR / 2, "whisker")
        for end in (low, high):
            yield _line(end, y + 3, end, y + BAR - 3, "whisker")
    cut = ", cut off" if ratio["median"] > scale.end else ""
    yield _text(high + 6, y + 11, f"{ratio['median']:.2f} ({row['cpu_us_per_request']['median']:.0f} µs){cut}")


def _goal(scenario: str, begun: float, end: float, scale: Scale) -> Iterator[str]:
    limits = [goal.limit for goal in GOALS if goal.scenario == scenario and goal.unit == "of Envoy"]
    for limit in limits:
        if limit <= scale.end:
            yield _line(scale.x(limit), begun - 4, scale.x(limit), end - 4, "goal")
            yield _text(scale.x(limit), begun - 7, f"goal {limit:g}", "met", "middle")


def _ticks(scale: Scale, bottom: float) -> Iterator[str]:
    for ratio in ticks(scale.end):
        name = "one" if ratio == 1 else "line"
        yield _line(scale.x(ratio), TOP - 8, scale.x(ratio), bottom, name)
        yield _text(scale.x(ratio), bottom + 16, "Envoy" if ratio == 1 else f"{ratio:g}", "quiet", "middle")


def ticks(end: float) -> Sequence[float]:
    """Round ratios up to the end, a few of them, with Envoy's own among them."""
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100, 1e9) if end / step <= _MOST_TICKS)
    marks = {place * step for place in range(1, int(end / step) + 1)} | {1.0}
    return sorted(mark for mark in marks if mark == 1 or abs(mark - 1) >= step / 2)
