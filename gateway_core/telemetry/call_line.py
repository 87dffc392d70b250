"""What the line of a call tells, and the lines of most calls, of which all but the numbers is written once."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from gateway_core.errors import GatewayError, ProviderError
from gateway_core.telemetry import names
from gateway_core.telemetry.record import CallRecord
from gateway_core.tokens import Tokens

CHARACTERS_AT_MOST = 500
"""Of a text that a caller or a provider wrote."""
REWRITES_AT_MOST = 32
LINES_AT_MOST = 1024
"""Of those that are kept: providers name their models."""
OTHERS_AT_MOST = 16 * LINES_AT_MOST
"""Lines of other kinds, once there is room for no more: then those that are kept are forgotten, others may be usual."""

Alike = tuple[str | bool, ...]
"""What lines have alike: all that they depend on beside what is their own."""

OWN = {
    names.TIMESTAMP: b'"%b"',
    names.REQUEST_ID: b"%b",
    names.DURATION_MS: b"%d.%d",
    names.TIME_TO_FIRST_TOKEN_MS: b"%d.%d",
    names.INPUT_TOKENS: b"%d",
    names.OUTPUT_TOKENS: b"%d",
    names.CACHED_TOKENS: b"%d",
    names.REASONING_TOKENS: b"%d",
}
"""What each call has for itself, in the order of the line, and how it is filled in."""


class UsualLines:
    """Lines of answers that came at the first attempt: most of each is alike and is written once."""

    def __init__(self, of_all: Mapping[str, Any]) -> None:
        """Takes what every line of the process tells."""
        self._of_all = of_all
        self._lines: dict[Alike, bytes] = {}
        self._others = 0

    def line(self, record: CallRecord, now: bytes) -> bytes | None:
        """The line of a call. None: it is another, whose line is to be written field by field."""
        call, usage, reasons = record.call, record.usage, record.finish_reasons
        if record.error is not None or call.attempt_count != 1 or call.rewrites or record.first_event_at is None:
            return None
        if call.target is None or usage is None or len(reasons) != 1 or call.caller.certificate:
            return None
        prompt, cached, _, _, completion, reasoning, _ = usage
        in_detail = cached is not None
        if prompt is None or completion is None or in_detail is (reasoning is None):
            return None
        model, provider, (reason,) = record.response_model, call.target.provider, reasons.values()
        alike = (call.model, model, reason, provider, record.dialect, call.operation.name, in_detail, call.stream)
        line = self._lines.get(alike)
        if line is None and self._has_room():
            line = self._written(alike, record)
        try:
            request_id = orjson.dumps(call.request_id)
        except TypeError:  # half a surrogate pair
            return None
        if line is None:
            return None
        tenths = int((record.ended - record.started) * 10_000 + 0.5)
        own: tuple[bytes | int, ...] = (now, request_id, tenths // 10, tenths % 10)
        if call.stream:
            tenths = int((record.first_event_at - record.started) * 10_000 + 0.5)
            own += (tenths // 10, tenths % 10)
        return line % (own + ((prompt, completion, cached, reasoning) if in_detail else (prompt, completion)))

    def _has_room(self) -> bool:
        """Whether one more is kept. To write it for itself alone costs three times a line that is written at once."""
        if len(self._lines) < LINES_AT_MOST:
            return True
        self._others += 1
        if self._others < OTHERS_AT_MOST:
            return False
        self._lines.clear()
        self._others = 0
        return True

    def _written(self, alike: Alike, record: CallRecord) -> bytes | None:
        """The line of a call field by field, but for its own; kept for those that are alike."""
        if any(isinstance(text, str) and len(text) > CHARACTERS_AT_MOST for text in alike):
            return None
        fields = {names.TIMESTAMP: "", names.LEVEL: "info", names.EVENT: names.CALL, **self._of_all}
        add_call(fields, record)
        try:
            written = [orjson.dumps(name) + b":" + (OWN.get(name) or constant(value)) for name, value in fields.items()]
        except TypeError:  # likewise
            return None
        line = self._lines[alike] = b"{" + b",".join(written) + b"}\n"
        return line


def constant(value: object) -> bytes:
    """A value as JSON, within what % fills in."""
    return orjson.dumps(value).replace(b"%", b"%%")


def call_level(record: CallRecord) -> int:
    """info for what went well or is the caller's; warning for the provider's, and what the server's end has cut; error
    for a fault of ours."""
    if record.error is None:
        return logging.INFO
    if record.status == names.INTERNAL:
        return logging.ERROR
    is_warning = isinstance(record.error, ProviderError) or record.status == names.INTERRUPTED
    return logging.WARNING if is_warning else logging.INFO


def call_fields(record: CallRecord) -> dict[str, Any]:
    """The fields of a call's line."""
    fields: dict[str, Any] = {}
    add_call(fields, record)
    return fields


def add_call(fields: dict[str, Any], record: CallRecord) -> None:
    """Adds the fields of a call; those that do not apply are left out."""
    call = record.call
    fields[names.REQUEST_ID] = call.request_id
    fields[names.OPERATION] = call.operation.name
    fields[names.DIALECT] = record.dialect
    fields[names.STREAM] = call.stream
    fields[names.REQUESTED_MODEL] = call.model[:CHARACTERS_AT_MOST]
    fields[names.STATUS] = record.status
    fields[names.DURATION_MS] = milliseconds(record.ended - record.started)
    fields[names.ATTEMPTS] = call.attempt_count
    if call.attempt_count > 1 or call.caller.certificate:
        add_way(fields, record)
    add_answer(fields, record)
    if call.rewrites:
        fields[names.REWRITES] = [rewrite.name[:CHARACTERS_AT_MOST] for rewrite in call.rewrites[:REWRITES_AT_MOST]]
    if record.error is None:
        return
    if isinstance(record.error, GatewayError):
        fields[names.MESSAGE] = record.error.message[:CHARACTERS_AT_MOST]
    elif record.status == names.INTERNAL:
        fields["exc_info"] = record.error


def add_answer(fields: dict[str, Any], record: CallRecord) -> None:
    """Adds the fields that tell who answered, what and when."""
    call = record.call
    if call.stream and record.first_event_at is not None:
        fields[names.TIME_TO_FIRST_TOKEN_MS] = milliseconds(record.first_event_at - record.started)
    if call.target is not None:
        fields[names.PROVIDER] = call.target.provider
    if record.response_model:
        fields[names.RESPONSE_MODEL] = record.response_model[:CHARACTERS_AT_MOST]
    reasons = record.finish_reasons
    if reasons:
        fields[names.FINISH_REASON] = reasons[min(reasons)][:CHARACTERS_AT_MOST]
    if record.usage is not None:
        add_usage(fields, record.usage)


def add_way(fields: dict[str, Any], record: CallRecord) -> None:
    """Adds the fields that tell by which certificate the call came, and who was asked in vain."""
    if record.call.caller.certificate:
        fields[names.CERTIFICATE] = record.call.caller.certificate[:CHARACTERS_AT_MOST]
    if record.call.attempt_count > 1:
        fields[names.FAILED_ATTEMPTS] = failed_attempts(record)


def failed_attempts(record: CallRecord) -> list[str]:
    """Who was asked and did not do, and why: "lab/tiny: provider_unreachable"."""
    return [
        f"{attempt.target.provider}/{attempt.target.model}: {attempt.status}"[:CHARACTERS_AT_MOST]
        for attempt in record.attempts
        if attempt.answer is None or attempt is not record.attempts[-1]
    ]


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with one digit after the point; `round` would take five times as long."""
    return int(seconds * 10_000 + 0.5) / 10


def add_usage(fields: dict[str, Any], usage: Tokens) -> None:
    """Adds the fields that tell how many tokens were used; those the provider did not tell of are left out."""
    fields[names.INPUT_TOKENS] = usage.prompt
    fields[names.OUTPUT_TOKENS] = usage.completion
    if usage.cached is not None:
        fields[names.CACHED_TOKENS] = usage.cached
    if usage.reasoning is not None:
        fields[names.REASONING_TOKENS] = usage.reasoning
