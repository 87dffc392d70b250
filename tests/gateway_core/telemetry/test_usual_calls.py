"""Calls that go as most do are told of on a shorter way: the lines and the numbers are those of the long one."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core.call import Caller, Rewrite, Target
from gateway_core.config import Config
from gateway_core.errors import ModelNotFound
from gateway_core.telemetry import Telemetry, names
from gateway_core.telemetry.call_line import LINES_AT_MOST, OTHERS_AT_MOST, UsualLines, add_call
from gateway_core.telemetry.log import json_line
from gateway_core.telemetry.metrics import Metrics
from gateway_core.telemetry.record import NO_SPAN, AttemptRecord, CallRecord
from gateway_core.tokens import Tokens
from tests.gateway_core.telemetry.calls import LAB, new_call
from tests.gateway_core.telemetry.conftest import Log

NOW = "2026-11-21T23:18:27.760Z"
DETAILED = Tokens(prompt=12, cached=0, completion=5, reasoning=2)

TEXTS = (
    "small",
    "",
    "100%",
    "%d %b %%",
    'a "b" \\ c',
    "höhe ☃ 🙂",
    "\x00\x1f\x7f\u2028",
    "m" * 500,
    "m" * 501,
    "\ud800",
)
USED = (
    DETAILED,
    Tokens(prompt=0, completion=0),
    Tokens(prompt=12, completion=5),
    Tokens(prompt=12, completion=5, cached=3),
    Tokens(prompt=12, completion=5, reasoning=3),
    Tokens(prompt=12, cached=0, reasoning=0),
    Tokens(completion=5, cached=0, reasoning=0),
    Tokens(prompt=10**9, cached=10**9, completion=10**9, reasoning=10**9, cache_write=4, prompt_audio=3),
    None,
)
REASONS: tuple[Mapping[int, str], ...] = ({0: "stop"}, {}, {0: "stop", 1: "length"}, {-1: "stop", 0: "a"}, {3: "x%"})


def answered(
    *,
    model: str = "small",
    response_model: str = "tiny-2026",
    reasons: Mapping[int, str] = REASONS[0],
    usage: Tokens | None = DETAILED,
    target: Target = LAB,
    request_id: str = "call-1",
    seconds: float = 0.0123,
    dialect: str = "openai",
    stream: bool = False,
    first_seconds: float | None = 0.0,
) -> CallRecord:
    """A call that went well with its only attempt."""
    call = new_call(stream=stream, request_id=request_id, metadata={"x-headgate-dialect": dialect})
    call.model = model
    record = call.record = CallRecord(call, NO_SPAN)
    call.targets, call.target, call.attempt_count = (target,), target, 1
    attempt = AttemptRecord(call, target, 1, None)
    attempt.answer = record
    record.attempts.append(attempt)
    record.response_model, record.finish_reasons, record.usage = response_model, reasons, usage
    record.status, record.ended = "ok", record.started + seconds
    record.first_event_at = None if first_seconds is None else record.started + first_seconds
    attempt.started = record.started + seconds / 4
    return record


def written(record: CallRecord, of_all: Mapping[str, Any]) -> bytes:
    """The line of a call, field by field."""
    fields = {names.TIMESTAMP: NOW, names.LEVEL: "info", names.EVENT: names.CALL, **of_all}
    add_call(fields, record)
    return json_line(None, "info", fields)


def is_line_of(lines: UsualLines, record: CallRecord, of_all: Mapping[str, Any]) -> bool:
    """Whether there is a usual line of a call, which is then the long one's, the first time and the second."""
    for _ in range(2):
        line = lines.line(record, NOW.encode())
        assert line in (None, written(record, of_all))
    return line is not None


@pytest.mark.parametrize("of_all", [{}, {"worker": 7}])
def test_a_usual_line_is_the_one_that_is_written_field_by_field(of_all: dict[str, Any]) -> None:
    lines = UsualLines(of_all)
    assert is_line_of(lines, answered(), of_all)
    for model, reason in itertools.product(TEXTS, TEXTS):
        texts = (model, reason)
        record = answered(model=model, response_model=reason, reasons={0: reason[::-1]}, request_id=model)
        is_usual = not any(len(each) > 500 or each == "\ud800" for each in texts)
        assert is_line_of(lines, record, of_all) is is_usual, texts
    for usage, reasons in itertools.product(USED, REASONS):
        is_line_of(lines, answered(usage=usage, reasons=reasons), of_all)
        is_line_of(lines, answered(usage=usage, reasons=reasons, stream=True), of_all)
    for seconds in (0.0, 0.00004, 0.00005, 0.1, 1.0, 12.345678, 99.99996, 86_400.0, 10.0**8):
        assert is_line_of(lines, answered(seconds=seconds), of_all)
        assert is_line_of(lines, answered(seconds=seconds, first_seconds=seconds / 3, stream=True), of_all)
    for target in (Target("a%b", "tiny"), Target("ä", "tiny-2")):
        assert is_line_of(lines, answered(target=target), of_all)
    assert not is_line_of(lines, answered(request_id="\ud800"), of_all)
    for dialect in ("grpc", "ollama", "none that is known"):
        assert is_line_of(lines, answered(dialect=dialect), of_all)


def test_calls_that_go_another_way_have_no_usual_line() -> None:
    others = [answered() for _ in range(6)]
    others[0].first_event_at = None
    others[1].call.attempt_count = 2
    others[2].call.rewrites.append(Rewrite("logit_bias", "lab has no word for it"))
    others[3].call.caller = Caller(certificate="CN=app")
    others[4].call.target = None
    others[5].error, others[5].status = ModelNotFound("There is none.", param="model", model="x"), "model_not_found"
    lines = UsualLines({})
    assert lines.line(answered(), b"") is not None
    assert [lines.line(other, b"") for other in others] == [None] * 6


def test_no_more_usual_lines_are_kept_than_there_is_room_for() -> None:
    lines = UsualLines({})
    for number in range(3 * LINES_AT_MOST):
        assert is_line_of(lines, answered(response_model=f"tiny-{number}"), {}) is (number < LINES_AT_MOST)
    assert len(lines._lines) <= LINES_AT_MOST


def test_other_lines_become_usual_once_many_calls_had_others() -> None:
    lines = UsualLines({})
    for number in range(LINES_AT_MOST + OTHERS_AT_MOST):
        lines.line(answered(response_model=f"tiny-{number}"), b"")
    assert is_line_of(lines, answered(), {})


def test_what_is_known_of_a_call_is_not_made_anew_where_there_is_no_room_for_more() -> None:
    metrics = Metrics(version="1", models=["small"], label_sets_at_most=2)
    records = [answered(dialect=dialect) for dialect in ("openai", "grpc", "ollama", "anthropic")]
    for record in records:
        metrics.record_well(record, record.attempts[0])
    known = dict(metrics._call_series)
    for record in records:
        metrics.record_well(record, record.attempts[0])
    assert all(metrics._call_series[labels] is series for labels, series in known.items())


def numbers(metrics: Metrics) -> dict[Any, float]:
    """What the metrics of calls and attempts tell, but for when they began."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in metrics.registry.collect()
        if family.name.startswith(("gen_ai", "headgate_calls", "headgate_attempts"))
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("label_sets_at_most", [0, 1, 3, 1000])
def test_what_went_well_is_counted_and_measured_as_on_the_long_way(label_sets_at_most: int) -> None:
    one, other = (
        Metrics(version="1", models=("small", "lab/tiny"), label_sets_at_most=label_sets_at_most) for _ in range(2)
    )
    texts = ("small", "", "m" * 128, "m" * 129, "m" * 130, "\ud800", "big")
    calls: list[dict[str, Any]] = [
        {"model": model, "response_model": response, "usage": usage, "target": target, "dialect": dialect}
        for model, response in itertools.product(texts, texts[:5])
        for usage in USED
        for target in (LAB, Target("spare", "tiny-2"))
        for dialect in ("grpc", "openai")
    ]
    for number, call in enumerate(calls[::7] + calls[::5]):
        record = answered(seconds=number / 128, **call)
        (attempt,) = record.attempts
        assert record.only_attempt() is attempt
        one.record_well(record, attempt)
        attempt.ended, attempt.status = record.ended, record.status
        other.record_attempt(attempt)
        other.record_call(record)
    assert numbers(one) == numbers(other)
    assert len(one._well_series) <= label_sets_at_most


def test_a_call_that_goes_another_way_has_no_attempt_that_is_told_with_it() -> None:
    others = [answered() for _ in range(9)]
    others[0].call.stream = True
    others[1].call.rewrites.append(Rewrite("logit_bias", "lab has no word for it"))
    others[2].attempts.append(others[2].attempts[0])
    others[3].attempts.clear()
    others[4].attempts[0].answer = None
    others[5].attempts[0].ended = 1.0
    others[6].call.targets = ()
    others[7].call.target = Target("spare", "tiny")
    others[8].error = ModelNotFound("There is none.", param="model", model="x")
    assert [other.only_attempt() for other in others] == [None] * 9


async def test_an_only_attempt_ends_for_all_who_want_to_know_with_its_call_and_once(log: Log) -> None:
    told: list[object] = []

    class Watcher:
        def ended(self, error: BaseException | None, /) -> None:
            told.append(error)

        def end(self, record: CallRecord | AttemptRecord) -> None:
            told.append((type(record), record.status, record.ended))

    telemetry = Telemetry(Config(), {})
    call = new_call(stream=False)
    record = telemetry.begin(call)
    call.targets, call.target, call.attempt_count = (LAB,), LAB, 1
    watcher = Watcher()
    attempt = telemetry.attempts.begin(call, watcher)
    attempt.span = record.span = watcher  # type: ignore[assignment]
    telemetry.attempts.opened(attempt)
    telemetry.end(record, None)
    telemetry.end(record, None)
    telemetry.tell()
    telemetry.tell()
    assert told == [None, (AttemptRecord, "ok", record.ended), (CallRecord, "ok", record.ended)]
    assert (attempt.ended, call.record, record.attempts) == (record.ended, None, [])
    assert len(log.calls) == 1
