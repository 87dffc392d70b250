"""The stage that sees how every call ends."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events
from gateway_core.chat import chat_of
from gateway_core.config import Config
from gateway_core.errors import GatewayError, Internal, ModelNotFound, ProviderBroken, ProviderUnreachable
from gateway_core.pipeline.trace import Stage
from gateway_core.telemetry import Telemetry
from tests.gateway_core.telemetry.calls import LAB, attempting, finish, new_call, opens, refuses, text
from tests.gateway_core.telemetry.conftest import Log, log, unconfigured

__all__ = ["log", "unconfigured"]  # fixtures


@pytest.fixture
def telemetry(log: Log) -> Telemetry:
    return Telemetry(Config(), {})


class Upstream:
    """A provider whose answer pauses after the first event, and tells when its connection is closed."""

    def __init__(self) -> None:
        self.paused = asyncio.Event()
        self.closed = False

    async def __call__(self, call: Call[Any]) -> Events:
        return self._events()

    async def _events(self) -> AsyncGenerator[ChatCompletionChunk, None]:
        try:
            yield text("a")
            self.paused.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


class Held:
    """What somebody holds while a call runs."""


async def read(events: Events) -> list[ChatCompletionChunk]:
    return [event async for event in events]


def ended_once(telemetry: Telemetry, log: Log) -> dict[str, Any]:
    """The line of the one call, which every part of the telemetry tells of once."""
    telemetry.tell()  # what the next turn of the loop would
    (line,) = log.calls
    labels = {"operation": "chat", "dialect": "grpc", "status": line["status"]}
    assert telemetry.metrics.registry.get_sample_value("headgate_calls_total", labels) == 1
    assert telemetry.calls_in_flight == 0
    return line


async def test_the_events_pass_as_they_are(telemetry: Telemetry) -> None:
    sent = [text("a"), text("b"), finish()]
    received = await read(await Stage(telemetry)(new_call(), opens(sent)))
    assert len(received) == 3
    assert all(one is other for one, other in zip(received, sent, strict=True))


async def test_a_call_that_ends_well_is_told_with_what_its_events_told(telemetry: Telemetry, log: Log) -> None:
    below = attempting(telemetry, (LAB, opens([text("a"), finish(prompt_tokens=1), finish(prompt_tokens=12)])))
    events = await Stage(telemetry)(new_call(), below)
    assert telemetry.calls_in_flight == 1
    assert not log.lines
    await read(events)
    line = ended_once(telemetry, log)
    assert line["status"] == "ok"
    assert line["time_to_first_token_ms"] <= line["duration_ms"]
    told = [line[key] for key in ("provider", "response_model", "finish_reason", "input_tokens", "output_tokens")]
    assert told == ["lab", "tiny-2026", "stop", 12, 5]


async def test_a_call_that_does_not_open_is_told(telemetry: Telemetry, log: Log) -> None:
    with pytest.raises(ModelNotFound):
        await Stage(telemetry)(new_call(), refuses(ModelNotFound("There is none.", param="model", model="small")))
    line = ended_once(telemetry, log)
    assert (line["status"], line["message"], line["attempts"]) == ("model_not_found", "There is none.", 0)
    assert "provider" not in line


async def test_the_attempts_below_are_told_and_the_last_failure_is_the_calls(telemetry: Telemetry, log: Log) -> None:
    failures: list[GatewayError] = [
        ProviderUnreachable("lab refused.", provider="lab"),
        ProviderBroken("lab broke off.", provider="lab"),
    ]
    with pytest.raises(ProviderBroken):
        await Stage(telemetry)(new_call(), attempting(telemetry, *((LAB, refuses(failure)) for failure in failures)))
    line = ended_once(telemetry, log)
    assert (line["status"], line["attempts"], line["level"]) == ("provider_broken", 2, "warning")
    for outcome in ("provider_unreachable", "provider_broken"):
        labels = {"provider": "lab", "outcome": outcome}
        assert telemetry.metrics.registry.get_sample_value("headgate_attempts_total", labels) == 1


async def test_an_answer_that_breaks_off_is_told_with_what_came_before(telemetry: Telemetry, log: Log) -> None:
    broken = ProviderBroken("lab broke off.", provider="lab")
    events = await Stage(telemetry)(new_call(), attempting(telemetry, (LAB, opens([text("a")], then=broken))))
    with pytest.raises(ProviderBroken):
        await read(events)
    line = ended_once(telemetry, log)
    assert (line["status"], line["response_model"]) == ("provider_broken", "tiny-2026")
    labels = {"provider": "lab", "outcome": "provider_broken"}
    assert telemetry.metrics.registry.get_sample_value("headgate_attempts_total", labels) == 1


@pytest.mark.parametrize("opened", [False, True])
async def test_a_fault_of_ours_is_logged_in_full_and_told_without_detail(
    telemetry: Telemetry, log: Log, opened: bool
) -> None:
    fault = ZeroDivisionError("by zero")
    below = opens([text("a")], then=fault) if opened else refuses(fault)
    with pytest.raises(Internal) as raised:
        await read(await Stage(telemetry)(new_call(), below))
    assert raised.value.__cause__ is fault
    assert "zero" not in raised.value.message
    line = ended_once(telemetry, log)
    assert (line["status"], line["level"]) == ("internal", "error")
    assert line["exception"].splitlines()[-1] == "ZeroDivisionError: by zero"


async def test_a_caller_who_cancels_while_it_opens_is_told_as_cancelled(telemetry: Telemetry, log: Log) -> None:
    opening = asyncio.Event()

    async def never(call: Call[Any]) -> Events:
        opening.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(Stage(telemetry)(new_call(), attempting(telemetry, (LAB, never))))
    await opening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended_once(telemetry, log)["status"] == "cancelled"
    labels = {"provider": "lab", "outcome": "cancelled"}
    assert telemetry.metrics.registry.get_sample_value("headgate_attempts_total", labels) == 1


async def test_a_caller_who_cancels_while_it_waits_for_an_event_is_told_as_cancelled(
    telemetry: Telemetry, log: Log
) -> None:
    upstream = Upstream()

    async def serve() -> None:
        await read(await Stage(telemetry)(new_call(), attempting(telemetry, (LAB, upstream))))

    task = asyncio.create_task(serve())
    await upstream.paused.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.closed
    assert ended_once(telemetry, log)["status"] == "cancelled"


async def test_once_the_server_ends_it_is_not_the_caller_who_cancels(telemetry: Telemetry, log: Log) -> None:
    upstream = Upstream()
    events = await Stage(telemetry)(new_call(), attempting(telemetry, (LAB, upstream)))
    await anext(events)
    telemetry.end_comes()
    await events.aclose()
    line = ended_once(telemetry, log)
    assert (line["status"], line["level"]) == ("interrupted", "warning")
    labels = {"provider": "lab", "outcome": "interrupted"}
    assert telemetry.metrics.registry.get_sample_value("headgate_attempts_total", labels) == 1


async def test_a_caller_who_stops_reading_is_told_as_cancelled_and_the_answer_below_is_closed(
    telemetry: Telemetry, log: Log
) -> None:
    upstream = Upstream()
    events = await Stage(telemetry)(new_call(), upstream)
    await anext(events)
    await events.aclose()
    assert upstream.closed
    assert ended_once(telemetry, log)["status"] == "cancelled"


async def test_a_caller_who_leaves_before_the_first_event_is_told_as_cancelled(telemetry: Telemetry, log: Log) -> None:
    events = await Stage(telemetry)(new_call(), opens([text("a")]))
    await events.aclose()
    assert ended_once(telemetry, log)["status"] == "cancelled"


@pytest.mark.parametrize("is_left", [True, False])
async def test_what_a_call_held_is_free_once_it_has_failed_and_was_told_of(
    telemetry: Telemetry, log: Log, is_left: bool
) -> None:
    async def refuse(call: Call[Any]) -> Events:
        raise ProviderUnreachable("Nobody is there.")

    upstream = Upstream() if is_left else refuse
    held: list[weakref.ref[Held]] = []

    async def calling() -> None:
        own = Held()
        held.append(weakref.ref(own))
        with suppress(GatewayError):
            await read(await Stage(telemetry)(new_call(), attempting(telemetry, (LAB, upstream))))

    gc.disable()  # no cycle may keep it
    try:
        task = asyncio.create_task(calling())
        if isinstance(upstream, Upstream):
            await upstream.paused.wait()
            task.cancel()
        await asyncio.wait({task})
        del task
        ended_once(telemetry, log)
        await asyncio.sleep(0)
        assert held[0]() is None
    finally:
        gc.enable()


async def test_an_answer_that_nobody_closes_is_told_when_it_is_collected(telemetry: Telemetry, log: Log) -> None:
    events = await Stage(telemetry)(new_call(), opens([text("a")]))
    del events
    gc.collect()
    for _ in range(1000):  # the loop closes it in a task of its own
        if log.calls:
            break
        await asyncio.sleep(0)
    assert ended_once(telemetry, log)["status"] == "cancelled"


async def test_a_unary_call_has_ended_once_it_is_open(telemetry: Telemetry, log: Log) -> None:
    events = await Stage(telemetry)(new_call(stream=False), opens([finish()]))
    line = ended_once(telemetry, log)
    assert (line["status"], line["output_tokens"]) == ("ok", 5)
    assert await read(events) == [finish()]


async def test_a_unary_call_whose_answer_breaks_off_is_told_so(telemetry: Telemetry, log: Log) -> None:
    broken = ProviderBroken("lab broke off.", provider="lab")
    with pytest.raises(ProviderBroken):
        await Stage(telemetry)(new_call(stream=False), opens([text("a")], then=broken))
    assert ended_once(telemetry, log)["status"] == "provider_broken"


async def test_a_unary_call_that_is_cancelled_while_it_is_read_is_told_as_cancelled(
    telemetry: Telemetry, log: Log
) -> None:
    upstream = Upstream()
    task = asyncio.ensure_future(Stage(telemetry)(new_call(stream=False), upstream))
    await upstream.paused.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.closed
    assert ended_once(telemetry, log)["status"] == "cancelled"


async def test_calls_are_told_at_the_next_turn_of_the_loop_all_in_order(telemetry: Telemetry, log: Log) -> None:
    for number in range(3):
        await Stage(telemetry)(new_call(request_id=f"r-{number}", stream=False), opens([finish()]))
    assert not log.lines
    await asyncio.sleep(0)
    assert [line["request_id"] for line in log.calls] == ["r-0", "r-1", "r-2"]


async def test_what_was_not_told_is_told_when_it_closes(telemetry: Telemetry, log: Log) -> None:
    await Stage(telemetry)(new_call(stream=False), opens([finish()]))
    await telemetry.close()
    assert ended_once(telemetry, log)["status"] == "ok"


@pytest.mark.parametrize(("seconds_left", "status"), [(-0.001, "deadline_exceeded"), (60, "cancelled")])
async def test_a_call_cancelled_at_its_deadline_is_told_as_overdue(
    telemetry: Telemetry, log: Log, seconds_left: float, status: str
) -> None:
    call = new_call()
    call.deadline = asyncio.get_running_loop().time() + seconds_left
    with pytest.raises(asyncio.CancelledError):
        await Stage(telemetry)(call, refuses(asyncio.CancelledError()))
    assert ended_once(telemetry, log)["status"] == status


async def test_all_the_answers_of_a_call_may_end_for_reasons_of_their_own(telemetry: Telemetry, log: Log) -> None:
    event = ChatCompletionChunk()
    event.choices.add(index=1, finish_reason="length")
    event.choices.add(index=0, finish_reason="content_filter")
    await read(await Stage(telemetry)(new_call(), opens([event])))
    assert ended_once(telemetry, log)["finish_reason"] == "content_filter"


async def test_a_call_inside_a_call_keeps_its_attempts_to_itself(telemetry: Telemetry, log: Log) -> None:
    stage = Stage(telemetry)
    inner = new_call(request_id="inner")

    async def asks_another(call: Call[Any]) -> Events:
        await read(await stage(inner, attempting(telemetry, (LAB, opens([text("x", model="inner-model"), finish()])))))
        return await attempting(telemetry, (LAB, opens([text("y", model="outer-model")])))(call)

    await read(await stage(new_call(request_id="outer"), asks_another))
    telemetry.tell()
    models = {line["request_id"]: line["response_model"] for line in log.calls}
    assert models == {"inner": "inner-model", "outer": "outer-model"}
    answered_by = {
        sample.labels["gen_ai_response_model"]
        for family in telemetry.metrics.registry.collect()
        if family.name == "gen_ai_client_operation_duration_seconds"
        for sample in family.samples
    }
    assert answered_by == {"inner-model", "outer-model"}


async def test_an_attempt_outside_of_a_traced_call_is_counted_all_the_same(telemetry: Telemetry) -> None:
    call = new_call()
    call.target, call.attempt_count = LAB, 1
    telemetry.attempts.failed(telemetry.attempts.begin(call), ProviderUnreachable("lab refused.", provider="lab"))
    labels = {"provider": "lab", "outcome": "provider_unreachable"}
    assert telemetry.metrics.registry.get_sample_value("headgate_attempts_total", labels) == 1


async def test_a_stream_that_is_open_keeps_its_request_and_nothing_that_was_read_of_it(
    telemetry: Telemetry, log: Log
) -> None:
    call = new_call(stream=True)
    asked = call.request

    async def reads(call: Call[Any]) -> Events:
        assert chat_of(call).fields["model"] == asked.model
        return await opens([finish()])(call)

    events = await Stage(telemetry)(call, reads)
    assert call.reading is None
    assert call.request is asked
    assert await read(events) == [finish()]
