"""The metrics, for Prometheus to fetch: recorded once a call, when it has ended."""

import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from gateway_core.routing.board import Board
from gateway_core.telemetry import names
from gateway_core.telemetry.names import Instrument
from gateway_core.telemetry.record import AttemptRecord, CallRecord
from gateway_core.telemetry.routing import Routing
from gateway_core.telemetry.series import Count, Counter, Histogram, Measure
from gateway_core.tokens import Tokens

LABEL_SETS_AT_MOST = 1000
"""Of the calls, and of the attempts."""
LABEL_CHARACTERS_AT_MOST = 128

PROMPT, COMPLETION = Tokens._fields.index("prompt"), Tokens._fields.index("completion")
"""Their places: to ask for a field by its name costs more."""


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
    """Where calls with one set of labels, that came by one dialect, are counted and measured."""

    ended: Count

    duration: Measure
    time_to_first_token: Measure
    time_per_output_token: Measure


class AttemptSeries(NamedTuple):
    """Where attempts with one set of labels are counted and measured."""

    ended: Count

    duration: Measure
    input_tokens: Measure
    output_tokens: Measure


class WellSeries(NamedTuple):
    """Where calls that were answered whole, at once, are counted and measured, and with each its attempt."""

    calls: Count
    attempts: Count
    call_duration: Measure
    attempt_duration: Measure
    input_tokens: Measure
    output_tokens: Measure


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


class Metrics:
    """Counts and measures on a registry of its own."""

    def __init__(self, *, version: str, models: Iterable[str] = (), label_sets_at_most: int = LABEL_SETS_AT_MOST):
        """Takes the version that runs, and the names of models in the configuration, rows and targets."""
        self.calls_in_flight = 0
        self.registry = CollectorRegistry()
        self._label_sets_at_most = label_sets_at_most
        configured = frozenset(models)
        self._call_labels = BoundedLabels(configured, label_sets_at_most)
        self._attempt_labels = BoundedLabels(configured, label_sets_at_most)
        self._call_duration = self._histogram(names.SERVER_REQUEST_DURATION)
        self._time_to_first_token = self._histogram(names.SERVER_TIME_TO_FIRST_TOKEN)
        self._time_per_output_token = self._histogram(names.SERVER_TIME_PER_OUTPUT_TOKEN)
        self._attempt_duration = self._histogram(names.CLIENT_OPERATION_DURATION)
        self._token_usage = self._histogram(names.CLIENT_TOKEN_USAGE)
        self._calls = self._counter(names.CALLS)
        self._attempts = self._counter(names.ATTEMPTS_MADE)
        self._rewrites = self._counter(names.REWRITES_MADE)
        self._webhooks = self._counter(names.WEBHOOKS)
        self._refused_early = self._counter(names.REFUSED_EARLY)
        self._redis: Gauge | None = None
        in_flight = names.CALLS_IN_FLIGHT
        Gauge(in_flight.prometheus_name, in_flight.description, registry=self.registry).set_function(
            lambda: self.calls_in_flight
        )
        build = Info(names.BUILD.prometheus_name, names.BUILD.description, registry=self.registry)
        build.info({"version": version, "python": ".".join(map(str, sys.version_info[:3]))})
        ProcessCollector(registry=self.registry)
        # By labels that were admitted: a call with any others goes the long way.
        self._call_series: dict[tuple[str, ...], CallSeries] = {}
        self._attempt_series: dict[tuple[str, ...], AttemptSeries] = {}
        self._well_series: dict[tuple[str, ...], WellSeries] = {}

    def tell_queued(self, count: Callable[[], int]) -> None:
        """Begins to tell how many calls wait for others of their key; any thread may ask for the count."""
        queued = names.CALLS_QUEUED
        Gauge(queued.prometheus_name, queued.description, registry=self.registry).set_function(count)

    def tell_limits_store(self, is_up: Callable[[], bool]) -> None:
        """Begins to tell whether the store in which processes share limits answers; any thread may ask."""
        store = names.LIMITS_STORE_UP
        Gauge(store.prometheus_name, store.description, registry=self.registry).set_function(is_up)

    def tell_database(self, is_up: Callable[[], bool], waiting: Callable[[], int]) -> None:
        """Begins to tell whether the database answers, and how many calls wait to be in it; any thread may ask."""
        up, kept = names.DATABASE_UP, names.LEDGER_WAITING
        Gauge(up.prometheus_name, up.description, registry=self.registry).set_function(is_up)
        Gauge(kept.prometheus_name, kept.description, registry=self.registry).set_function(waiting)

    def tell_redis(self, of: str, is_up: Callable[[], bool]) -> None:
        """Begins to tell whether processes share something, in a word, by Redis; any thread may ask."""
        if self._redis is None:
            up = names.REDIS_UP
            self._redis = Gauge(up.prometheus_name, up.description, up.labels, registry=self.registry)
        self._redis.labels(of).set_function(is_up)

    def tell_streams(self, count: Callable[[], int]) -> None:
        """Begins to tell how many streams can be continued; any thread may ask for the count."""
        kept = names.STREAMS_KEPT
        Gauge(kept.prometheus_name, kept.description, registry=self.registry).set_function(count)

    def tell_routing(self, board: Board) -> None:
        """Begins to tell what is known of the ways to targets; any thread may ask for it."""
        self.registry.register(Routing(board))

    def count_webhook(self, outcome: str) -> None:
        """Counts an attempt to send a webhook: "delivered", "retried" (there will be another), "failed"."""
        self._webhooks.add(outcome)

    def count_refused_early(self, service: str, reason: str) -> None:
        """Counts a request that a proxy was told to refuse: by "authorization" or "rate_limit", and why."""
        self._refused_early.add(service, reason)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their content type: OpenMetrics where the Accept header asks for it, else Prometheus' own."""
        # The client library's own choice repeats the caller's version and fails on one that is no number.
        if openmetrics.CONTENT_TYPE_LATEST.partition(";")[0] in accept:
            body: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def record_well(self, record: CallRecord, attempt: AttemptRecord) -> None:
        """Counts and measures a call that was answered whole, with its only attempt: what the two below do of each."""
        call, target, model = record.call, attempt.target, record.response_model
        wanted = (call.operation.name, target.provider, call.model, target.model, model, record.dialect)
        series = self._well_series.get(wanted) or self._well(wanted)
        calls, attempts, call_duration, attempt_duration, input_tokens, output_tokens = series
        calls.value += 1
        attempts.value += 1
        ended = record.ended
        call_duration.add(ended - record.started)
        attempt_duration.add(ended - attempt.started)
        usage = record.usage
        if usage is not None:
            input_tokens.add(usage[PROMPT] or 0)
            output_tokens.add(usage[COMPLETION] or 0)

    def record_call(self, record: CallRecord) -> None:
        """Counts and measures a call that has ended."""
        call, status = record.call, record.status
        provider = call.target.provider if call.target is not None else ""
        error_type = "" if status == names.OK else status
        model = call.model if call.targets else names.UNKNOWN
        wanted = (call.operation.name, provider, model, record.response_model, error_type, record.dialect)
        ended, durations, first_tokens, output_tokens = self._call_series.get(wanted) or self._call(wanted)
        ended.value += 1
        duration = record.ended - record.started
        durations.add(duration)
        if call.rewrites:
            self._rewrites.add(provider, amount=len(call.rewrites))
        if call.stream and not error_type and record.first_event_at is not None:
            first = record.first_event_at - record.started
            first_tokens.add(first)
            written = 0 if record.usage is None else record.usage.completion or 0
            if written > 1:
                output_tokens.add((duration - first) / (written - 1))

    def record_attempt(self, record: AttemptRecord) -> None:
        """Counts and measures an attempt that has ended."""
        target, answer, status = record.target, record.answer, record.status
        response_model = answer.response_model if answer is not None else ""
        error_type = "" if status == names.OK else status
        wanted = (record.call.operation.name, target.provider, target.model, response_model, error_type)
        ended, durations, input_tokens, output_tokens = self._attempt_series.get(wanted) or self._attempt(wanted)
        ended.value += 1
        durations.add(record.ended - record.started)
        if answer is not None and answer.usage is not None:
            prompt, _, _, _, completion, _, _ = answer.usage
            input_tokens.add(prompt or 0)
            output_tokens.add(completion or 0)

    def _call(self, wanted: tuple[str, str, str, str, str, str]) -> CallSeries:
        *of_call, dialect = wanted
        labels = self._call_labels.admitted(cut_labels(*of_call))
        operation, _, _, _, error_type = labels
        called = labels[:4]
        series = self._call_series[*labels, dialect] = CallSeries(
            self._calls.count(operation, dialect, error_type or names.OK),
            self._call_duration.measure(*labels),
            self._time_to_first_token.measure(*called),
            self._time_per_output_token.measure(*called),
        )
        return series

    def _well(self, wanted: tuple[str, str, str, str, str, str]) -> WellSeries:
        operation, provider, requested, model, response_model, dialect = wanted
        called = (operation, provider, requested, response_model, "", dialect)
        tried = (operation, provider, model, response_model, "")
        calls = self._call_series.get(called) or self._call(called)
        attempts = self._attempt_series.get(tried) or self._attempt(tried)
        series = WellSeries(
            calls.ended,
            attempts.ended,
            calls.duration,
            attempts.duration,
            attempts.input_tokens,
            attempts.output_tokens,
        )
        if max(map(len, wanted)) <= LABEL_CHARACTERS_AT_MOST and len(self._well_series) < self._label_sets_at_most:
            self._well_series[wanted] = series
        return series

    def _attempt(self, wanted: tuple[str, str, str, str, str]) -> AttemptSeries:
        labels = self._attempt_labels.admitted(cut_labels(*wanted))
        _, provider, _, _, error_type = labels
        called = labels[:4]
        series = self._attempt_series[labels] = AttemptSeries(
            self._attempts.count(provider, error_type or names.OK),
            self._attempt_duration.measure(*labels),
            self._token_usage.measure(*called, "input"),
            self._token_usage.measure(*called, "output"),
        )
        return series

    def _histogram(self, of: Instrument) -> Histogram:
        histogram = Histogram(of)
        self.registry.register(histogram)
        return histogram

    def _counter(self, of: Instrument) -> Counter:
        counter = Counter(of)
        self.registry.register(counter)
        return counter
