"""The metrics, for Prometheus to fetch: recorded once a call, when it has ended."""

import sys
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from gateway_core.telemetry import names
from gateway_core.telemetry.names import Instrument
from gateway_core.telemetry.record import AttemptRecord, CallRecord

LABEL_SETS_AT_MOST = 1000
"""Of the calls, and of the attempts."""
LABEL_CHARACTERS_AT_MOST = 128


class Labels(NamedTuple):
    """What the metrics of a call or an attempt are told apart by."""

    operation: str
    provider: str
    request_model: str
    response_model: str
    error_type: str = ""
    """Empty: it ended well."""


def cut_labels(operation: str, provider: str, request_model: str, response_model: str, error_type: str) -> Labels:
    """Labels of a length that a metric can carry."""
    cut = LABEL_CHARACTERS_AT_MOST
    return Labels(operation, provider, request_model[:cut], response_model[:cut], error_type)


class CallSeries(NamedTuple):
    """The histograms of the calls with one set of labels."""

    duration: Histogram
    time_to_first_token: Histogram
    time_per_output_token: Histogram


class AttemptSeries(NamedTuple):
    """The histograms of the attempts with one set of labels."""

    duration: Histogram
    input_tokens: Histogram
    output_tokens: Histogram


class BoundedLabels:
    """Keeps the number of label sets in bounds, whatever callers and providers name their models.

    A name that is not in the configuration has to have answered once: callers cannot make series out of thin air.
    """

    def __init__(self, configured: frozenset[str], at_most: int) -> None:
        """Takes the names that have a place in any case, and the number of label sets there is room for."""
        self._configured = configured
        self._at_most = at_most
        self._answered: set[str] = set()
        self._admitted: dict[Labels, Labels] = {}

    def admitted(self, labels: Labels) -> Labels:
        """The labels to record under."""
        known = self._admitted.get(labels)
        if known is not None:
            return known
        if labels.error_type and not self._has_answered(labels.request_model):
            return labels._replace(request_model=names.UNKNOWN, response_model="")
        if len(self._admitted) < self._at_most:
            self._answered.add(labels.request_model)
            self._admitted[labels] = labels
            return labels
        request_model = labels.request_model if labels.request_model in self._configured else names.OTHER
        return labels._replace(request_model=request_model, response_model=names.OTHER)

    def _has_answered(self, model: str) -> bool:
        return model in self._configured or model in self._answered


class Tally:
    """A counter whose children are looked up once: finding one costs more than counting."""

    def __init__(self, counter: Counter) -> None:
        """Takes the counter."""
        self._counter = counter
        self._children: dict[tuple[str, ...], Counter] = {}

    def add(self, *labels: str, amount: int = 1) -> None:
        """Counts."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._counter.labels(*labels)
        child.inc(amount)


class Metrics:
    """Counts and measures on a registry of its own."""

    def __init__(self, *, version: str, models: Iterable[str] = (), label_sets_at_most: int = LABEL_SETS_AT_MOST):
        """Takes the version that runs, and the names of models in the configuration, rows and targets."""
        self.calls_in_flight = 0
        self.registry = CollectorRegistry()
        configured = frozenset(models)
        self._call_labels = BoundedLabels(configured, label_sets_at_most)
        self._attempt_labels = BoundedLabels(configured, label_sets_at_most)
        self._call_duration = self._histogram(names.SERVER_REQUEST_DURATION)
        self._time_to_first_token = self._histogram(names.SERVER_TIME_TO_FIRST_TOKEN)
        self._time_per_output_token = self._histogram(names.SERVER_TIME_PER_OUTPUT_TOKEN)
        self._attempt_duration = self._histogram(names.CLIENT_OPERATION_DURATION)
        self._token_usage = self._histogram(names.CLIENT_TOKEN_USAGE)
        self._calls = self._tally(names.CALLS)
        self._attempts = self._tally(names.ATTEMPTS_MADE)
        self._rewrites = self._tally(names.REWRITES_MADE)
        in_flight = names.CALLS_IN_FLIGHT
        Gauge(in_flight.prometheus_name, in_flight.description, registry=self.registry).set_function(
            lambda: self.calls_in_flight
        )
        build = Info(names.BUILD.prometheus_name, names.BUILD.description, registry=self.registry)
        build.info({"version": version, "python": ".".join(map(str, sys.version_info[:3]))})
        ProcessCollector(registry=self.registry)
        self._call_series: dict[Labels, CallSeries] = {}
        self._attempt_series: dict[Labels, AttemptSeries] = {}

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their content type: OpenMetrics where the Accept header asks for it, else Prometheus' own."""
        # The client library's own choice repeats the caller's version and fails on one that is no number.
        if openmetrics.CONTENT_TYPE_LATEST.partition(";")[0] in accept:
            body: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def record_call(self, record: CallRecord) -> None:
        """Counts and measures a call that has ended."""
        call, status, provider = record.call, record.status, record.provider
        operation = call.operation.name
        ok = status == names.OK
        model = call.model if call.targets else names.UNKNOWN
        series = self._call(cut_labels(operation, provider, model, record.response_model, "" if ok else status))
        duration = record.duration_seconds
        series.duration.observe(duration)
        self._calls.add(operation, record.dialect, status)
        if call.rewrites:
            self._rewrites.add(provider, amount=len(call.rewrites))
        first = record.time_to_first_token_seconds
        if ok and first is not None:
            series.time_to_first_token.observe(first)
            if record.usage is not None and record.usage.completion_tokens > 1:
                series.time_per_output_token.observe((duration - first) / (record.usage.completion_tokens - 1))

    def record_attempt(self, record: AttemptRecord) -> None:
        """Counts and measures an attempt that has ended."""
        target, answer, status = record.target, record.answer, record.status
        response_model = answer.response_model if answer is not None else ""
        error_type = "" if status == names.OK else status
        operation = record.call.operation.name
        series = self._attempt(cut_labels(operation, target.provider, target.model, response_model, error_type))
        series.duration.observe(record.ended - record.started)
        self._attempts.add(target.provider, status)
        if answer is not None and answer.usage is not None:
            series.input_tokens.observe(answer.usage.prompt_tokens)
            series.output_tokens.observe(answer.usage.completion_tokens)

    def _call(self, wanted: Labels) -> CallSeries:
        labels = self._call_labels.admitted(wanted)
        series = self._call_series.get(labels)
        if series is None:
            called = labels[:4]
            series = self._call_series[labels] = CallSeries(
                self._call_duration.labels(*labels),
                self._time_to_first_token.labels(*called),
                self._time_per_output_token.labels(*called),
            )
        return series

    def _attempt(self, wanted: Labels) -> AttemptSeries:
        labels = self._attempt_labels.admitted(wanted)
        series = self._attempt_series.get(labels)
        if series is None:
            called = labels[:4]
            series = self._attempt_series[labels] = AttemptSeries(
                self._attempt_duration.labels(*labels),
                self._token_usage.labels(*called, "input"),
                self._token_usage.labels(*called, "output"),
            )
        return series

    def _histogram(self, of: Instrument) -> Histogram:
        return Histogram(of.prometheus_name, of.description, of.labels, registry=self.registry, buckets=of.buckets)

    def _tally(self, of: Instrument) -> Tally:
        return Tally(Counter(of.prometheus_name, of.description, of.labels, registry=self.registry))
