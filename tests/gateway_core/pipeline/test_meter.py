import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage

from gateway_core.call import Call, Caller, Events, GatewayUse, Given, Next, Target
from gateway_core.config import Config, ModelConfig, TargetConfig
from gateway_core.errors import GatewayError, ProviderBroken, ProviderRefused
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.price import usd_text
from gateway_core.metering.record import Attempt
from gateway_core.pipeline import Stage, compose, fallback, meter, trace
from gateway_core.routing.board import Board
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.services.edge import answer_metadata
from gateway_core.storage.database import Database
from gateway_core.storage.location import SqliteFile
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.record import NO_SPAN, AttemptRecord, CallRecord
from tests.gateway_core.metering.rows import PRICE, attempts, charged_and_moved, requests, text, told, writer_of
from tests.rest_bridge.edge.eventually import eventually

MILLION = 10**6
Answer = Callable[[Call[Any]], Events]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(SqliteFile(tmp_path / "headgate.db")) as opened:
        yield opened


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    kept = Ledger(database)
    await kept.start()
    yield kept
    await kept.close()


def pipeline(ledger: Ledger, innermost: Next[Any], board: Board | None = None) -> Next[Any]:
    telemetry = Telemetry(Config())
    stages: list[tuple[str, Stage]] = [
        ("trace", trace.Stage(telemetry)),
        ("meter", meter.Stage(ledger, {"small": PRICE})),
        ("fallback", fallback.Stage(telemetry, board or Board(Config()))),
    ]
    return compose(stages, innermost)


def call(*, stream: bool = True, **values: Any) -> Call[ChatCompletionSpec]:
    messages = [ChatMessage(role=ROLE_USER, text="eight ch")]
    spec = ChatCompletionSpec(model="small", messages=messages, metadata={"team": "x"})
    targets = (Target("a", "m"), Target("b", "m"))
    return Call("id", ChatCompletion(), spec, stream=stream, **{"targets": targets, **values})


def answering(*events: ChatCompletionChunk | Exception) -> Next[Any]:
    async def answer() -> Events:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event

    async def ask(_: Call[Any]) -> Events:
        return answer()

    return ask


async def test_the_record_is_open_before_anything_goes_upstream(database: Database, ledger: Ledger) -> None:
    found: list[str] = []

    async def ask(_: Call[Any]) -> Events:
        found.extend(row["status"] for row in await requests(database))
        return Given(told(1, 1))

    await pipeline(ledger, ask)(call(stream=False))
    assert found == ["open"]


async def test_the_record_is_closed_before_the_caller_sees_the_end(database: Database, ledger: Ledger) -> None:
    events = await pipeline(ledger, answering(text("hello"), told(10, 3)))(call())
    assert [row["status"] for row in await requests(database)] == ["open"]
    seen = [event async for event in events]
    (row,) = await requests(database)
    assert len(seen) == 2
    assert (row["status"], row["cost_pico_usd"], row["metadata"]) == ("ok", 16 * MILLION, {"team": "x"})


async def test_the_chunk_with_the_usage_has_the_cost(ledger: Ledger) -> None:
    asked = call()
    events = [event async for event in await pipeline(ledger, answering(text("hello"), told(10, 3)))(asked)]
    assert events[1].usage.cost_usd == "0.000016"
    assert not events[0].HasField("usage")
    assert ("x-headgate-cost", "0.000016") in answer_metadata(asked)


async def test_a_whole_answer_tells_its_cost_and_keeps_its_json(ledger: Ledger) -> None:
    async def ask(_: Call[Any]) -> Events:
        return Given(told(10, 3), json=b"{}")

    asked = call(stream=False)
    answer = await pipeline(ledger, ask)(asked)
    assert isinstance(answer, Given)
    assert answer.json == b"{}"
    assert ("x-headgate-cost", "0.000016") in answer_metadata(asked)


async def test_what_the_plan_multiplies_is_charged_and_what_was_reserved_is_released(
    database: Database, ledger: Ledger
) -> None:
    asked = call(stream=False, price_multiplier=(3, 2, "1.5"), reserved_pico_usd=50 * MILLION)
    await pipeline(ledger, answering(told(10, 3)))(asked)
    (row,) = await requests(database)
    assert (row["cost_pico_usd"], row["reserved_pico_usd"]) == (24 * MILLION, 50 * MILLION)
    assert row["price_multiplier"] == "1.5"
    assert await charged_and_moved(database) == (24 * MILLION, 24 * MILLION, 0)


async def test_who_asked_and_what_is_kept(database: Database, ledger: Ledger) -> None:
    asked = call(
        caller=Caller(account_id="", key_id="key", default_tag="usual"),
        gateway=GatewayUse("gateway", "slug", 4),
        metadata={"x-headgate-dialect": "openai"},
    )
    async for _ in await pipeline(ledger, answering(told(1, 1)))(asked):
        pass
    (row,) = await requests(database)
    assert (row["key_id"], row["tag"], row["gateway_id"], row["gateway_version"]) == ("key", "usual", "gateway", 4)
    assert (row["dialect"], row["operation"], row["requested_model"], row["streamed"]) == (
        "openai",
        "chat",
        "slug",
        True,
    )
    assert Decimal(row["input_usd_per_million"]) == 1


async def test_the_first_words_of_a_stream_are_on_their_way_into_the_journal_with_them(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "checkpoint", lambda: None)
    events = await pipeline(ledger, answering(text(""), text("four"), text("more")))(call())
    async with aclosing(events):
        await anext(events)
        assert not writer_of(ledger)._batch.behind
        await anext(events)
        (record,) = writer_of(ledger)._batch.behind.values()
        await eventually(lambda: record.checkpointed == len("four"))
        await ledger._writer.finish()
        (row,) = await requests(database)
        assert (row["status"], row["delivered_tokens"], row["estimated_prompt_tokens"]) == ("open", 1, 8)


async def test_a_caller_that_leaves_is_charged_for_what_it_got(database: Database, ledger: Ledger) -> None:
    events = await pipeline(ledger, answering(text("four"), text("more"), told(99, 99)))(call())
    async with aclosing(events):
        await anext(events)
    await ledger.close()
    (row,) = await requests(database)
    assert (row["status"], row["charged_pico_usd"]) == ("cancelled", (8 + 1 * 2) * MILLION)
    assert await charged_and_moved(database) == (10 * MILLION, 10 * MILLION, 0)


async def test_a_caller_that_leaves_before_the_first_event_is_charged_nothing(
    database: Database, ledger: Ledger
) -> None:
    events = await pipeline(ledger, answering(text("four")))(call())
    await events.aclose()
    await ledger.close()
    assert [(row["status"], row["charged_pico_usd"]) for row in await requests(database)] == [("cancelled", 0)]


async def test_a_caller_that_leaves_while_a_provider_is_asked_is_charged_nothing(
    database: Database, ledger: Ledger
) -> None:
    asking = asyncio.Event()

    async def ask(_: Call[Any]) -> Events:
        asking.set()
        await asyncio.Event().wait()
        raise AssertionError

    opening = asyncio.create_task(_awaited(pipeline(ledger, ask)(call(stream=False))))
    await asking.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await ledger.close()
    assert [(row["status"], row["charged_pico_usd"]) for row in await requests(database)] == [("cancelled", 0)]


async def _awaited(opening: Any) -> Any:
    return await opening


async def test_an_answer_that_breaks_off_is_charged_with_what_was_delivered(database: Database, ledger: Ledger) -> None:
    events = await pipeline(ledger, answering(text("four"), ProviderBroken("It broke off.", provider="a")))(call())
    with pytest.raises(ProviderBroken):
        _ = [event async for event in events]
    (row,) = await requests(database)
    assert (row["status"], row["charged_pico_usd"]) == ("provider_broken", (8 + 1 * 2) * MILLION)


async def test_fallback_charges_once_and_failed_attempts_nothing(database: Database, ledger: Ledger) -> None:
    async def ask(asked: Call[Any]) -> Events:
        assert asked.target is not None
        asked.upstream_request_id = f"req_{asked.target.provider}"
        if asked.target.provider == "a":
            raise ProviderRefused("It is busy.", provider="a", upstream_status="503")
        return Given(told(10, 3))

    _ = [event async for event in await pipeline(ledger, ask)(call())]
    (row,) = await requests(database)
    assert (row["provider"], row["attempt_count"], row["charged_pico_usd"]) == ("b", 3, 16 * MILLION)
    found = [
        (each["provider"], each["status"], each["http_status"], each["cost_pico_usd"])
        for each in await attempts(database)
    ]
    assert found == [*[("a", "provider_refused", 503, 0)] * 2, ("b", "ok", 200, 16 * MILLION)]
    assert [each["upstream_request_id"] for each in await attempts(database)] == ["req_a", "req_a", "req_b"]
    assert usd_text(16 * MILLION) == "0.000016"


async def test_who_loses_a_race_has_a_row_and_costs_nothing(database: Database, ledger: Ledger) -> None:
    async def ask(asked: Call[Any]) -> Events:
        assert asked.target is not None
        asked.upstream_request_id = f"req_{asked.target.provider}"
        if asked.target.provider == "a":
            await asyncio.sleep(0.05)
        return answer(asked.target.provider)

    async def answer(provider: str) -> Events:
        if provider == "b":
            await asyncio.Event().wait()
        yield told(10, 3)

    targets = (TargetConfig(provider="echo", model="a"), TargetConfig(provider="echo", model="b"))
    board = Board(Config(models={"small": ModelConfig(targets=targets, hedge=True)}))
    asked = call()
    route = asked.route = board.made_route("small", asked.targets)
    for _ in range(20):
        route.state.percentile.add(0.01)
    _ = [event async for event in await pipeline(ledger, ask, board)(asked)]
    (row,) = await requests(database)
    assert (row["provider"], row["attempt_count"], row["charged_pico_usd"]) == ("a", 2, 16 * MILLION)
    found = [
        (each["provider"], each["status"], each["http_status"], each["cost_pico_usd"], each["upstream_request_id"])
        for each in await attempts(database)
    ]
    assert found == [("b", "cancelled", None, 0, "req_b"), ("a", "ok", 200, 16 * MILLION, "req_a")]


async def test_a_call_that_fails_everywhere_is_closed_and_free(database: Database, ledger: Ledger) -> None:
    async def ask(_: Call[Any]) -> Events:
        raise ProviderRefused("It is busy.", provider="a", upstream_status="503")

    with pytest.raises(GatewayError):
        await pipeline(ledger, ask)(call())
    (row,) = await requests(database)
    assert (row["status"], row["charged_pico_usd"], row["attempt_count"]) == ("provider_refused", 0, 4)


async def test_where_the_provider_tells_no_usage_it_is_estimated(database: Database, ledger: Ledger) -> None:
    _ = [event async for event in await pipeline(ledger, answering(text("eight ch")))(call())]
    (row,) = await requests(database)
    assert (row["prompt_tokens"], row["estimated_prompt_tokens"], row["delivered_tokens"]) == (None, 8, 2)
    assert row["charged_pico_usd"] == (8 + 2 * 2) * MILLION


def test_an_attempt_is_told_as_the_telemetry_saw_it() -> None:
    asked = call()
    ends: list[tuple[str, BaseException | None, bool, int | None]] = [
        ("", None, False, None),
        ("", None, True, 200),
        ("ok", None, True, 200),
        ("internal", ValueError("It is a fault."), False, None),
        ("provider_broken", ProviderBroken("It broke off.", provider="a"), False, None),
        ("provider_broken", ProviderBroken("It broke off.", provider="a"), True, 200),
        ("provider_refused", ProviderRefused("No.", provider="a", upstream_status="429"), False, 429),
        ("provider_refused", ProviderRefused("No.", provider="a", upstream_status="503"), True, 503),
    ]
    seen = []
    for number, (how, error, is_answered, _) in enumerate(ends, 1):
        one = AttemptRecord(asked, Target("a", "m"), number, None)
        one.status, one.error, one.upstream_request_id = how, error, f"u{number}"
        one.ended = one.started + 1 if how else 0.0
        one.answer = CallRecord(asked, NO_SPAN) if is_answered else None
        seen.append(one)
    found = [Attempt(*each) for each in meter.tried(seen, "cancelled")]
    assert [(each.provider, each.model, each.status, each.http_status) for each in found] == [
        ("a", "m", how or "cancelled", http_status) for how, _, _, http_status in ends
    ]
    assert [each.upstream_request_id for each in found] == [f"u{number}" for number in range(1, len(ends) + 1)]
    assert [each.started for each in found] == [one.started for one in seen]
    now = time.perf_counter()
    for one, each in zip(seen, found, strict=True):
        assert each.ended == one.ended if one.status else one.started < each.ended <= now
