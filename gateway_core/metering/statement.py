"""What was used, in the contract's form."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate.v1 import error_reason_pb2 as reasons
from headgate.v1.model_pb2 import ModelPrice
from headgate.v1.token_usage_pb2 import CompletionTokensDetails, PromptTokensDetails, TokenUsage
from headgate.v1.usage_pb2 import (
    USAGE_STATUS_CANCELLED,
    USAGE_STATUS_FAILED,
    USAGE_STATUS_INTERRUPTED,
    USAGE_STATUS_OK,
    USAGE_STATUS_OPEN,
    UsageAttempt,
    UsageRecord,
    UsageStatus,
    UsageSummary,
)

from gateway_core.metering.price import usd_text
from gateway_core.metering.reserve import units_text
from gateway_core.storage.journal import PRICES
from gateway_core.storage.usage import Grouping, Sums
from gateway_core.timestamp import timestamp

STATUSES: dict[str, UsageStatus] = {
    "open": USAGE_STATUS_OPEN,
    "ok": USAGE_STATUS_OK,
    "cancelled": USAGE_STATUS_CANCELLED,
    "interrupted": USAGE_STATUS_INTERRUPTED,
}
REASONS = frozenset(reasons.ErrorReason.keys())
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PRICE_FIELDS = (
    "input_per_million",
    "cached_input_per_million",
    "cache_write_per_million",
    "output_per_million",
    "audio_input_per_million",
    "audio_output_per_million",
)


def record_message(row: Any, attempts: Sequence[Any]) -> UsageRecord:
    """A record of the ledger with its attempts."""
    is_open = row.status == "open"
    return UsageRecord(
        id=row.id,
        request_id=row.request_id,
        start_time=timestamp(row.started_us),
        account_id=row.account_id,
        key_id=row.key_id or "",
        gateway_id=row.gateway_id or "",
        gateway_version=row.gateway_version or 0,
        operation=row.operation,
        dialect=row.dialect or "",
        stream=row.streamed,
        requested_model=row.requested_model,
        response_model=row.response_model or "",
        provider=row.provider or "",
        status=STATUSES.get(row.status, USAGE_STATUS_FAILED),
        error_reason=error_reason(row.status),
        finish_reason=row.finish_reason or "",
        usage=charged_usage(row),
        price=price_message(row),
        price_multiplier=row.price_multiplier or "",
        cost_usd="" if is_open else usd_text(row.cost_pico_usd or 0),
        charged_usd="" if is_open else usd_text(row.charged_pico_usd),
        reserve_units=units_text(row.reserve_units) if row.reserve_units else "",
        duration_ms=milliseconds(row.duration_us),
        time_to_first_token_ms=milliseconds(row.time_to_first_token_us),
        tag=row.tag or "",
        metadata=row.metadata or {},
        attempts=[attempt_message(attempt, row) for attempt in attempts],
    )


def attempt_message(row: Any, request: Any) -> UsageAttempt:
    """An attempt of a call."""
    return UsageAttempt(
        start_time=timestamp(row.started_us),
        provider=row.provider,
        model=row.model,
        status=STATUSES.get(row.status, USAGE_STATUS_FAILED),
        error_reason=error_reason(row.status),
        http_status=row.http_status,
        usage=told_usage(row),
        price=price_message(request),
        cost_usd=usd_text(row.cost_pico_usd or 0),
        duration_ms=milliseconds(row.duration_us),
        time_to_first_token_ms=milliseconds(row.time_to_first_token_us),
    )


def summary_message(sums: Sums, grouping: Grouping | None) -> UsageSummary:
    """Sums of the ledger. No grouping: those of all."""
    usage = TokenUsage(
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        total_tokens=sums.prompt_tokens + sums.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=sums.cached_tokens, cache_write_tokens=sums.cache_write_tokens
        ),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=sums.reasoning_tokens),
    )
    return UsageSummary(
        group=group_text(sums.group, grouping),
        request_count=sums.request_count,
        failed_request_count=sums.failed_count,
        usage=usage,
        cost_usd=usd_text(sums.cost),
        charged_usd=usd_text(sums.charged),
    )


def group_text(group: str | int, grouping: Grouping | None) -> str:
    """What the calls of a summary have in common."""
    if grouping == "day":
        return f"{EPOCH + timedelta(days=int(group)):%Y-%m-%d}"
    if grouping == "hour":
        return f"{EPOCH + timedelta(hours=int(group)):%Y-%m-%dT%H}"
    return str(group)


def charged_usage(row: Any) -> TokenUsage | None:
    """The tokens that are charged: as told, and else what was delivered, estimated. None: not known."""
    told = told_usage(row)
    if told is not None or not row.delivered_tokens:
        return told
    prompt, completion = row.estimated_prompt_tokens or 0, row.delivered_tokens
    return TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def told_usage(row: Any) -> TokenUsage | None:
    """The tokens that the provider told. None: none."""
    if row.prompt_tokens is None and row.completion_tokens is None:
        return None
    prompt, completion = row.prompt_tokens or 0, row.completion_tokens or 0
    usage = TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
    prompt_details = (
        ("cached_tokens", row.cached_tokens),
        ("cache_write_tokens", row.cache_write_tokens),
        ("audio_tokens", row.prompt_audio_tokens),
    )
    for name, value in prompt_details:
        if value is not None:
            setattr(usage.prompt_tokens_details, name, value)
    for name, value in (("reasoning_tokens", row.reasoning_tokens), ("audio_tokens", row.completion_audio_tokens)):
        if value is not None:
            setattr(usage.completion_tokens_details, name, value)
    return usage


def price_message(row: Any) -> ModelPrice | None:
    """The prices at the time. None: not known."""
    given = {field: getattr(row, name) for field, name in zip(PRICE_FIELDS, PRICES, strict=True)}
    if not any(given.values()):
        return None
    return ModelPrice(**{field: text for field, text in given.items() if text is not None})


def error_reason(status: str) -> str:
    """Why a call failed, by the name of the reason. Unspecified unless it did."""
    if status in STATUSES:
        return "ERROR_REASON_UNSPECIFIED"
    name = f"ERROR_REASON_{status.upper()}"
    return name if name in REASONS else "ERROR_REASON_INTERNAL"


def milliseconds(microseconds: int | None) -> int | None:
    """A time of the database, rounded."""
    return None if microseconds is None else round(microseconds / 1000)
