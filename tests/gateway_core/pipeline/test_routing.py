"""What the stages `route` and `fallback` do with circuits, limits, slow targets, hedges and beginnings held back."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Events
from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.listing import Listing
from gateway_core.config import CircuitConfig, Config, ModelConfig, ProviderConfig, RoutingConfig, TargetConfig
from gateway_core.errors import ConcurrencyLimited, InvalidRequest, ProviderBroken, ProviderRefused, ProviderTimeout
from gateway_core.pipeline import Stage, compose, fallback, route, trace
from gateway_core.routing import state
from gateway_core.routing.board import Board
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.services.edge import attempts_text
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.record import CallRecord
from tests.support.upstream import reached

Script = Callable[[Call[Any]], Events]


def said(text: str = "", finish: str | None = None) -> ChatCompletionChunk:
    event = ChatCompletionChunk(model="tiny")
    choice = event.choices.add()
    choice.delta.content = text
    if finish is not None:
        choice.finish_reason = finish
    return event


async def whole(name: str) -> Events:
    yield said()
    yield said(f"from {name}")
    yield said(finish="stop")


class World:
    """Two targets, "a/m" and "b/m", whose answers are scripted; time passes when it is told to."""

    def __init__(self, targets: tuple[TargetConfig, ...] = (), routing: RoutingConfig | None = None, **row: Any):
        self.now = 1000.0
        self.slept: list[float] = []
        self.asked: list[str] = []
        self.closed: list[str] = []
        self.scripts: dict[str, Callable[[], Any]] = {}
        targets = targets or (TargetConfig(provider="a", model="m"), TargetConfig(provider="b", model="m"))
        config = Config(
            providers={name: ProviderConfig(kind="echo") for name in ("a", "b")},
            models={"small": ModelConfig(targets=targets, **row)},
            routing=routing or RoutingConfig(),
        )
        self.board = Board(config, clock=lambda: self.now)
        self.telemetry = Telemetry(config, {})
        catalog = Catalog(config, Listing({}, every_seconds=60))
        stages: list[tuple[str, Stage]] = [
            ("trace", trace.Stage(self.telemetry)),
            ("route", route.Stage(catalog, self.board)),
            ("fallback", fallback.Stage(self.telemetry, self.board, sleep=self.sleep)),
        ]
        self.pipeline = compose(stages, self.ask)
        self.calls: list[Call[Any]] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def ask(self, call: Call[Any]) -> Events:
        assert call.target is not None
        name = call.target.provider
        self.asked.append(name)
        script = self.scripts.get(name)
        answer = script() if script is not None else whole(name)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return self.watched(name, answer)

    async def watched(self, name: str, events: Events) -> Events:
        try:
            async for event in events:
                yield event
        finally:
            self.closed.append(name)

    async def call(self, **values: Any) -> Events:
        made = Call("id", ChatCompletion(), ChatCompletionSpec(model="small"), stream=True, **values)
        self.calls.append(made)
        return await self.pipeline(made)

    async def answer(self, **values: Any) -> str:
        events = [event async for event in await self.call(**values)]
        assert events[-1].choices[0].finish_reason == "stop"
        return "".join(event.choices[0].delta.content for event in events)


def failing(status: int = 500, **more: Any) -> Callable[[], Any]:
    async def script() -> Events:
        raise ProviderRefused("No.", provider="a", upstream_status=str(status), **more)

    return script


async def hanging() -> Events:
    await asyncio.Event().wait()
    raise AssertionError


async def silent_after_the_role() -> AsyncIterator[ChatCompletionChunk]:
    yield said()
    await asyncio.Event().wait()


async def breaking_after_a_word() -> AsyncIterator[ChatCompletionChunk]:
    yield said("Wro")
    raise ProviderBroken("It broke off.", provider="a")


async def test_a_target_that_fails_is_left_alone_and_is_used_again_when_it_is_well() -> None:
    world = World(routing=RoutingConfig(circuit=CircuitConfig(failures=4, open_seconds=10)))
    world.scripts["a"] = failing(500)
    for _ in range(6):
        assert await world.answer() == "from b"
    assert world.asked == [*["a", "a", "b"] * 2, *["b"] * 4]
    assert world.board.is_served("small")
    world.now += 10
    del world.scripts["a"]
    assert [await world.answer() for _ in range(3)] == ["from a"] * 3


async def test_where_all_circuits_are_open_the_first_that_opened_is_tried() -> None:
    world = World(routing=RoutingConfig(circuit=CircuitConfig(failures=1, failure_rate=0.1)))
    world.scripts |= {"a": failing(500), "b": failing(500)}
    with pytest.raises(ProviderRefused):
        await world.answer()
    assert world.board.is_served("small") is False
    world.asked.clear()
    del world.scripts["a"]
    assert await world.answer() == "from a"
    assert world.asked == ["a"]


async def test_only_one_call_at_a_time_tries_a_target_that_failed() -> None:
    world = World(routing=RoutingConfig(circuit=CircuitConfig(failures=1, failure_rate=0.1)))
    world.scripts["a"] = failing(401)
    assert await world.answer() == "from b"
    world.now += 10
    world.scripts["a"] = hanging
    trying = asyncio.create_task(world.answer())
    await asyncio.sleep(0)
    assert await world.answer() == "from b"
    trying.cancel()
    await asyncio.wait((trying,))
    del world.scripts["a"]
    assert await world.answer() == "from a", "who was cancelled leaves the place to another"


async def test_who_tries_a_target_that_is_still_silent_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "TRY_SECONDS", 0.01)
    world = World(routing=RoutingConfig(circuit=CircuitConfig(failures=1, failure_rate=0.1)))
    world.scripts["a"] = failing(401)
    assert await world.answer() == "from b"
    world.now += 10
    world.scripts["a"] = hanging
    world.asked.clear()
    assert [await world.answer() for _ in range(3)] == ["from b"] * 3
    assert world.asked == ["a", "b", "b", "b"]
    assert attempts_text(world.calls[1]) == "a/m=cancelled, b/m=ok"
    world.now += 10
    del world.scripts["a"]
    assert await world.answer() == "from a"


async def test_a_target_that_is_slow_and_well_is_waited_for_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "TRY_SECONDS", 0.01)
    world = World(routing=RoutingConfig(circuit=CircuitConfig(failures=1, failure_rate=0.1)))
    world.scripts["a"] = failing(401)
    assert await world.answer() == "from b"

    async def slow() -> Events:
        await asyncio.sleep(0.05)
        return whole("a")

    world.scripts |= {"a": slow}
    answers = []
    for _ in range(6):
        world.now += 10
        answers.append(await world.answer())
    assert answers[0] == "from b"
    assert answers[-1] == "from a"


async def test_a_wait_that_is_told_is_waited_for_and_a_long_one_is_not() -> None:
    world = World()
    world.scripts["a"] = failing(429, retry_after_seconds=1.5)
    assert await world.answer() == "from b"
    assert (world.slept, world.asked) == ([1.5], ["a", "a", "b"])
    world.asked.clear()
    assert await world.answer() == "from b"
    assert world.asked == ["b"], "for as long as it told, other calls leave it alone too"
    world.now += 2
    world.scripts["a"] = failing(429, retry_after_seconds=600)
    world.asked.clear()
    assert await world.answer() == "from b"
    assert (world.slept, world.asked) == ([1.5], ["a", "b"])
    del world.scripts["a"]
    world.now += 25
    assert await world.answer() == "from a", "and no longer than 25 seconds, whatever it told"


async def test_a_wait_is_by_chance_and_within_its_bounds() -> None:
    world = World(routing=RoutingConfig(backoff_seconds=0.4))
    world.scripts["a"] = failing(429)
    await asyncio.gather(*(world.answer() for _ in range(4)))
    assert len(set(world.slept)) == len(world.slept)
    assert all(0.2 <= seconds <= 0.4 for seconds in world.slept)


async def test_limits_of_a_target_send_calls_to_the_next_and_then_away() -> None:
    limited = (
        TargetConfig(provider="a", model="m", max_concurrent_calls=1),
        TargetConfig(provider="b", model="m", requests_per_minute=2),
    )
    world = World(limited)
    first = await world.call()
    assert [await world.answer() for _ in range(2)] == ["from b", "from b"]
    world.now += 20
    with pytest.raises(ConcurrencyLimited) as failed:
        await world.answer()
    assert failed.value.retry_after_seconds is not None
    assert world.asked == ["a", "b", "b"]
    await first.aclose()
    world.telemetry.tell()
    assert await world.answer() == "from a"
    world.telemetry.tell()
    held = await world.call()
    world.now += 41
    assert await world.answer() == "from b"
    await held.aclose()


async def test_a_first_token_that_is_late_is_another_targets() -> None:
    world = World(first_token_seconds=0.05)
    world.scripts["a"] = silent_after_the_role
    assert await world.answer() == "from b"
    assert world.closed == ["a", "b"]
    assert attempts_text(world.calls[0]) == "a/m=provider_timeout, b/m=ok"


async def test_the_last_target_may_be_as_slow_as_it_likes() -> None:
    world = World(first_token_seconds=0.01)

    async def slow() -> AsyncIterator[ChatCompletionChunk]:
        await asyncio.sleep(0.05)
        async for event in whole("slow"):
            yield event

    world.scripts |= {"a": silent_after_the_role, "b": slow}
    assert await world.answer() == "from slow"


async def test_a_failure_while_the_beginning_is_held_back_is_never_seen() -> None:
    world = World(hold_back_seconds=0.2)
    world.scripts["a"] = breaking_after_a_word
    assert await world.answer() == "from b"
    assert attempts_text(world.calls[0]) == "a/m=provider_broken, b/m=ok"


async def test_without_a_time_to_hold_back_a_failure_after_the_first_token_is_told() -> None:
    world = World()
    world.scripts["a"] = breaking_after_a_word
    with pytest.raises(ProviderBroken):
        await world.answer()
    assert world.asked == ["a"]


async def test_failures_in_the_midst_of_answers_open_the_circuit_too() -> None:
    world = World()
    world.scripts["a"] = breaking_after_a_word
    for _ in range(5):
        with pytest.raises(ProviderBroken):
            await world.answer()
        world.telemetry.tell()
    assert await world.answer() == "from b"
    assert world.board.is_served("small")


async def test_what_comes_late_is_handed_on_when_the_time_to_hold_back_is_over() -> None:
    world = World(hold_back_seconds=0.02)
    more = asyncio.Event()

    async def pausing() -> AsyncIterator[ChatCompletionChunk]:
        yield said("Hel")
        await more.wait()
        yield said("lo")
        yield said(finish="stop")

    world.scripts["a"] = pausing
    events = await world.call()
    assert (await anext(events)).choices[0].delta.content == "Hel"
    more.set()
    assert [event.choices[0].delta.content async for event in events] == ["lo", ""]


async def test_leaving_while_the_next_event_is_awaited_closes_the_answer() -> None:
    world = World(hold_back_seconds=0.02)

    async def stuck() -> AsyncIterator[ChatCompletionChunk]:
        yield said("Hel")
        await asyncio.Event().wait()

    world.scripts["a"] = stuck
    events = await world.call()
    assert (await anext(events)).choices[0].delta.content == "Hel"
    await events.aclose()
    assert world.closed == ["a"]


async def test_cancelling_while_the_beginning_is_held_back_closes_the_answer() -> None:
    world = World(hold_back_seconds=30)
    world.scripts["a"] = silent_after_the_role
    task = asyncio.create_task(world.answer())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert world.closed == ["a"]


def hedging() -> World:
    world = World(hedge=True)
    route_ = world.board.made_route(
        "small", Catalog(world.board._config, Listing({}, every_seconds=60)).targets("small")
    )
    for _ in range(30):
        route_.places[0].state.percentile.add(0.01)
    return world


async def test_a_second_target_answers_where_the_first_token_is_later_than_usual() -> None:
    world = hedging()
    world.scripts["a"] = silent_after_the_role
    assert await world.answer() == "from b"
    call = world.calls[0]
    assert attempts_text(call) == "a/m=cancelled, b/m=ok"
    assert call.target is not None
    assert (call.target.provider, call.attempt_count) == ("b", 2)
    assert world.closed == ["a", "b"]
    assert world.board.hedges == {("b", "won"): 1}


async def test_where_the_first_is_faster_in_the_end_the_second_is_cancelled_and_the_first_is_told_last() -> None:
    world = hedging()

    async def late() -> AsyncIterator[ChatCompletionChunk]:
        await asyncio.sleep(0.05)
        async for event in whole("a"):
            yield event

    world.scripts |= {"a": late, "b": silent_after_the_role}
    events = await world.call()
    record = world.calls[0].record
    assert isinstance(record, CallRecord)
    assert [(each.target.provider, each.status) for each in record.attempts] == [("b", "cancelled"), ("a", "")]
    assert [event.choices[0].delta.content async for event in events] == ["", "from a", ""]
    assert attempts_text(world.calls[0]) == "b/m=cancelled, a/m=ok"
    assert world.closed == ["b", "a"]
    assert world.board.hedges == {("b", "lost"): 1}


async def test_a_first_that_fails_beside_a_second_is_no_loss() -> None:
    world = hedging()

    async def late_failure() -> Events:
        await asyncio.sleep(0.03)
        raise ProviderTimeout("It is silent.", provider="a", phase="first_byte")

    async def slow() -> AsyncIterator[ChatCompletionChunk]:
        await asyncio.sleep(0.06)
        async for event in whole("b"):
            yield event

    world.scripts |= {"a": late_failure, "b": slow}
    assert await world.answer() == "from b"
    assert attempts_text(world.calls[0]) == "a/m=provider_timeout, b/m=ok"


async def test_where_both_fail_the_first_ones_failure_is_told() -> None:
    world = hedging()

    async def late_failure() -> Events:
        await asyncio.sleep(0.03)
        raise ProviderTimeout("It is silent.", provider="a", phase="first_byte")

    world.scripts |= {"a": late_failure, "b": failing(500)}
    with pytest.raises(ProviderTimeout):
        await world.answer()
    assert sorted(world.asked) == ["a", "b"]
    assert world.calls[0].failed_attempts == ("a/m=provider_timeout", "b/m=500")


async def test_a_caller_who_leaves_while_the_loser_is_ended_leaves_no_answer_open() -> None:
    world = hedging()
    is_closing, may_close = asyncio.Event(), asyncio.Event()

    async def slow_to_close() -> Events:
        try:
            await asyncio.Event().wait()
        finally:
            is_closing.set()
            await may_close.wait()
        raise AssertionError

    world.scripts["a"] = slow_to_close
    task = asyncio.create_task(world.answer())
    await asyncio.wait_for(is_closing.wait(), 5)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert world.closed == ["b"]
    may_close.set()
    await reached(lambda: not [each for each in asyncio.all_tasks() if each.get_name().startswith("attempt")])
    assert [place.state.in_flight for place in world.board.made_route("small", world.calls[0].targets).places] == [0, 0]


async def test_a_caller_who_leaves_ends_both_attempts() -> None:
    world = hedging()
    world.scripts |= {"a": hanging, "b": silent_after_the_role}
    task = asyncio.create_task(world.answer())
    await reached(lambda: world.asked == ["a", "b"])
    task.cancel()
    await asyncio.wait((task,))
    assert world.closed == ["b"]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("attempt")]


async def test_a_region_that_is_asked_for_is_the_only_one() -> None:
    places = (
        TargetConfig(provider="a", model="m", region="us"),
        TargetConfig(provider="b", model="m", region="eu", tag="batch"),
    )
    world = World(places)
    assert await world.answer(metadata={"x-headgate-region": "eu"}) == "from b"
    assert await world.answer(metadata={"x-headgate-target-tag": "batch"}) == "from b"
    world.scripts["b"] = failing(500)
    with pytest.raises(ProviderRefused):
        await world.answer(metadata={"x-headgate-region": "eu"})
    assert "a" not in world.asked
    with pytest.raises(InvalidRequest, match="x-headgate-region"):
        await world.answer(metadata={"x-headgate-region": "mars"})


async def test_a_model_without_regions_is_not_in_the_one_that_is_asked_for() -> None:
    world = World((TargetConfig(provider="a", model="m"),))
    with pytest.raises(InvalidRequest):
        await world.answer(metadata={"x-headgate-region": "eu"})
    assert world.asked == []


async def test_a_session_stays_at_its_target() -> None:
    world = World(strategy="sticky")
    for number in range(10):
        answers = {await world.answer(metadata={"x-headgate-session": f"s{number}"}) for _ in range(4)}
        assert len(answers) == 1
    assert set(world.asked) == {"a", "b"}


async def test_a_larger_target_is_asked_where_the_prompt_is_too_long_and_a_smaller_is_not() -> None:
    sizes = (
        TargetConfig(provider="a", model="m", context_length=8000),
        TargetConfig(provider="b", model="small", context_length=4000),
        TargetConfig(provider="b", model="m", context_length=128_000),
    )
    world = World(sizes)
    world.scripts["a"] = failing(400, upstream_code="context_length_exceeded")
    assert await world.answer() == "from b"
    assert world.calls[0].target is not None
    assert (world.asked, world.calls[0].target.model) == (["a", "b"], "m")


def test_the_time_within_which_95_of_100_answer_is_not_known_at_first() -> None:
    world = World()
    target = next(iter(world.board._states.values()))
    for number in range(19):
        target.percentile.add(number)
    assert target.percentile.value is None
    for number in range(19, 100):
        target.percentile.add(number)
    assert target.percentile.value is not None
    assert math.isclose(target.percentile.value, 94, abs_tol=5)
