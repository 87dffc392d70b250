"""The rows of a call are filled by position: each value is in the column that it is for."""

from typing import Any

import pytest

from gateway_core.metering.price import multiplier_of, price_of_texts
from gateway_core.metering.record import Asked, Attempt, Outcome, Record, undelivered
from gateway_core.storage.journal import JOURNALED, TOKENS
from gateway_core.storage.ledger import ATTEMPT, ENDED
from gateway_core.tokens import Tokens

TEXTS = ("1", "2", "3", "4", "5", "6")
TOLD = Tokens(10, 1, 2, 3, 20, 4, 5)


class Cover:
    """What pays instead of the balance."""

    taken_micro_units = 7
    micro_units = 7

    def of_cost(self, cost: int) -> int:
        """A unit for each picodollar."""
        return cost


ASKED = Asked(
    request_id="request", account_id="account", operation="chat", requested_model="model\0", stream=True, key_id="key",
    gateway_id="gateway", gateway_version=8, dialect="openai", tag="tag\0", metadata={"a": "b"},
    price=price_of_texts(TEXTS), multiplier=multiplier_of("1.5"), reserved=9, count_prompt=lambda: 11,
)  # fmt: skip
OPENED: dict[str, Any] = {
    "request_id": "request", "process_id": "process", "account_id": "account", "key_id": "key",
    "gateway_id": "gateway", "gateway_version": 8, "operation": "chat", "dialect": "openai", "streamed": True,
    "requested_model": "model\ufffd", "tag": "tag\ufffd", "metadata": '{"a":"b"}', "price_multiplier": "1.5",
    "reserved_pico_usd": 9, "input_usd_per_million": "1", "cached_input_usd_per_million": "2",
    "cache_write_usd_per_million": "3", "output_usd_per_million": "4", "input_audio_usd_per_million": "5",
    "output_audio_usd_per_million": "6",
}  # fmt: skip


def record_of(asked: Asked) -> Record:
    """A call a second old, whose answer has begun half a second ago."""
    record = Record(asked, "process")
    record.started -= 1.0
    record.measure.told = TOLD
    record.measure.characters = record.measure._characters_when_told = 8
    record.measure.first_event_at = record.started + 0.5
    record.measure.response_model = "tiny\0"
    record.measure.finish_reason = "stop"
    return record


def tried(record: Record, *ends: tuple[str, int | None]) -> list[Attempt]:
    """Attempts of a tenth of a second each, one after the other."""
    return [
        Attempt("lab", f"m{place}\0", status, record.started + place / 10, record.started + (place + 1) / 10, http, "u")
        for place, (status, http) in enumerate(ends)
    ]


@pytest.mark.parametrize("cover", [None, Cover()])
def test_an_opening_has_each_value_in_its_column(cover: Any) -> None:
    record = Record(ASKED._replace(cover=cover), "process")
    units = 0 if cover is None else 7
    own = {"id": record.id, "started_us": record.started_us, "reserve_units": units}
    assert dict(zip(JOURNALED, record.opening, strict=True)) == {**OPENED, **own}


def test_what_is_empty_is_none() -> None:
    record = Record(Asked("request", "account", "chat", "", False), "process")
    row = dict(zip(JOURNALED, record.opening, strict=True))
    empty = {name for name, value in row.items() if value is None}
    assert empty == {
        *("key_id", "gateway_id", "gateway_version", "dialect", "tag", "metadata", "price_multiplier"),
        *(name for name in JOURNALED if name.endswith("_usd_per_million")),
    }
    assert row["requested_model"] == ""


@pytest.mark.parametrize("cover", [None, Cover()])
def test_an_end_has_each_value_in_its_column(cover: Any) -> None:
    record = record_of(ASKED._replace(cover=cover))
    attempts = tried(record, ("provider_refused", 503), ("ok", 200))
    id_, account_id, charged, row, rows = record.closing(Outcome("ok", attempts))
    # 4 at 1, 1 at 2, 2 at 3, 3 at 5; 20 at 4, and 5 of them at 6 instead; all of it times 1.5.
    cost = (4 * 1 + 1 * 2 + 2 * 3 + 3 * 5 + 15 * 4 + 5 * 6) * 10**6 * 3 // 2
    assert (id_, account_id, charged) == (record.id, "account", cost if cover is None else 0)
    told = dict(zip(ENDED, row, strict=True))
    ended_us, duration_us = told.pop("ended_us"), told.pop("duration_us")
    assert 1_000_000 <= duration_us == ended_us - record.started_us
    tokens = dict(zip(TOKENS, TOLD, strict=True))
    assert told == {
        **OPENED,
        **tokens,
        "id": record.id,
        "started_us": record.started_us,
        "status": "ok",
        "response_model": "tiny\ufffd",
        "provider": "lab",
        "finish_reason": "stop",
        "attempt_count": 2,
        "estimated_prompt_tokens": None,
        "delivered_tokens": 2,
        "cost_pico_usd": cost,
        "charged_pico_usd": charged,
        "reserve_units": 0 if cover is None else cost,
        "time_to_first_token_us": 500_000,
    }
    first, second = (dict(zip(ATTEMPT, each, strict=True)) for each in rows)
    same = {"ledger_id": record.id, "provider": "lab", "upstream_request_id": "u", "duration_us": 100_000}
    assert first == {
        **same, **dict.fromkeys(TOKENS), "number": 1, "model": "m0\ufffd", "status": "provider_refused",
        "http_status": 503, "cost_pico_usd": 0, "started_us": record.started_us, "time_to_first_token_us": None,
    }  # fmt: skip
    assert second == {
        **same, **tokens, "number": 2, "model": "m1\ufffd", "status": "ok", "http_status": 200, "cost_pico_usd": cost,
        "started_us": record.started_us + 100_000, "time_to_first_token_us": 400_000,
    }  # fmt: skip


@pytest.mark.parametrize(("status", "completion"), [("ok", 20), ("cancelled", 22)])
def test_what_was_delivered_after_the_provider_told_is_added_only_where_the_answer_is_not_whole(
    status: str, completion: int
) -> None:
    record = record_of(ASKED)
    record.measure._characters_when_told = 0
    *_, row, rows = record.closing(Outcome(status, tried(record, (status, 200))))
    (attempt,) = (dict(zip(ATTEMPT, each, strict=True)) for each in rows)
    assert dict(zip(ENDED, row, strict=True))["completion_tokens"] == attempt["completion_tokens"] == completion


def test_an_attempt_that_did_not_answer_costs_nothing_though_it_told_something() -> None:
    record = record_of(ASKED)
    record.measure.first_event_at = None
    *_, row, rows = record.closing(Outcome("cancelled", tried(record, ("cancelled", None))))
    (attempt,) = (dict(zip(ATTEMPT, each, strict=True)) for each in rows)
    assert (attempt["cost_pico_usd"], attempt["prompt_tokens"], attempt["time_to_first_token_us"]) == (0, 10, None)
    assert dict(zip(ENDED, row, strict=True))["time_to_first_token_us"] is None


def test_a_call_without_attempts_or_price_has_neither() -> None:
    record = Record(ASKED._replace(price=None, stream=False), "process")
    record.provider = "lab"
    *_, charged, row, rows = record.closing(Outcome("cancelled"))
    told = dict(zip(ENDED, row, strict=True))
    assert (charged, rows, told["attempt_count"], told["provider"], told["cost_pico_usd"]) == (0, [], 0, "lab", None)
    assert {told[name] for name in TOKENS} == {None}


def test_a_whole_answer_that_is_not_delivered_is_free_in_each_row() -> None:
    record = record_of(ASKED._replace(stream=False))
    closing = record.closing(Outcome("ok", tried(record, ("ok", 200))))
    id_, account_id, charged, row, rows = undelivered(closing)
    assert (id_, account_id, charged) == (record.id, "account", 0)
    free = {"status": "unavailable", "cost_pico_usd": 0, "charged_pico_usd": 0, "reserve_units": 0}
    assert dict(zip(ENDED, row, strict=True)) == {**dict(zip(ENDED, closing[3], strict=True)), **free}
    assert [dict(zip(ATTEMPT, each, strict=True)) for each in rows] == [
        {**dict(zip(ATTEMPT, each, strict=True)), "cost_pico_usd": 0} for each in closing[4]
    ]
