"""What the configuration says of routing, and what is told of it."""

import math
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway_core.call import Target
from gateway_core.config import Config
from gateway_core.config_file import ConfigError, parse
from gateway_core.errors import ProviderUnauthorized
from gateway_core.routing.board import NAMED_AT_MOST, Board
from gateway_core.telemetry.metrics import Metrics

ROWS = """
providers: {lab: {kind: echo}, spare: {kind: echo}}
models:
  small:
    strategy: cost
    targets:
      - {provider: lab, model: tiny, weight: 0, region: eu, tag: batch, price: {input_per_million: 1, output_per_million: 2}}
      - {provider: spare, model: tiny, max_concurrent_calls: 7, requests_per_minute: 100}
  other:
    targets: [{provider: spare, model: tiny, max_concurrent_calls: 3}]
"""


def board(**clock: Any) -> Board:
    return Board(parse(ROWS, "headgate.yaml", {}), **clock)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("routing: {retries: 3}", "routing.retries"),
        ("routing: {retry_budget: -1}", "routing.retry_budget"),
        ("routing: {circuit: {open_seconds: 26}}", "routing.circuit.open_seconds"),
        ("routing: {circuit: {failure_rate: 0}}", "routing.circuit.failure_rate"),
        ("models: {a: {targets: [{provider: echo, model: a}], strategy: best}}", "models.a.strategy"),
        ("models: {a: {targets: [{provider: echo, model: a}], sticky_by: []}}", "models.a.sticky_by"),
        ("models: {a: {targets: [{provider: echo, model: a}], hold_back_seconds: 61}}", "models.a.hold_back_seconds"),
        ("models: {a: {targets: [{provider: echo, model: a, wait: 1}]}}", "models.a.targets[0].wait"),
        ("models: {a: {targets: [{provider: echo, model: a, weight: -1}]}}", "models.a.targets[0].weight"),
        ("models: {a: {targets: [{provider: echo, model: a, region: 'e u'}]}}", "models.a.targets[0].region"),
    ],
)
def test_what_is_not_known_or_cannot_be_is_refused_by_its_path(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as failed:
        parse(text, "headgate.yaml", {})
    assert path in failed.value.problems[0]


def test_a_place_has_what_its_target_says() -> None:
    route = board().made_route("small", (Target("lab", "tiny"), Target("spare", "tiny")))
    first, second = route.places
    assert (first.choice.weight, first.region, first.tag, first.choice.price) == (0, "eu", "batch", 5)
    assert math.isinf(second.choice.price)
    assert second.state.limits == (3, 100), "where several rows lead there, the lowest counts"
    assert not route.is_plain


def test_a_target_has_one_state_whichever_model_leads_there() -> None:
    kept = board()
    small = kept.made_route("small", (Target("lab", "tiny"), Target("spare", "tiny")))
    other = kept.made_route("other", (Target("spare", "tiny"),))
    direct = kept.made_route("spare/tiny", (Target("spare", "tiny"),))
    assert small.places[1].state is other.state is direct.state
    assert kept.route("small") is small


def test_names_that_callers_make_up_are_not_all_kept() -> None:
    kept = board()
    for number in range(NAMED_AT_MOST + 50):
        kept.made_route(f"lab/{number}", (Target("lab", str(number)),))
    assert kept.route(f"lab/{NAMED_AT_MOST + 10}") is None
    assert [(told.provider, told.model) for told in kept.told()] == [("lab", "tiny"), ("spare", "tiny")]


def test_where_the_first_target_is_the_first_choice_there_is_nothing_to_decide() -> None:
    assert Board(Config()).made_route("echo/echo", (Target("echo", "echo"),)).is_plain
    for row, is_plain in (("", True), ("strategy: weighted", False), ("hedge: true", False)):
        targets = "targets: [{provider: echo, model: a}, {provider: echo, model: b, max_concurrent_calls: 1}]"
        config = parse(f"models: {{a: {{{targets}, {row}}}}}", "headgate.yaml", {})
        assert Board(config).made_route("a", (Target("echo", "a"), Target("echo", "b"))).is_plain == is_plain


def test_an_alarm_is_counted_each_time_and_logged_once_a_minute() -> None:
    now = 0.0
    kept = board(clock=lambda: now)
    place = kept.made_route("small", (Target("lab", "tiny"), Target("spare", "tiny"))).places[0]
    refused = ProviderUnauthorized("The key was refused.", provider="lab", upstream_status="401")
    with capture_logs() as logs:
        for now in (0.0, 1.0, 59.0, 61.0):  # noqa: B007 the clock above reads it
            kept.alarm(place, refused)
    assert kept.alarms == {("lab", "provider_unauthorized"): 4}
    assert [line["event"] for line in logs] == 2 * ["provider_alarm"]


def test_the_metrics_tell_all_that_is_known() -> None:
    kept = board()
    route = kept.made_route("small", (Target("lab", "tiny"), Target("spare", "tiny")))
    for _ in range(5):
        route.places[0].state.circuit.failed(kept.clock())
    kept.count_hedge(route.places[1], won=True, failed=False)
    metrics = Metrics(version="1")
    metrics.tell_routing(kept)
    told = metrics.exposition()[0].decode()
    target = 'gen_ai_provider_name="{}",gen_ai_request_model="tiny"'
    assert f"headgate_circuit_state{{{target.format('lab')}}} 2.0" in told
    assert f"headgate_circuit_state{{{target.format('spare')}}} 0.0" in told
    assert 'headgate_hedges_total{outcome="won",provider="spare"} 1.0' in told
    assert "headgate_retry_budget_left 10.0" in told
    assert "headgate_retries_refused_total 0.0" in told
