"""A target that fails in the midst of its answer: another goes on, and the caller reads one answer, whole and exact."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage
from headgate.v1.usage_pb2 import USAGE_STATUS_FAILED, USAGE_STATUS_OK
from headgate.v1.usage_service_pb2 import ListUsageRecordsRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway_core.config import (
    CircuitConfig,
    Config,
    ModelConfig,
    ProviderConfig,
    RoutingConfig,
    TargetConfig,
    TimeoutsConfig,
)
from tests.faults.conftest import Log, nothing_left
from tests.support import anthropic_vendor as claude
from tests.support.gateway import Gateway, running
from tests.support.kept import ROOT, bearer, kept
from tests.support.openai_vendor import called, completion, event, refusal, streamed, texts, usage_event
from tests.support.upstream import Cut, Reset, Silence, Step, Upstream, json_answer, reached, sse_answer

HI: list[Any] = [{"role": "user", "content": "hi"}]
SAID = "Hello, whole and exact: ä, 🙂, and\n\n  an end. "
PATIENCE = TimeoutsConfig(connect_seconds=0.3, first_byte_seconds=0.3, idle_seconds=0.3)
SECONDS_AT_MOST = 8.0
PIECES = [SAID[at : at + 3] for at in range(0, len(SAID), 3)]
WHOLE = streamed(*PIECES)

BREAKS: dict[str, Sequence[Step]] = {
    "end": [Cut()],
    "reset": [Reset()],
    "silence": [Silence()],
    "no JSON": [b"data: {oops\n\n"],
    "an error": [b'data: {"error": {"message": "Overloaded.", "type": "overloaded_error"}}\n\n'],
    "[DONE] too soon": [b"data: [DONE]\n\n"],
    "an event of another form": [b"data: [1, 2]\n\n"],
}


@pytest.fixture
async def spare() -> AsyncIterator[Upstream]:
    async with Upstream() as scripted:
        yield scripted


def config(first: Upstream, second: Upstream, kind: str = "openai", **row: Any) -> Config:
    def provider(upstream: Upstream, kind: str) -> ProviderConfig:
        url = upstream.base_url if kind == "openai" else upstream.base_url.removesuffix("/v1")
        return ProviderConfig(kind=kind, base_url=url, api_key="k", timeouts=PATIENCE, lists_models=False)  # type: ignore[arg-type]

    targets = (
        TargetConfig(provider="lab", model="tiny"),
        TargetConfig(provider="spare", model="claude-3-haiku-20240307" if kind == "anthropic" else "large"),
    )
    routing = row.pop("routing", RoutingConfig())
    return Config(
        providers={"lab": provider(first, "openai"), "spare": provider(second, kind)},
        models={"small": ModelConfig(targets=targets, **row)},
        routing=routing,
    )


@asynccontextmanager
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with DefaultAsyncHttpxClient(trust_env=False) as http:
        yield AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="k", max_retries=0, http_client=http)


async def read(sdk: AsyncOpenAI, into: list[Any] | None = None, **options: Any) -> list[Any]:
    said = [] if into is None else into
    async with asyncio.timeout(SECONDS_AT_MOST):
        options = {"stream_options": {"include_usage": True}, **options}
        async for chunk in await sdk.chat.completions.create(model="small", messages=HI, stream=True, **options):
            said.append(chunk)
    return said


def broken(at: int, how: Sequence[Step]) -> Any:
    return sse_answer([*WHOLE[:at], *how], done=False)


@pytest.mark.parametrize("how", BREAKS, ids=list(BREAKS))
@pytest.mark.parametrize("at", [1, 2, 7, len(WHOLE) - 2])
async def test_an_answer_that_is_repeated_word_for_word_goes_on(
    upstream: Upstream, spare: Upstream, log: Log, at: int, how: str
) -> None:
    upstream.script(broken(at, BREAKS[how]))
    # In other pieces than the first.
    spare.script(sse_answer(streamed(*(SAID[at : at + 4] for at in range(0, len(SAID), 4)))))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        before = asyncio.all_tasks()
        chunks = await read(sdk)
        await reached(lambda: any(line["event"] == "call" for line in log()))
        await nothing_left(gateway, before)
    assert texts(chunks) == SAID
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage.completion_tokens == 4
    assert len([1 for chunk in chunks for c in chunk.choices if c.delta.role]) <= 1
    (line,) = [line for line in log() if line["event"] == "call"]
    assert (line["status"], line["attempts"], line["provider"]) == ("ok", 2, "spare")
    (failed,) = line["failed_attempts"]
    assert failed.startswith("lab/tiny: provider_")


@pytest.mark.parametrize("at", range(2, len(WHOLE) - 2))
async def test_a_model_that_takes_a_beginning_goes_on_with_it(upstream: Upstream, spare: Upstream, at: int) -> None:
    upstream.script(broken(at, [Cut()]))

    def rest(request: Any) -> Any:
        said = request.json()["messages"][-1]
        assert said["role"] == "assistant"
        beginning = said["content"] if isinstance(said["content"], str) else said["content"][0]["text"]
        assert SAID.startswith(beginning)
        assert beginning == beginning.rstrip()
        return claude.streamed_answer(claude.message(claude.text(SAID[len(beginning) :])))

    spare.script(rest)
    async with running(config(upstream, spare, "anthropic")) as gateway, client(gateway) as sdk:
        chunks = await read(sdk, max_tokens=100)
    assert texts(chunks) == SAID
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens
    (asked,) = spare.requests
    assert asked.json()["max_tokens"] < 100


async def test_an_answer_in_other_words_is_not_joined(upstream: Upstream, spare: Upstream, log: Log) -> None:
    upstream.script(broken(4, [Cut()]))
    spare.script(sse_answer(streamed("Good ", "morning.")))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        before = asyncio.all_tasks()
        said: list[Any] = []
        with pytest.raises(openai.APIError, match="broke"):
            await read(sdk, into=said)
        await nothing_left(gateway, before)
    assert texts(said) == "".join(PIECES[:3])
    (line,) = [line for line in log() if line["event"] == "call"]
    assert (line["status"], line["attempts"]) == ("provider_broken", 2)


@pytest.mark.parametrize("at", range(2, 7))
async def test_a_tool_call_goes_on_with_its_arguments(upstream: Upstream, spare: Upstream, at: int) -> None:
    def calling(identity: str, *pieces: str) -> list[Any]:
        first = {"index": 0, **called("look", "", identity)}
        rest = [event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
        return [
            event({"role": "assistant", "content": None, "tool_calls": [first]}),
            *rest,
            event({}, "tool_calls"),
            usage_event(),
        ]

    upstream.script(sse_answer([*calling("call_a", '{"ci', 'ty": ', '"Lis', 'bon"}')[:at], Cut()], done=False))
    spare.script(sse_answer(calling("call_b", '{"city', '": "Lisbon"}')))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        chunks = await read(sdk)
    calls = [call for chunk in chunks for c in chunk.choices for call in c.delta.tool_calls or ()]
    assert "".join(call.function.arguments or "" for call in calls) == '{"city": "Lisbon"}'
    assert [call.id for call in calls if call.id] == ["call_a"]
    assert "".join(call.function.name or "" for call in calls) == "look"


async def test_a_call_of_which_only_the_id_was_told_keeps_it(upstream: Upstream, spare: Upstream) -> None:
    begun = event({"role": "assistant", "tool_calls": [{"index": 0, "id": "call_a", "type": "function"}]})
    upstream.script(sse_answer([begun, Cut()], done=False))
    again = {"index": 0, **called("look", "{}", "call_b")}
    spare.script(sse_answer([event({"role": "assistant", "tool_calls": [again]}), event({}, "tool_calls")]))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        chunks = await read(sdk)
    calls = [call for chunk in chunks for c in chunk.choices for call in c.delta.tool_calls or ()]
    assert [call.id for call in calls if call.id] == ["call_a"]
    assert [call.function.name for call in calls if call.function and call.function.name] == ["look"]


async def test_a_third_target_goes_on_where_the_second_fails_too(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(4, [Cut()]))
    spare.script(broken(9, [Cut()]))
    async with Upstream() as third:
        third.script(sse_answer(WHOLE))
        made = config(upstream, spare)
        providers = {**made.providers, "third": made.providers["spare"].model_copy(update={"base_url": third.base_url})}
        row = made.models["small"]
        row = row.model_copy(update={"targets": (*row.targets, TargetConfig(provider="third", model="last"))})
        async with (
            running(made.model_copy(update={"providers": providers, "models": {"small": row}})) as gateway,
            client(gateway) as sdk,
        ):
            assert texts(await read(sdk)) == SAID


async def test_a_vendors_filter_ends_the_answer(upstream: Upstream, spare: Upstream) -> None:
    said = refusal("Blocked.", code="content_filter", type="invalid_request_error")
    upstream.script(sse_answer([*WHOLE[:4], said], done=False))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.APIError, match="Blocked"):
            await read(sdk)
    assert not spare.requests


async def test_it_can_be_turned_off(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(4, [Cut()]))
    async with (
        running(config(upstream, spare, routing=RoutingConfig(failover=False))) as gateway,
        client(gateway) as sdk,
    ):
        with pytest.raises(openai.APIError, match="broke off"):
            await read(sdk)
    assert not spare.requests


async def test_a_whole_answer_is_asked_for_elsewhere(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "x"}), 500))
    spare.script(json_answer(completion({"content": SAID})))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        said = await sdk.chat.completions.create(model="small", messages=HI)
    assert said.choices[0].message.content == SAID


async def test_leaving_while_another_target_is_asked_leaves_nothing(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(4, [Cut()]))
    spare.script([Silence()])
    made = config(upstream, spare)
    async with running(made) as gateway, client(gateway) as sdk:
        before = asyncio.all_tasks()
        stream = await sdk.chat.completions.create(model="small", messages=HI, stream=True)
        async for chunk in stream:
            if spare.requests or texts([chunk]):
                break
        await stream.close()
        await nothing_left(gateway, before)


async def test_the_ledger_has_one_record_and_both_attempts(spare: Upstream, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(sse_answer(WHOLE))
    target = {"provider": "spare", "model": "large"}
    async with kept(
        tmp_path,
        upstream,
        providers={
            "lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False},
            "spare": {"kind": "openai", "base_url": spare.base_url, "lists_models": False},
        },
        models={
            "small": {
                "targets": [{"provider": "lab", "model": "tiny"}, target],
                "price": {"input_per_million": 1, "output_per_million": 2},
            }
        },
    ) as gateway:
        assert texts(await read(gateway.sdk)) == SAID
        usage = UsageServiceStub(gateway.channel)
        told = await usage.ListUsageRecords(ListUsageRecordsRequest(), metadata=bearer(ROOT))
    (record,) = told.records
    # What the vendor told of the answer that is whole: 9 tokens in and 4 out.
    assert (record.status, record.charged_usd, record.provider) == (USAGE_STATUS_OK, "0.000017", "spare")
    assert [(each.provider, each.status, each.cost_usd) for each in record.attempts] == [
        ("lab", USAGE_STATUS_FAILED, "0"),
        ("spare", USAGE_STATUS_OK, "0.000017"),
    ]


def rest_of(request: Any) -> Any:
    """What a model of Anthropic's says that goes on with the beginning it is given, or says all."""
    said = request.json()["messages"][-1]
    if said["role"] != "assistant":
        return claude.streamed_answer(claude.message(claude.text(SAID)))
    texts = [said["content"]] if isinstance(said["content"], str) else [part["text"] for part in said["content"]]
    return claude.streamed_answer(claude.message(claude.text(SAID[len(texts[-1].removeprefix("Well: ")) :])))


@pytest.mark.parametrize("on_unsupported", ["drop", "warn", "reject"])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_the_answer_is_whole_whatever_is_done_with_unsupported_parameters(
    upstream: Upstream, spare: Upstream, kind: str, on_unsupported: Any
) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(sse_answer(WHOLE) if kind == "openai" else rest_of)
    made = config(upstream, spare, kind, on_unsupported=on_unsupported)
    async with running(made) as gateway, client(gateway) as sdk:
        assert texts(await read(sdk)) == SAID
    assert len(spare.requests) == 1


async def test_the_echo_says_no_beginning_twice(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(7, [Cut()]))
    made = config(upstream, spare)
    providers = {**made.providers, "spare": ProviderConfig(kind="echo")}
    said: list[Any] = [{"role": "user", "content": SAID}]
    async with running(made.model_copy(update={"providers": providers})) as gateway, client(gateway) as sdk:
        stream = await sdk.chat.completions.create(model="small", messages=said, stream=True)
        assert texts([chunk async for chunk in stream]) == SAID


async def test_what_is_asked_anew_may_be_as_long_as_the_caller_allows(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(sse_answer(WHOLE))
    async with running(config(upstream, spare)) as gateway, client(gateway) as sdk:
        assert texts(await read(sdk, max_tokens=20)) == SAID
    assert [each.json()["max_tokens"] for each in spare.requests] == [20]


async def test_a_limit_that_names_none_stays_none(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(rest_of)
    async with running(config(upstream, spare, "anthropic")) as gateway, client(gateway) as sdk:
        assert texts(await read(sdk, extra_body={"max_tokens": -1})) == SAID
    assert all(each.json()["max_tokens"] != 1 for each in spare.requests)


async def test_what_the_first_target_went_on_with_is_one_turn_with_its_words(
    upstream: Upstream, spare: Upstream
) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(rest_of)
    async with running(config(upstream, spare, "anthropic")) as gateway, client(gateway) as sdk:
        said = [*HI, {"role": "assistant", "content": "Well: "}]
        chunks = [chunk async for chunk in await sdk.chat.completions.create(model="small", messages=said, stream=True)]
    assert texts(chunks) == SAID
    (asked,) = spare.requests
    assert [turn["role"] for turn in asked.json()["messages"]] == ["user", "assistant"]
    assert asked.json()["messages"][-1]["content"] == "Well: " + "".join(PIECES[:6]).rstrip()


async def test_a_second_target_that_fails_is_not_asked_once_more_for_want_of_a_beginning(
    upstream: Upstream, spare: Upstream
) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(json_answer(refusal("Out of order."), 500))
    async with running(config(upstream, spare, "anthropic")) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.APIError, match="broke off"):
            await read(sdk)
    assert len(spare.requests) == 2, "once, and one retry"


async def test_a_model_that_refuses_the_beginning_is_asked_anew(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(7, [Cut()]))
    refused = json_answer(refusal("This model does not support assistant message prefill."), 400)
    spare.script(lambda request: refused if request.json()["messages"][-1]["role"] == "assistant" else rest_of(request))
    async with running(config(upstream, spare, "anthropic")) as gateway, client(gateway) as sdk:
        assert texts(await read(sdk)) == SAID
    assert len(spare.requests) == 2


async def test_a_target_that_says_other_words_has_not_failed(upstream: Upstream, spare: Upstream, log: Log) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(sse_answer(streamed("Good ", "morning.")))
    routing = RoutingConfig(circuit=CircuitConfig(failures=1))
    async with running(config(upstream, spare, routing=routing)) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.APIError, match="broke off"):
            await read(sdk)
        board = {each.provider: each.circuit for each in gateway.core.board.told()}
        await reached(lambda: any(line["event"] == "call" for line in log()))
    assert board == {"lab": "open", "spare": "closed"}
    (line,) = [line for line in log() if line["event"] == "call"]
    assert (line["provider"], line["attempts"]) == ("lab", 2), "the words that the caller has are the first target's"


async def test_a_target_elsewhere_does_not_go_on_with_a_call_for_one_region(
    upstream: Upstream, spare: Upstream
) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(sse_answer(WHOLE))
    made = config(upstream, spare)
    row = made.models["small"]
    targets = tuple(
        each.model_copy(update={"region": region}) for each, region in zip(row.targets, ("eu", "us"), strict=True)
    )
    models = {"small": row.model_copy(update={"targets": targets})}
    async with running(made.model_copy(update={"models": models})) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.APIError, match="broke off"):
            await read(sdk, extra_headers={"x-headgate-region": "eu"})
    assert not spare.requests


async def test_the_trailers_tell_how_each_attempt_ended(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(broken(9, [b'data: {"error": {"message": "Overloaded.", "type": "overloaded_error"}}\n\n']))
    spec = ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="hi")])
    async with (
        running(config(upstream, spare)) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = ChatCompletionServiceStub(channel)
        stream = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), timeout=5)
        with pytest.raises(aio.AioRpcError) as failed:
            async for _ in stream:
                pass
        assert failed.value.code() == StatusCode.UNAVAILABLE
        told = dict(await stream.trailing_metadata())
    assert told["x-headgate-attempts"] == "lab/tiny=provider_broken, spare/large=529"


async def test_an_attempt_that_fails_with_its_call_is_told_as_failed(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(broken(7, [Cut()]))
    spec = ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="hi")])
    async with (
        running(config(upstream, spare, routing=RoutingConfig(failover=False))) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = ChatCompletionServiceStub(channel)
        stream = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), timeout=5)
        with pytest.raises(aio.AioRpcError) as failed:
            async for _ in stream:
                pass
        assert failed.value.code() == StatusCode.UNAVAILABLE
        told = dict(await stream.trailing_metadata())
    assert told["x-headgate-attempts"] == "lab/tiny=provider_broken"


async def test_what_was_delivered_is_charged_with_the_attempt_that_said_it(
    spare: Upstream, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(broken(7, [Cut()]))
    spare.script(json_answer(refusal("Out of order."), 500))
    lab, other = ({"kind": "openai", "base_url": each.base_url, "lists_models": False} for each in (upstream, spare))
    targets = [{"provider": "lab", "model": "tiny"}, {"provider": "spare", "model": "large"}]
    price = {"input_per_million": 1, "output_per_million": 2}
    models = {"small": {"targets": targets, "price": price}}
    async with kept(tmp_path, upstream, providers={"lab": lab, "spare": other}, models=models) as gateway:
        with pytest.raises(openai.APIError, match="broke off"):
            await read(gateway.sdk)
        usage = UsageServiceStub(gateway.channel)
        told = await usage.ListUsageRecords(ListUsageRecordsRequest(), metadata=bearer(ROOT))
    (record,) = told.records
    assert (record.status, record.provider) == (USAGE_STATUS_FAILED, "lab")
    assert record.charged_usd != "0"
    costs = sorted((each.provider, each.cost_usd) for each in record.attempts)
    assert costs == [("lab", record.charged_usd), ("spare", "0"), ("spare", "0")]
