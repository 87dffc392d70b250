import asyncio
from collections.abc import Callable

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Events, Rewrite, Target
from gateway_core.config import Config, RoutingConfig
from gateway_core.errors import DeadlineExceeded, GatewayError, InvalidRequest, ProviderRefused, ProviderUnreachable
from gateway_core.pipeline import Stage, compose, fallback, route
from gateway_core.routing.board import Board
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.telemetry import Telemetry

TARGETS = (Target("a", "m"), Target("b", "m"), Target("c", "m"))


def call(*targets: Target, deadline: float | None = None) -> Call[ChatCompletionSpec]:
    spec = ChatCompletionSpec(model="small")
    return Call("id", ChatCompletion(), spec, stream=True, targets=targets or TARGETS, deadline=deadline)


async def events() -> Events:
    yield ChatCompletionChunk(id="1")


class Innermost:
    def __init__(self, answer: Callable[[str], GatewayError | None]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, asked: Call[ChatCompletionSpec]) -> Events:
        assert asked.target is not None
        self.asked.append(asked.target.provider)
        asked.rewrites.append(Rewrite("top_k", asked.target.provider))
        failure = self.answer(asked.target.provider)
        if failure is not None:
            raise failure
        return events()


def unreachable(_: str) -> GatewayError:
    return ProviderUnreachable("It is not there.", provider="x")


def staged() -> fallback.Stage:
    """The stage, which waits for nothing."""
    return fallback.Stage(Telemetry(Config()), Board(Config()), sleep=no_time)


async def no_time(_: float) -> None:
    pass


async def opened(innermost: Innermost, asked: Call[ChatCompletionSpec]) -> list[ChatCompletionChunk]:
    return [event async for event in await staged()(asked, innermost)]


async def test_the_first_target_that_opens_answers() -> None:
    innermost = Innermost(lambda provider: unreachable(provider) if provider == "a" else None)
    asked = call()
    assert len(await opened(innermost, asked)) == 1
    assert innermost.asked == ["a", "b"]
    assert asked.target == TARGETS[1]
    assert asked.attempt_count == 2


async def test_what_was_rewritten_for_another_target_is_not_told() -> None:
    asked = call()
    await opened(Innermost(lambda provider: unreachable(provider) if provider != "c" else None), asked)
    assert asked.rewrites == [Rewrite("top_k", "c")]


async def test_the_last_failure_is_told_where_none_opens() -> None:
    innermost = Innermost(lambda provider: ProviderUnreachable(provider, provider=provider))
    with pytest.raises(ProviderUnreachable, match="c"):
        await opened(innermost, call())
    assert innermost.asked == ["a", "b", "c"]


async def test_the_same_target_twice_is_tried_twice() -> None:
    innermost = Innermost(unreachable)
    with pytest.raises(ProviderUnreachable):
        await opened(innermost, call(TARGETS[0], TARGETS[0]))
    assert innermost.asked == ["a", "a"]


async def test_a_wrong_request_is_tried_once() -> None:
    innermost = Innermost(lambda _: InvalidRequest("It is wrong.", param="messages"))
    with pytest.raises(InvalidRequest):
        await opened(innermost, call())
    assert innermost.asked == ["a"]


async def test_the_last_attempt_that_can_be_paid_for_goes_to_another_target() -> None:
    config = Config(routing=RoutingConfig(retry_budget=0, retry_reserve=1))
    stage = fallback.Stage(Telemetry(config), Board(config), sleep=no_time)
    failed = ProviderRefused("It failed.", provider="a", upstream_status="500")
    innermost = Innermost(lambda provider: failed if provider == "a" else None)
    events = await stage(call(*TARGETS[:2]), innermost)
    await events.aclose()
    assert innermost.asked == ["a", "b"]


@pytest.mark.parametrize("third_is_well", [True, False])
async def test_what_the_second_target_cannot_take_hides_no_failure_of_the_first(third_is_well: bool) -> None:
    failures: dict[str, GatewayError] = {
        "a": ProviderUnreachable("It is not there.", provider="a"),
        "b": InvalidRequest("It takes no images.", param="messages"),
    }
    if not third_is_well:
        failures["c"] = InvalidRequest("It takes no images either.", param="messages")
    innermost = Innermost(failures.get)
    if third_is_well:
        assert len(await opened(innermost, call())) == 1
    else:
        with pytest.raises(ProviderUnreachable):
            await opened(innermost, call())
    assert innermost.asked == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("status", "count"),
    [
        (400, 1),
        (404, 1),
        (413, 1),
        (422, 1),
        (401, 3),
        (402, 3),
        (403, 3),
        (408, 3),
        (501, 3),
        (429, 6),
        (500, 6),
        (529, 6),
    ],
)
async def test_a_refusal_is_tried_elsewhere_by_its_status(status: int, count: int) -> None:
    innermost = Innermost(lambda _: ProviderRefused("No.", provider="x", upstream_status=str(status)))
    with pytest.raises(ProviderRefused):
        await opened(innermost, call())
    assert len(innermost.asked) == count


async def test_nothing_is_asked_after_the_deadline() -> None:
    innermost = Innermost(lambda _: None)
    with pytest.raises(DeadlineExceeded):
        await opened(innermost, call(deadline=asyncio.get_running_loop().time() - 1))
    assert innermost.asked == []


async def test_a_failure_after_opening_is_not_retried() -> None:
    asked = call()

    async def broken() -> Events:
        yield ChatCompletionChunk(id="1")
        raise ProviderUnreachable("It went.", provider="a")

    async def innermost(_: Call[ChatCompletionSpec]) -> Events:
        return broken()

    stream = await staged()(asked, innermost)
    assert (await anext(stream)).id == "1"
    with pytest.raises(ProviderUnreachable):
        await anext(stream)
    assert asked.attempt_count == 1


def test_a_wrong_order_of_stages_is_refused() -> None:
    telemetry, board = Telemetry(Config()), Board(Config())
    stages: list[tuple[str, Stage]] = [
        ("fallback", fallback.Stage(telemetry, board)),
        ("route", route.Stage(None, board)),  # type: ignore[arg-type]
    ]
    with pytest.raises(ValueError, match="not in the order"):
        compose(stages, Innermost(lambda _: None))
