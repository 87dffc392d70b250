"""What GET /metrics tells."""

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway_core.call import Rewrite, Target
from gateway_core.config import Config
from gateway_core.errors import GatewayError, ModelNotFound, ProviderTimeout
from gateway_core.telemetry import Telemetry, configured_models, names
from gateway_core.telemetry.metrics import LABEL_SETS_AT_MOST, Metrics
from gateway_core.telemetry.record import CallRecord
from gateway_core.tokens import tokens_of
from tests.gateway_core.telemetry.calls import LAB, finish, new_call
from tests.gateway_core.telemetry.conftest import Log

pytestmark = pytest.mark.usefixtures("log")

CALLED = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "lab",
    "gen_ai_request_model": "small",
    "gen_ai_response_model": "tiny-2026",
}
ATTEMPTED = {**CALLED, "gen_ai_request_model": "tiny"}
DEAD = Target("dead", "tiny")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Config(), {})


def sample(telemetry: Telemetry, name: str, labels: dict[str, str] | None = None) -> float | None:
    return telemetry.metrics.registry.get_sample_value(name, labels or {})


def label_values(telemetry: Telemetry, metric: str, label: str) -> set[str]:
    return {
        sample.labels[label]
        for family in telemetry.metrics.registry.collect()
        if family.name == metric
        for sample in family.samples
    }


def answered(telemetry: Telemetry, model: str = "small", *, stream: bool = True, seconds: float = 2.0) -> CallRecord:
    """A call whose answer has been read, and which took `seconds`, 0.5 of them to the first event."""
    call = new_call(model, stream=stream)
    record = telemetry.begin(call)
    call.targets, call.target, call.attempt_count = (LAB,), LAB, 1
    attempt = telemetry.attempts.begin(call)
    telemetry.attempts.opened(attempt)
    record.usage, record.response_model = tokens_of(finish().usage), "tiny-2026"
    record.started -= seconds
    record.first_event_at = record.started + 0.5
    return record


def test_a_streamed_call_is_measured_under_the_names_of_opentelemetry(telemetry: Telemetry) -> None:
    telemetry.end(answered(telemetry), None)
    duration = "gen_ai_server_request_duration_seconds"
    assert sample(telemetry, f"{duration}_count", {**CALLED, "error_type": ""}) == 1
    assert sample(telemetry, f"{duration}_sum", {**CALLED, "error_type": ""}) == pytest.approx(2, abs=0.2)
    assert sample(telemetry, "gen_ai_server_time_to_first_token_seconds_sum", CALLED) == pytest.approx(0.5)
    per_token = sample(telemetry, "gen_ai_server_time_per_output_token_seconds_sum", CALLED)
    assert per_token == pytest.approx(1.5 / 4, abs=0.05)
    assert sample(telemetry, "gen_ai_client_operation_duration_seconds_count", {**ATTEMPTED, "error_type": ""}) == 1
    for token_type, tokens in (("input", 12), ("output", 5)):
        labels = {**ATTEMPTED, "gen_ai_token_type": token_type}
        assert sample(telemetry, "gen_ai_client_token_usage_sum", labels) == tokens


def test_the_time_to_the_first_token_of_a_unary_call_is_not_known(telemetry: Telemetry) -> None:
    telemetry.end(answered(telemetry, stream=False), None)
    assert sample(telemetry, "gen_ai_server_time_to_first_token_seconds_count", CALLED) == 0
    assert sample(telemetry, "gen_ai_server_time_per_output_token_seconds_count", CALLED) == 0


def test_a_stream_that_broke_counts_its_duration_and_tokens_but_not_its_speed(telemetry: Telemetry) -> None:
    telemetry.end(answered(telemetry), None)
    telemetry.end(answered(telemetry), ProviderTimeout("lab was silent.", provider="lab", phase="idle"))
    duration = "gen_ai_server_request_duration_seconds_count"
    assert sample(telemetry, duration, {**CALLED, "error_type": "provider_timeout"}) == 1
    assert sample(telemetry, "gen_ai_server_time_to_first_token_seconds_count", CALLED) == 1
    labels = {**ATTEMPTED, "gen_ai_token_type": "output"}
    assert sample(telemetry, "gen_ai_client_token_usage_count", labels) == 2


@pytest.mark.parametrize(
    ("instrument", "bounds"),
    [
        (names.SERVER_REQUEST_DURATION, [0.01 * 2**power for power in range(14)]),
        (names.CLIENT_OPERATION_DURATION, [0.01 * 2**power for power in range(14)]),
        (names.CLIENT_TOKEN_USAGE, [4**power for power in range(14)]),
    ],
    ids=lambda value: value.name if isinstance(value, names.Instrument) else "",
)
def test_buckets_are_those_of_the_conventions(
    telemetry: Telemetry, instrument: names.Instrument, bounds: list[float]
) -> None:
    telemetry.end(answered(telemetry), None)
    told = {
        float(sample.labels["le"])
        for family in telemetry.metrics.registry.collect()
        if family.name == instrument.prometheus_name
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert sorted(told) == pytest.approx([*bounds, math.inf])


def test_every_attempt_is_counted_with_its_outcome_and_no_tokens_twice(telemetry: Telemetry) -> None:
    call = new_call()
    record = telemetry.begin(call)
    call.targets = (DEAD, LAB)
    call.target, call.attempt_count = DEAD, 1
    telemetry.attempts.failed(
        telemetry.attempts.begin(call), ProviderTimeout("dead was silent.", provider="dead", phase="connect")
    )
    call.target, call.attempt_count = LAB, 2
    telemetry.attempts.opened(telemetry.attempts.begin(call))
    record.usage = tokens_of(finish().usage)
    telemetry.end(record, None)
    counted = "headgate_attempts_total"
    assert sample(telemetry, counted, {"provider": "dead", "outcome": "provider_timeout"}) == 1
    assert sample(telemetry, counted, {"provider": "lab", "outcome": "ok"}) == 1
    assert label_values(telemetry, "gen_ai_client_token_usage", "gen_ai_provider_name") == {"dead", "lab"}
    labels = {**ATTEMPTED, "gen_ai_response_model": "", "gen_ai_token_type": "input"}
    assert sample(telemetry, "gen_ai_client_token_usage_count", labels) == 1
    assert not sample(telemetry, "gen_ai_client_token_usage_count", {**labels, "gen_ai_provider_name": "dead"})


def test_calls_are_counted_by_operation_dialect_and_status(telemetry: Telemetry) -> None:
    telemetry.end(telemetry.begin(new_call(metadata={"x-headgate-dialect": "ollama"})), ModelNotFound("None."))
    labels = {"operation": "chat", "dialect": "ollama", "status": "model_not_found"}
    assert sample(telemetry, "headgate_calls_total", labels) == 1


def test_rewrites_are_counted(telemetry: Telemetry) -> None:
    record = answered(telemetry)
    record.call.rewrites += [Rewrite("seed", "…"), Rewrite("top_k", "…")]
    telemetry.end(record, None)
    assert sample(telemetry, "headgate_rewrites_total", {"provider": "lab"}) == 2


def test_calls_in_flight_are_those_that_have_not_ended(telemetry: Telemetry) -> None:
    first, second = telemetry.begin(new_call()), telemetry.begin(new_call())
    assert sample(telemetry, "headgate_calls_in_flight") == telemetry.calls_in_flight == 2
    telemetry.end(first, None)
    telemetry.end(first, KeyError("a second end does not count"))
    assert sample(telemetry, "headgate_calls_in_flight") == 1
    telemetry.end(second, None)
    assert sample(telemetry, "headgate_calls_in_flight") == 0


def test_a_call_that_has_ended_counts_once(telemetry: Telemetry, log: Log) -> None:
    record = answered(telemetry)
    telemetry.end(record, None)
    telemetry.end(record, KeyError("x"))
    assert sample(telemetry, "headgate_calls_total", {"operation": "chat", "dialect": "grpc", "status": "ok"}) == 1
    assert len(log.calls) == 1


def test_models_that_do_not_exist_make_no_series(telemetry: Telemetry) -> None:
    missing = ModelNotFound("None.", param="model", model="…")
    for number in range(50):
        telemetry.end(telemetry.begin(new_call(f"invented-{number}")), missing)
    assert label_values(telemetry, "gen_ai_server_request_duration_seconds", "gen_ai_request_model") == {"_unknown"}


def test_a_model_that_has_answered_keeps_its_name_when_it_fails(telemetry: Telemetry) -> None:
    refused: GatewayError = ProviderTimeout("lab was silent.", provider="lab", phase="idle")
    telemetry.end(answered(telemetry, "lab/invented"), refused)
    telemetry.end(answered(telemetry, "lab/tiny"), None)
    telemetry.end(answered(telemetry, "lab/tiny"), refused)
    failed = {
        sample.labels["gen_ai_request_model"]
        for family in telemetry.metrics.registry.collect()
        if family.name == "gen_ai_server_request_duration_seconds"
        for sample in family.samples
        if sample.labels["error_type"]
    }
    assert failed == {"_unknown", "lab/tiny"}


def test_a_model_of_the_configuration_has_its_name_before_it_has_answered() -> None:
    row = {
        "providers": {"lab": {"kind": "echo"}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "t"}]}},
    }
    config = Config.model_validate(row)
    assert list(configured_models(config)) == ["small", "t", "lab/t"]
    telemetry = Telemetry(config, {})
    telemetry.end(answered(telemetry), ProviderTimeout("lab was silent.", provider="lab", phase="idle"))
    assert label_values(telemetry, "gen_ai_server_request_duration_seconds", "gen_ai_request_model") == {"small"}


def test_the_number_of_label_sets_is_bounded_and_configured_models_always_have_room() -> None:
    telemetry = Telemetry(Config(), {})
    telemetry.metrics = Metrics(version="1", models=["small"], label_sets_at_most=20)
    for number in range(200):
        telemetry.end(answered(telemetry, f"echo/{number}"), None)
    telemetry.end(answered(telemetry), None)
    models = label_values(telemetry, "gen_ai_server_request_duration_seconds", "gen_ai_request_model")
    assert models == {*(f"echo/{number}" for number in range(20)), "_other", "small"}
    assert LABEL_SETS_AT_MOST == 1000


def test_a_name_of_any_length_makes_a_label_of_some_length(telemetry: Telemetry) -> None:
    telemetry.end(answered(telemetry, "m" * 100_000), None)
    assert len(telemetry.exposition()[0]) < 100_000


def test_what_is_told_parses_and_says_what_is_running(telemetry: Telemetry) -> None:
    telemetry.end(answered(telemetry), None)
    body, content_type = telemetry.exposition()
    families = {family.name for family in text_string_to_metric_families(body.decode())}
    assert content_type.startswith("text/plain; version=0.0.4")
    assert {"headgate_build_info", "headgate_calls", "process_resident_memory_bytes"} <= families
    assert re.search(rb'headgate_build_info\{.*python="3\.', body)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=one", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=1.0.0; escaping=nonsense", "application/openmetrics-text"),
        ("text/plain; version=", "text/plain; version=0.0.4"),
        (";;,,;=;", "text/plain; version=0.0.4"),
    ],
)
def test_the_accept_header_chooses_the_form_and_a_wrong_one_does_no_harm(
    telemetry: Telemetry, accept: str, content_type: str
) -> None:
    body, told = telemetry.exposition(accept)
    assert told.startswith(content_type)
    assert body.endswith(b"# EOF\n") == told.startswith("application/openmetrics-text")


def test_two_servers_in_one_process_do_not_share_their_metrics(telemetry: Telemetry) -> None:
    other = Telemetry(Config(), {})
    telemetry.end(telemetry.begin(new_call()), None)
    labels = {"operation": "chat", "dialect": "grpc", "status": "ok"}
    assert sample(telemetry, "headgate_calls_total", labels) == 1
    assert sample(other, "headgate_calls_total", labels) is None
