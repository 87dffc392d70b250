"""A table of faults: what the caller sees, and what the providers see, of one that fails before its first token."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import openai
import pytest
from grpc import StatusCode, aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage
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
from tests.support.gateway import Gateway, running
from tests.support.openai_vendor import completion, event, refusal, streamed, texts
from tests.support.upstream import (
    Answer,
    Cut,
    Received,
    Reset,
    Route,
    Silence,
    Upstream,
    answer,
    gaps,
    json_answer,
    never_accepting,
    reached,
    refusing,
    sse_answer,
)

HI: list[Any] = [{"role": "user", "content": "hi"}]
SAID = "Hello, whole and exact."
PATIENCE = TimeoutsConfig(connect_seconds=0.3, first_byte_seconds=0.3, idle_seconds=0.3)
SECONDS_AT_MOST = 8.0
"""No call of the table may take longer, on whatever machine: it would hang."""


def well(request: Received) -> Answer:
    """The whole answer, streamed where that was asked for."""
    if request.json().get("stream"):
        return sse_answer(streamed(*(SAID[at : at + 4] for at in range(0, len(SAID), 4))))
    return json_answer(completion({"content": SAID}))


def refused(status: int, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return json_answer(refusal("The vendor's own reason.", **fields), status, headers)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the first target does, and what comes of it."""

    script: Sequence[Answer | Route]
    asked: int = 1
    """How many requests the first target sees."""
    spared: int = 1
    """How many requests the second sees."""
    told: str = ""
    """What x-headgate-attempts says of the first target."""
    gap: float = 0.0
    """Seconds that the first target is left alone at least, between its first request and its second."""
    streams: tuple[bool, ...] = (True, False)


def often(word: str, count: int = 2) -> str:
    return ", ".join([f"lab/tiny={word}"] * count)


FAULTS: dict[str, Fault] = {
    "429 that tells a short wait": Fault([refused(429, {"retry-after-ms": "200"}), well], 2, 0, often("429", 1), 0.2),
    "429 that tells a short wait, twice": Fault([refused(429, {"retry-after-ms": "200"})], 2, 1, often("429"), 0.2),
    "429 that tells a long wait": Fault([refused(429, {"retry-after": "60"})], 1, 1, often("429", 1)),
    "429": Fault([refused(429)], 2, 1, often("429"), 0.1),
    "503 that tells a long wait": Fault([refused(503, {"retry-after": "60"})], 1, 1, often("503", 1)),
    **{f"{status}": Fault([refused(status)], 2, 1, often(str(status))) for status in (500, 502, 503, 504, 529)},
    "500 once": Fault([refused(500), well], 2, 0, often("500", 1)),
    "a page with 502": Fault([answer([b"<html>Bad gateway</html>"], status=502)], 2, 1, often("502")),
    "reset before the headers": Fault([[Reset()]], 2, 1, often("provider_broken")),
    "reset before the headers, once": Fault([[Reset()], well], 2, 0, often("provider_broken", 1)),
    "end before the headers": Fault([[Cut()]], 2, 1, often("provider_broken")),
    "end in the headers": Fault([[b"HTTP/1.1 200 OK\r\ncontent-ty", Cut()]], 2, 1, often("provider_broken")),
    "silence": Fault([[Silence()]], 1, 1, often("provider_timeout", 1)),
    "silence after the headers": Fault([sse_answer([Silence()])], 1, 1, often("provider_timeout", 1)),
    "no HTTP": Fault([[b"\x00\x01 This is no HTTP.\r\n\r\n", Silence()]], 1, 1, often("provider_broken", 1)),
    "200 and the end": Fault([sse_answer([Cut()], done=False)], 1, 1, often("provider_broken", 1)),
    "200 and nothing": Fault([sse_answer([])], 1, 1, often("provider_broken", 1)),
    "200 and no JSON": Fault([sse_answer([b"data: {oops\n\n"])], 1, 1, often("provider_broken", 1)),
    "200 and an error": Fault([sse_answer([refusal("No.", type="overloaded_error")], done=False)], 2, 1, often("529")),
    "half a document": Fault(
        [answer([b'{"id": "1", "choi', Cut()], headers={"content-type": "application/json", "content-length": "500"})],
        1, 1, often("provider_broken", 1),
    ),
    "a role and silence": Fault([sse_answer([event({"role": "assistant"}), Silence()])], 1, 1, often("provider_timeout", 1), 0.0, (True,)),
    "a role and the end": Fault([sse_answer([event({"role": "assistant"}), Cut()], done=False)], 1, 1, often("provider_broken", 1), 0.0, (True,)),
    "a prompt that is too long": Fault([refused(400, code="context_length_exceeded")], 1, 1, often("400", 1)),
    "a prompt that is too long, in words": Fault([json_answer(refusal("This model's maximum context length is 8192 tokens."), 400)], 1, 1, often("400", 1)),
    "401": Fault([refused(401)], 1, 1, often("401", 1)),
    "403": Fault([refused(403, code="permission_denied")], 1, 1, often("403", 1)),
    "403 for a country": Fault([json_answer(refusal("Your country is not supported."), 403)], 1, 1, often("403", 1)),
    "402": Fault([refused(402)], 1, 1, often("402", 1)),
    "408": Fault([refused(408)], 1, 1, often("408", 1)),
    "501": Fault([refused(501)], 1, 1, often("501", 1)),
}  # fmt: skip

CASES = [(fault, stream) for fault in FAULTS.values() for stream in fault.streams]
NAMES = [f"{name}, {'stream' if stream else 'unary'}" for name, fault in FAULTS.items() for stream in fault.streams]

FINAL: dict[str, tuple[Answer, int, str]] = {
    "content filter by code": (refused(400, code="content_filter"), 400, "content_filter"),
    "content filter by type": (refused(400, type="content_policy_violation"), 400, ""),
    "content filter with 403": (refused(403, code="content_filter"), 403, "content_filter"),
    "a wrong request": (refused(400, code="invalid_value"), 400, "invalid_value"),
    "an unknown model": (refused(404, code="model_not_found"), 404, "model_not_found"),
    "a wrong field": (refused(422), 422, ""),
}
"""What no other target is asked for: the answer, and the status and the vendor's code that the caller sees."""


@pytest.fixture
async def spare() -> AsyncIterator[Upstream]:
    """The vendor of the second target, which is well."""
    async with Upstream() as scripted:
        scripted.script(well)
        yield scripted


def config(first_url: str, second_url: str, routing: RoutingConfig | None = None, **row: Any) -> Config:
    of_provider = {"lab": (first_url, PATIENCE), "spare": (second_url, row.pop("spare_patience", PATIENCE))}
    providers = {
        name: ProviderConfig(kind="openai", base_url=url, timeouts=patience, lists_models=False)
        for name, (url, patience) in of_provider.items()
    }
    targets = (
        TargetConfig(provider="lab", model="tiny", context_length=8192),
        TargetConfig(provider="spare", model="large", context_length=row.pop("spare_context", 32768)),
    )
    models = {"small": ModelConfig(targets=targets, **row)}
    return Config(providers=providers, models=models, routing=routing or RoutingConfig())


@asynccontextmanager
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with DefaultAsyncHttpxClient(trust_env=False) as http:
        url = f"{gateway.http_url}/v1"
        yield AsyncOpenAI(base_url=url, api_key="sk-caller", max_retries=0, http_client=http)


async def answered(sdk: AsyncOpenAI, *, stream: bool, **options: Any) -> tuple[str, str]:
    """What the caller reads, and what x-headgate-attempts says; raises where the answer is not whole."""
    async with asyncio.timeout(SECONDS_AT_MOST):
        create = sdk.chat.completions.with_raw_response.create
        raw = await create(model="small", messages=HI, stream=stream, **options)
        attempts = raw.headers.get("x-headgate-attempts", "")
        if not stream:
            whole: Any = raw.parse()
            (choice,) = whole.choices
            assert choice.finish_reason == "stop"
            return choice.message.content or "", attempts
        parsed: Any = raw.parse()
        chunks = [chunk async for chunk in parsed]
        assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
        return texts(chunks), attempts


@pytest.mark.parametrize(("fault", "stream"), CASES, ids=NAMES)
async def test_with_two_targets_the_answer_is_whole_and_exact(
    upstream: Upstream, spare: Upstream, log: Log, fault: Fault, stream: bool
) -> None:
    upstream.script(*fault.script)
    async with (
        running(config(upstream.base_url, spare.base_url, first_token_seconds=2.0)) as gateway,
        client(gateway) as sdk,
    ):
        before = asyncio.all_tasks()
        said, attempts = await answered(sdk, stream=stream)
        await reached(lambda: any(line["event"] == "call" for line in log()))
        await nothing_left(gateway, before)
    assert said == SAID
    assert (len(upstream.requests), len(spare.requests)) == (fault.asked, fault.spared)
    assert attempts == fault.told + (", spare/large=ok" if fault.spared else ", lab/tiny=ok")
    assert all(gap >= fault.gap for gap in gaps(upstream.requests))
    (line,) = (line for line in log() if line["event"] == "call")
    assert (line["status"], line["attempts"]) == ("ok", fault.asked + fault.spared)
    assert (line["provider"], line["output_tokens"]) == ("spare" if fault.spared else "lab", 4)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("fault", "status", "code"), FINAL.values(), ids=FINAL.keys())
async def test_what_no_other_target_would_do_better_is_told_as_the_vendor_told_it(
    upstream: Upstream, spare: Upstream, fault: Answer, status: int, code: str, stream: bool
) -> None:
    upstream.script(fault)
    async with running(config(upstream.base_url, spare.base_url)) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.APIStatusError, match=r"The vendor's own reason\.") as failed:
            await answered(sdk, stream=stream)
    assert failed.value.status_code == status
    assert not code or failed.value.code == code
    assert (len(upstream.requests), len(spare.requests)) == (1, 0)


@contextmanager
def nowhere(kind: str) -> Iterator[str]:
    with refusing() if kind == "refused" else never_accepting() as url:
        yield url


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["refused", "never accepted"])
async def test_a_target_that_takes_no_connection_is_left_at_once(spare: Upstream, kind: str, stream: bool) -> None:
    with nowhere(kind) as url:
        async with running(config(url, spare.base_url)) as gateway, client(gateway) as sdk:
            said, attempts = await answered(sdk, stream=stream)
    word = "provider_unreachable" if kind == "refused" else "provider_timeout"
    assert (said, attempts) == (SAID, f"lab/tiny={word}, spare/large=ok")


async def test_a_prompt_that_is_too_long_goes_to_no_target_of_the_same_size(
    upstream: Upstream, spare: Upstream
) -> None:
    upstream.script(refused(400, code="context_length_exceeded"))
    settings = config(upstream.base_url, spare.base_url, spare_context=8192)
    async with running(settings) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.BadRequestError) as failed:
            await answered(sdk, stream=False)
    assert failed.value.code == "context_length_exceeded"
    assert (len(upstream.requests), len(spare.requests)) == (1, 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_key_that_is_refused_everywhere_is_not_the_callers_401(
    upstream: Upstream, spare: Upstream, log: Log, stream: bool
) -> None:
    upstream.script(refused(401))
    spare.script(refused(401))
    async with running(config(upstream.base_url, spare.base_url)) as gateway, client(gateway) as sdk:
        with pytest.raises(openai.APIStatusError) as failed:
            await answered(sdk, stream=stream)
        exposed = gateway.core.telemetry.exposition()[0].decode()
    assert failed.value.status_code == 502
    alarms = [line for line in log() if line["event"] == "provider_alarm"]
    assert [(line["provider"], line["level"]) for line in alarms] == [("lab", "error"), ("spare", "error")]
    assert 'headgate_provider_alarms_total{provider="lab",reason="provider_unauthorized"} 1.0' in exposed


async def test_over_grpc_the_attempts_are_in_the_headers_and_in_the_trailers(
    upstream: Upstream, spare: Upstream
) -> None:
    upstream.script(refused(500))
    spec = ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="hi")])
    async with (
        running(config(upstream.base_url, spare.base_url)) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = ChatCompletionServiceStub(channel)
        stream = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), timeout=5)
        said = "".join([choice.delta.content async for event in stream for choice in event.chunk.choices])
        told = [await stream.initial_metadata(), await stream.trailing_metadata()]
        spare.script(refused(503))
        whole = stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), timeout=5)
        assert await whole.code() == StatusCode.UNAVAILABLE
        told.append(await whole.trailing_metadata())
    assert said == SAID
    attempts = [dict(metadata)["x-headgate-attempts"] for metadata in told]
    answered_by_the_spare = f"{often('500')}, spare/large=ok"
    assert attempts == [*[answered_by_the_spare] * 2, f"{often('500')}, spare/large=503, spare/large=503"]


async def test_attempts_do_not_outlive_the_callers_deadline(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(refused(429, {"retry-after": "2"}))
    spare.script(refused(429, {"retry-after": "2"}))
    loop = asyncio.get_running_loop()
    async with running(config(upstream.base_url, spare.base_url)) as gateway, client(gateway) as sdk:
        began = loop.time()
        with pytest.raises(openai.RateLimitError) as failed:
            await answered(sdk, stream=False, extra_headers={"x-request-timeout": "1"})
        assert loop.time() - began < 1
    assert failed.value.response.headers["x-headgate-attempts"] == "lab/tiny=429, spare/large=429"


async def test_under_total_failure_there_are_few_attempts_beyond_the_calls(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(refused(500))
    spare.script([Reset()])
    calls = 100
    routing = RoutingConfig(backoff_seconds=0.001)
    async with running(config(upstream.base_url, spare.base_url, routing)) as gateway, client(gateway) as sdk:
        for _ in range(calls):
            with pytest.raises(openai.APIStatusError):
                await answered(sdk, stream=False)
    assert calls <= len(upstream.requests) + len(spare.requests) <= 1.2 * calls


RANDOM_FAULTS: list[Answer] = [
    refused(500),
    refused(429),
    refused(401),
    [Reset()],
    [Silence()],
    sse_answer([Cut()], done=False),
    sse_answer([b"data: {oops\n\n"]),
]


async def test_a_primary_that_fails_by_chance_spoils_no_answer(upstream: Upstream, spare: Upstream) -> None:
    random = Random(4)
    upstream.script(lambda request: random.choice(RANDOM_FAULTS) if random.random() < 0.3 else well(request))
    calls, at_once = 300, asyncio.Semaphore(8)
    # As many may be tried again as fail: with a budget below that, some would rightly be told of a failure.
    routing = RoutingConfig(backoff_seconds=0.01, circuit=CircuitConfig(open_seconds=0.5), retry_budget=0.4)
    # The spare never fails, and so must not seem to where the machine stands still for a moment.
    patient = config(upstream.base_url, spare.base_url, routing, spare_patience=TimeoutsConfig())
    async with running(patient) as gateway, client(gateway) as sdk:
        before = asyncio.all_tasks()

        async def one(number: int) -> str:
            async with at_once:
                return (await answered(sdk, stream=number % 2 == 0))[0]

        said = await asyncio.gather(*(one(number) for number in range(calls)))
        await nothing_left(gateway, before)
    assert set(said) == {SAID}
    assert len(upstream.requests) > 20
    assert len(upstream.requests) + len(spare.requests) <= 1.4 * calls + 10


async def health(gateway: Gateway, model: str = "small") -> int:
    """What the core says of a model."""
    request = HealthCheckRequest(service=f"model/{model}")
    status: int = (await HealthStub(gateway.core.channel).Check(request, timeout=5)).status
    return status


async def test_a_model_whose_circuits_are_all_open_does_not_serve(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(refused(500))
    spare.script(refused(500))
    routing = RoutingConfig(circuit=CircuitConfig(failures=1))
    async with running(config(upstream.base_url, spare.base_url, routing)) as gateway, client(gateway) as sdk:
        assert await health(gateway) == HealthCheckResponse.SERVING
        with pytest.raises(openai.InternalServerError):
            await answered(sdk, stream=False)
        assert await health(gateway) == HealthCheckResponse.NOT_SERVING
        with pytest.raises(aio.AioRpcError) as failed:
            await health(gateway, "large")
    assert failed.value.code() == StatusCode.NOT_FOUND


async def test_a_primary_that_has_recovered_is_used_again(upstream: Upstream, spare: Upstream) -> None:
    upstream.script(well)
    routing = RoutingConfig(circuit=CircuitConfig(open_seconds=0.3))
    async with running(config(upstream.base_url, spare.base_url, routing)) as gateway, client(gateway) as sdk:
        assert await answered(sdk, stream=True) == (SAID, "")
        await upstream.go()
        seen = [(await answered(sdk, stream=True))[1] for _ in range(8)]
        assert "lab/tiny=" in seen[0]
        assert seen[-1] == "", "the circuit is open: nobody asks it any more"
        assert await health(gateway) == HealthCheckResponse.SERVING, "the other target serves"
        assert 'headgate_circuit_state{gen_ai_provider_name="lab",gen_ai_request_model="tiny"} 2.0' in (
            gateway.core.telemetry.exposition()[0].decode()
        )
        count = len(upstream.requests)
        await upstream.come()
        async with asyncio.timeout(5):
            while len(upstream.requests) == count:
                assert (await answered(sdk, stream=True))[0] == SAID
        assert (await answered(sdk, stream=True), len(upstream.requests)) == ((SAID, ""), count + 2)
