"""Records as a CSV document (RFC 4180): a line of names, then a line for each record."""

import csv
import io
from collections.abc import Iterable

import orjson
from headgate.v1.error_reason_pb2 import ErrorReason
from headgate.v1.usage_pb2 import UsageRecord, UsageStatus

TEXTS = (
    *("id", "request_id", "account_id", "key_id", "gateway_id", "gateway_version", "operation", "dialect", "stream"),
    *("requested_model", "response_model", "provider", "finish_reason", "cost_usd", "charged_usd", "reserve_units"),
    *("price_multiplier", "tag"),
)
COLUMNS = (
    "start_time",
    *TEXTS,
    *("status", "error_reason", "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens"),
    *("reasoning_tokens", "duration_ms", "time_to_first_token_ms", "attempt_count", "metadata"),
    "upstream_request_id",
)


def lines(records: Iterable[tuple[UsageRecord, str]], *, with_names: bool) -> bytes:
    """The lines of records, after that of the names where they are the first. What is not known is empty.

    Beside each record stands what the provider calls the last request that it got.
    """
    written = io.StringIO()
    writer = csv.writer(written)
    if with_names:
        writer.writerow(COLUMNS)
    writer.writerows([*cells(record), upstream_request_id] for record, upstream_request_id in records)
    return written.getvalue().encode()


def cells(record: UsageRecord) -> list[object]:
    """The cells of a record, in the order of COLUMNS but the last."""
    usage = record.usage if record.HasField("usage") else None
    prompt = usage.prompt_tokens_details if usage is not None else None
    completion = usage.completion_tokens_details if usage is not None else None
    reason = ErrorReason.Name(record.error_reason).removeprefix("ERROR_REASON_").lower()
    return [
        record.start_time.ToJsonString(),
        *(text(getattr(record, name)) for name in TEXTS),
        UsageStatus.Name(record.status).removeprefix("USAGE_STATUS_").lower(),
        reason if record.error_reason else "",
        usage.prompt_tokens if usage is not None else "",
        prompt.cached_tokens if prompt is not None and prompt.HasField("cached_tokens") else "",
        prompt.cache_write_tokens if prompt is not None and prompt.HasField("cache_write_tokens") else "",
        usage.completion_tokens if usage is not None else "",
        completion.reasoning_tokens if completion is not None and completion.HasField("reasoning_tokens") else "",
        record.duration_ms if record.HasField("duration_ms") else "",
        record.time_to_first_token_ms if record.HasField("time_to_first_token_ms") else "",
        len(record.attempts),
        orjson.dumps(dict(record.metadata), option=orjson.OPT_SORT_KEYS).decode() if record.metadata else "",
    ]


def text(value: object) -> object:
    """A cell: truth in JSON's words."""
    return ("false", "true")[value] if isinstance(value, bool) else value
