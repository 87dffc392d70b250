"""What fails before an answer has begun is tried at the next target, through a whole gateway."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from structlog.testing import capture_logs

from gateway_core.config import Config, ModelConfig, ProviderConfig, TargetConfig, TimeoutsConfig
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.openai_vendor import completion, event, refusal, streamed, texts
from tests.support.upstream import Answer, Cut, Silence, Upstream, json_answer, reached, sse_answer

HI: list[Any] = [{"role": "user", "content": "hi"}]

# What the first target does once its status and headers have come.
FAULTS: dict[str, Answer] = {
    "cut": sse_answer([Cut()], done=False),
    "ended": sse_answer([], done=False),
    "silent": sse_answer([Silence()]),
    "malformed": sse_answer([b"data: {oops\n\n"]),
    "an error": sse_answer([refusal("Come back later.", type="server_error")], done=False),
    "an error without a type": sse_answer([refusal("Come back later.")], done=False),
    "a failed choice": sse_answer([event({}, "error")]),
    "a detail and cut": sse_answer([{"detail": "warming up"}, Cut()], done=False),
    "a detail alone": sse_answer([{"detail": "Not Found"}]),
    "nothing": sse_answer([]),
}


@pytest.fixture
async def spare() -> AsyncIterator[Upstream]:
    """The vendor of the second target."""
    async with Upstream() as scripted:
        yield scripted


@pytest.fixture
async def gateway(upstream: Upstream, spare: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A gateway whose model "small" has two targets."""
    timeouts = TimeoutsConfig(idle_seconds=0.2)
    providers = {
        name: ProviderConfig(kind="openai", base_url=vendor.base_url, timeouts=timeouts, lists_models=False)
        for name, vendor in (("lab", upstream), ("spare", spare))
    }
    targets = tuple(TargetConfig(provider=name, model="tiny") for name in providers)
    async with running(Config(providers=providers, models={"small": ModelConfig(targets=targets)}), arrangement) as one:
        yield one


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_stream_that_fails_before_its_first_event_is_answered_by_the_next_target(
    upstream: Upstream, spare: Upstream, connect: Callable[..., AsyncOpenAI], fault: Answer, stream: bool
) -> None:
    upstream.script(fault)
    spare.script(sse_answer(streamed("Hel", "lo")) if stream else json_answer(completion({"content": "Hello"})))
    with capture_logs() as lines:
        if stream:
            said = await connect().chat.completions.create(model="small", messages=HI, stream=True)
            assert texts([chunk async for chunk in said]) == "Hello"
        else:
            answered = await connect().chat.completions.create(model="small", messages=HI)
            assert answered.choices[0].message.content == "Hello"
        await reached(lambda: any(line["event"] == "call" for line in lines))
    (call,) = (line for line in lines if line["event"] == "call")
    # What says "server_error" is tried again where it came from, as a status of 500 is.
    count = 2 if b"server_error" in b"".join(step for step in fault if isinstance(step, bytes)) else 1
    assert (call["status"], call["attempts"], call["provider"]) == ("ok", count + 1, "spare")
    assert (len(upstream.requests), len(spare.requests)) == (count, 1)


async def test_a_stream_that_fails_after_its_first_event_goes_on_elsewhere_in_the_same_words_only(
    upstream: Upstream, spare: Upstream, connect: Callable[..., AsyncOpenAI]
) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Cut()], done=False))
    spare.script(sse_answer(streamed("Good ", "day.")))
    said = await connect().chat.completions.create(model="small", messages=HI, stream=True)
    with pytest.raises(openai.APIError, match="broke") as failed:
        assert texts([chunk async for chunk in said]) == "Hel"
    assert failed.value.body is None or "partial" in str(failed.value.body)
    # What the second target says are other words (tests/faults/test_failover.py has those that are the same).
    assert len(spare.requests) == 1


async def test_a_first_event_that_blames_the_request_is_told_and_not_tried_again(
    upstream: Upstream, spare: Upstream, connect: Callable[..., AsyncOpenAI]
) -> None:
    upstream.script(sse_answer([refusal("Too long.", code="context_length_exceeded")], done=False))
    with pytest.raises(openai.BadRequestError, match=r"Too long\.") as failed:
        await connect().chat.completions.create(model="small", messages=HI, stream=True)
    assert failed.value.code == "context_length_exceeded"
    assert not spare.requests


async def test_an_answer_over_the_limit_is_the_providers_fault(
    upstream: Upstream, spare: Upstream, arrangement: Arrangement, connect: Callable[..., AsyncOpenAI]
) -> None:
    upstream.script(json_answer(completion({"content": "x" * 5000})))
    spare.script(sse_answer([event({"content": "x" * 5000})]))
    rows = {
        name: ProviderConfig(kind="openai", base_url=vendor.base_url, answer_bytes=1000, lists_models=False)
        for name, vendor in (("lab", upstream), ("spare", spare))
    }
    targets = tuple(TargetConfig(provider=name, model="tiny") for name in rows)
    config = Config(providers=rows, models={"small": ModelConfig(targets=targets)})
    async with running(config, arrangement) as gateway:
        sdk = connect().with_options(base_url=f"{gateway.http_url}/v1")
        with pytest.raises(openai.InternalServerError, match="answer_bytes") as failed:
            await sdk.chat.completions.create(model="small", messages=HI)
    assert failed.value.status_code == 502
    assert len(upstream.requests) == len(spare.requests) == 1
