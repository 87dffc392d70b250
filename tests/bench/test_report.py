"""What a run says of what it measured: ratios round by round, goals, the chart."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from bench.chart import LEFT, WIDTH, chart, ticks
from bench.envoy import ENVOY
from bench.figures import figures_of, percentile, spread
from bench.goals import GOALS, verdict, verdicts
from bench.headgate import ALL_ON
from bench.load import Outcome
from bench.report import report
from bench.run import Measurements
from bench.scenario import APART, BURST, GRPC_UNARY, UNARY, UNARY_AT_RATE, Measure, Options
from bench.servers import DIRECT, FLOOR
from bench.workers import Pair, figures_of_pairs


def outcome(cpu_us: float, latencies: tuple[float, ...] = ()) -> Outcome:
    return Outcome(
        requests=100,
        seconds=1,
        server_cpu=cpu_us / 1e6 * 100,
        mock_cpu=0.001,
        load_cpu=0.001,
        machine_cpu=cpu_us / 1e6 * 100 + 0.002,
        server_bytes=50 * 2**20,
        latencies=list(latencies),
    )


def measured() -> Measurements:
    """Two rounds; Envoy is twice as fast in the second."""
    found = Measurements(start_seconds={ALL_ON: 0.9})
    rows = {
        (UNARY.name, ENVOY, 1): (100, 50),
        (UNARY.name, ALL_ON, 1): (300, 200),
        (UNARY.name, ENVOY, 16): (40, 20),
        (UNARY.name, ALL_ON, 16): (80, 60),
        (BURST.name, ENVOY, 16): (100, 100),
        (BURST.name, ALL_ON, 16): (420, 400),
        (APART.name, ENVOY, 16): (340, 340),
        (APART.name, ALL_ON, 16): (80 + 34 * 30, 60 + 34 * 20),
        (GRPC_UNARY.name, ALL_ON, 16): (120, 120),
        (GRPC_UNARY.name, FLOOR, 16): (100, 80),
    }
    for (scenario, server, connections), costs in rows.items():
        found.outcomes[Measure(scenario, server, connections)] = [outcome(cost) for cost in costs]
    found.outcomes[Measure(UNARY_AT_RATE.name, DIRECT, 16)] = [outcome(5, (0.001, 0.001)), outcome(5, (0.002, 0.002))]
    found.outcomes[Measure(UNARY_AT_RATE.name, ALL_ON, 16)] = [outcome(9, (0.0012, 0.003)), outcome(9, (0.0024, 0.003))]
    return found


def complete_figures(**more: Any) -> dict[str, Any]:
    figures = figures_of(measured(), Options(rounds=2, connections=(1, 16)), {"grpc": "not here"})
    figures |= {"open_streams": [], "workers": {"absent": "not there"}} | more
    figures["goals"] = list(verdicts(figures))
    return figures


def row(figures: dict[str, Any], scenario: str, server: str, connections: int = 16) -> dict[str, Any]:
    return next(
        one
        for one in figures["rows"]
        if (one["scenario"], one["server"], one["connections"]) == (scenario, server, connections)
    )


def test_a_ratio_is_taken_within_a_round_and_at_as_many_callers() -> None:
    figures = complete_figures()
    assert row(figures, UNARY.name, ALL_ON, 1)["ratio_to_envoy"]["rounds"] == [3, 4]
    assert row(figures, UNARY.name, ALL_ON, 16)["ratio_to_envoy"] == {
        "median": 2.5,
        "lowest": 2,
        "highest": 3,
        "rounds": [2, 3],
    }
    # gRPC: over Envoy's REST, and over the floor's own.
    grpc = row(figures, GRPC_UNARY.name, ALL_ON)
    assert grpc["ratio_to_envoy"]["rounds"] == [3, 6]
    assert grpc["ratio_to_floor"]["rounds"] == [1.2, 1.5]


def test_an_event_costs_what_a_stream_costs_beyond_a_unary_answer() -> None:
    assert row(complete_figures(), APART.name, ALL_ON)["cpu_us_per_event"]["rounds"] == [30, 20]


def test_added_latency_is_that_of_the_same_round() -> None:
    added = row(complete_figures(), UNARY_AT_RATE.name, ALL_ON)["added_ms"]
    assert added["p99"]["rounds"] == [2, 1]


def test_percentiles_are_of_the_values_in_their_order() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (51, 100, 7)
    assert spread([3, 1, 2])["median"] == 2


def test_the_report_tells_every_row_every_number_of_callers_and_every_goal() -> None:
    said = report(complete_figures())
    for text in (ALL_ON, ENVOY, "16 callers", "REST stream, apart", "skipped grpc: not here", "Two workers: not there"):
        assert text in said
    assert re.search(r"REST unary +headgate, all on +250\.0 \(3\.50\) +70\.0 \(2\.50\)", said)
    assert re.search(r"REST unary +at most 2\.2 of Envoy +2\.50 \(2\.00-3\.00\) +missed: 1\.14 times too much", said)
    assert re.search(r"gRPC unary +at most 1\.5 of an empty method +1\.35 \(1\.20-1\.50\) +met", said)
    assert re.search(r"gRPC stream, 34 events in a burst .* not measured", said)


def test_a_machine_that_others_use_meanwhile_is_told_of() -> None:
    figures = complete_figures()
    assert "not quiet" not in report(figures)
    figures["other_programs_cores"] = spread([0.4, 0.6])
    assert "Other programs took 0.50 (0.40-0.60) cores" in report(figures)
    assert "not quiet" in report(figures)


def test_memory_and_whole_streams_are_held_to_their_goals() -> None:
    streams = {"server": ALL_ON, "wire": "REST", "streams": 9900, "whole": 9900, "kib_per_stream": 44.0, "flaw": None}
    shown = dict.fromkeys(("mib_before", "mib_open", "mib_after", "open_seconds", "finish_seconds"), 1.0)
    figures = complete_figures(open_streams=[streams | shown | {"limited_by": "the hard limit of open files (20000)"}])
    said = report(figures)
    assert "no more than 9900, for the hard limit of open files (20000)" in said
    assert re.search(r"idle open stream, REST +at most 40 KiB +44 +missed: 1\.10 times too much", said)
    # Who asked for 2,000 learns nothing of 10,000.
    assert re.search(r"open streams on one process, REST +at least 10000 whole +not measured", said)
    figures["options"]["open_streams"] = 10_000
    figures["goals"] = list(verdicts(figures))
    assert re.search(r"REST +at least 10000 whole +9900 +missed: 1\.01 times too little", report(figures))


def test_what_meets_a_goal_exactly_has_met_it() -> None:
    most = next(goal for goal in GOALS if goal.path == "REST unary")
    least = next(goal for goal in GOALS if goal.at_least)
    assert verdict(most, 2.2) == "met"
    assert verdict(most, 4.4) == "missed: 2.00 times too much"
    assert verdict(least, least.limit) == "met"
    assert verdict(least, least.limit / 2) == "missed: 2.00 times too little"


def workers_pair(requests: int, idle: float = 0) -> Pair:
    """One worker takes 250 µs, two take 260 µs each; mock and load 40 µs; the machine has two cores."""
    one = Outcome(requests=4000, seconds=1, server_cpu=1.0, mock_cpu=0.08, load_cpu=0.08)
    used = requests * 260e-6, requests * 20e-6
    two = Outcome(
        requests=requests,
        seconds=sum(used) / 2 + used[1] / 2 + idle,
        server_cpu=used[0],
        mock_cpu=used[1],
        load_cpu=used[1],
    )
    return Pair(one, two, 0.5, shared=True)


def test_what_load_and_mock_take_from_two_workers_is_given_back() -> None:
    # Both cores are always busy: (260 + 40) µs a request. With whole cores it were 2 / 260 µs, over 1 / 250 µs.
    pair = workers_pair(10_000)
    assert pair.ratio == pytest.approx(2 * 250 / 260)
    assert pair.cpu_ratio == pytest.approx(260 / 250)
    assert figures_of_pairs([pair])["idle_cores"]["median"] == pytest.approx(0, abs=1e-9)


def test_cores_that_two_workers_leave_idle_count_against_them() -> None:
    assert workers_pair(10_000, idle=0.5).ratio < 1.5


def test_workers_with_cores_of_their_own_are_given_nothing() -> None:
    one = Outcome(requests=4000, seconds=1, server_cpu=1.0)
    two = Outcome(requests=7600, seconds=1, server_cpu=2.0, mock_cpu=0.5, load_cpu=0.5)
    assert Pair(one, two, 0.5, shared=False).ratio == pytest.approx(1.9)


def test_the_chart_is_svg_whose_bars_stay_on_the_page() -> None:
    peer = {"scenario": UNARY.name, "server": "LiteLLM", "connections": 16, "peer": True}
    peer |= {"ratio_to_envoy": spread([260]), "cpu_us_per_request": spread([9000])}
    drawn = chart(complete_figures(peers={"rows": [peer]}))
    root = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in root.iter(f"{space}rect") if bar.get("class", "").startswith("bar")]
    texts = [text.text or "" for text in root.iter(f"{space}text")]
    # Envoy itself has no bar, and what is measured at another number of callers has none.
    assert len(bars) == 5 + 1
    assert all(LEFT + float(bar.get("width", "nan")) <= WIDTH for bar in bars)
    assert "260.00 (9000 µs), cut off" in texts
    assert "2.50 (70 µs)" in texts
    assert "goal 2.2" in texts
    assert "prefers-color-scheme: dark" in drawn


def test_the_bar_of_a_ratio_begins_at_nothing_and_is_as_long_as_the_ratio() -> None:
    root = ElementTree.fromstring(chart(complete_figures()))
    widths = [float(bar.get("width", "nan")) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
    # REST unary 2.5, burst 4.1, gRPC 4.5.
    assert widths[1] / widths[0] == pytest.approx(4.1 / 2.5, abs=0.01)


@pytest.mark.parametrize("end", [0.4, 1.2, 7.9, 26.2, 400, 20_000])
def test_ticks_are_few_and_one_of_them_is_envoy(end: float) -> None:
    marks = ticks(end)
    assert 1 in marks
    assert len(marks) <= 9
