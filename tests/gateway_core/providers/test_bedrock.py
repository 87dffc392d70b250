"""The provider `bedrock` against a vendor on raw sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage

from gateway_core import errors
from gateway_core.call import Call, OnUnsupported, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers import Provider, load
from gateway_core.providers.bedrock import decoder
from gateway_core.routing.failure import Failure, failure
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.upstream.signature import Credentials, Signer
from tests.support.bedrock_vendor import (
    REQUEST_ID,
    called,
    completion,
    events,
    refusal,
    said,
    streamed_answer,
    whole_answer,
)
from tests.support.event_stream import encoded, event, exception
from tests.support.upstream import Cut, Reset, Silence, Step, Upstream, Wait, reached

KEYS = {"region": "us-east-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "s3cr3t-0123456789"}
MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
VARIABLES = (
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
)  # fmt: skip

Make = Callable[..., Provider]


@pytest.fixture(autouse=True)
def _no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def make(upstream: Upstream) -> AsyncIterator[Make]:
    """Makes providers of the vendor, and closes them."""
    made: list[Provider] = []

    def provider(**fields: Any) -> Provider:
        row = {"kind": "bedrock", "base_url": upstream.base_url.removesuffix("/v1"), "aws": KEYS, **fields}
        made.append(load("lab", ProviderConfig.model_validate(row)))
        return made[-1]

    yield provider
    for each in made:
        await each.close()


def call_of(*, stream: bool = True, model: str = MODEL, on: OnUnsupported = "warn", **fields: Any) -> Any:
    asked = ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="Hi")], **fields)
    call = Call(request_id="r1", operation=ChatCompletion(), asked=asked, stream=stream)
    call.target = Target("lab", model, on)
    return call


async def read(provider: Provider, call: Any, into: list[ChatCompletionChunk]) -> None:
    """Reads an answer; what was said before a failure is kept."""
    async with aclosing(await provider.open_chat_completion(call)) as opened:
        async for each in opened:
            into.append(each)


async def answered(provider: Provider, call: Any) -> list[ChatCompletionChunk]:
    found: list[ChatCompletionChunk] = []
    await read(provider, call, found)
    return found


def text(chunks: Sequence[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content for chunk in chunks for choice in chunk.choices)


async def test_a_stream_is_read_to_its_end_and_its_connection_is_used_again(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer(events(said("Hel", "lo"))))
    provider = make()
    for _ in range(2):
        call = call_of()
        chunks = await answered(provider, call)
        assert text(chunks) == "Hello"
        assert chunks[-1].usage.total_tokens == 13
        assert call.upstream_request_id == REQUEST_ID
    assert upstream.connection_count == 1


async def test_what_is_sent_is_signed_over_what_is_sent(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer(events(said("a"))), whole_answer(completion({"text": "a"})))
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet-20241022-v2:0"
    provider = make(aws={**KEYS, "session_token": "t0ken"})
    await answered(provider, call_of())
    await answered(provider, call_of(stream=False, model=arn))
    first, second = upstream.requests
    assert first.path == "/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse-stream"
    assert second.path == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2F"
        "us.anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse"
    )
    assert first.headers["accept"] == "application/vnd.amazon.eventstream"
    for sent in (first, second):
        at = datetime.strptime(sent.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        signer = Signer(Credentials("AKIDEXAMPLE", "s3cr3t-0123456789", "t0ken"), "us-east-1", "bedrock")
        signed = {name: sent.headers[name] for name in ("content-type", "host")}
        assert signer.headers("POST", sent.path, signed, sent.body, at).items() <= sent.headers.items()


async def test_a_bedrock_key_is_sent_as_it_is(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(completion({"text": "a"})))
    await answered(make(aws=None, api_key="bedrock-key"), call_of(stream=False))
    headers = upstream.requests[0].headers
    assert headers["authorization"] == "Bearer bedrock-key"
    assert "x-amz-date" not in headers


async def test_keys_of_the_environment_are_taken_where_the_configuration_has_none(
    upstream: Upstream, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script(whole_answer(completion({"text": "a"})))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "env-token")
    await answered(make(aws=None), call_of(stream=False))
    await answered(make(), call_of(stream=False))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "env-bearer")
    await answered(make(aws=None), call_of(stream=False))
    first, second, third = (request.headers for request in upstream.requests)
    assert "Credential=AKIDENV/" in first["authorization"]
    assert "/eu-west-1/bedrock/aws4_request" in first["authorization"]
    assert first["x-amz-security-token"] == "env-token"
    assert "Credential=AKIDEXAMPLE/" in second["authorization"]
    assert "x-amz-security-token" not in second
    assert third["authorization"] == "Bearer env-bearer"


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, "needs api_key"),
        ({"aws": {"region": "us-east-1"}}, "needs api_key"),
        ({"api_key": "k"}, "needs aws.region"),
    ],
)
def test_without_keys_or_a_region_it_does_not_start(fields: dict[str, Any], missing: str) -> None:
    with pytest.raises(ValueError, match=rf"providers\.lab: {missing}"):
        load("lab", ProviderConfig.model_validate({"kind": "bedrock", **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "openai", "base_url": "http://lab/v1", "aws": KEYS},
        {"kind": "bedrock", "aws": {"access_key_id": "a"}},
        {"kind": "bedrock", "aws": {"session_token": "a"}},
        {"kind": "bedrock", "aws": {"region": "evil.example/"}},
        {"kind": "bedrock", "aws": KEYS, "api_key": "k"},
    ],
)
def test_keys_that_do_not_fit_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"aws|together|needs|region|exclude"):
        ProviderConfig.model_validate(fields)


async def test_an_answer_that_calls_a_tool_is_the_same_streamed_and_whole(upstream: Upstream, make: Make) -> None:
    block = {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 1}}}
    upstream.script(
        whole_answer(completion({"text": "Let me."}, block, stop="tool_use")),
        streamed_answer(events(said("Let ", "me."), called("add", "t1", '{"a"', ":1}"), stop="tool_use")),
    )
    provider = make()
    whole, streamed = [fold(await answered(provider, call_of(stream=stream))) for stream in (False, True)]
    whole.created = streamed.created = 0
    assert whole == streamed
    assert whole.choices[0].message.tool_calls[0].function.arguments == '{"a":1}'


HELLO = events(said("Hel", "lo"))


@pytest.mark.parametrize("end", [Cut(), Reset()])
async def test_a_stream_that_breaks_off_is_an_error_and_never_an_answer(
    upstream: Upstream, make: Make, end: Step
) -> None:
    upstream.script(streamed_answer([*HELLO[:3], end]))
    found: list[ChatCompletionChunk] = []
    with pytest.raises(errors.ProviderBroken):
        await read(make(), call_of(), found)
    assert text(found) == "Hello"
    assert not any(choice.finish_reason for chunk in found for choice in chunk.choices)


async def test_a_stream_that_ends_well_before_its_end_is_an_error(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer(HELLO[:4]))
    with pytest.raises(errors.ProviderBroken, match="broke its answer off"):
        await answered(make(), call_of())


async def test_an_answer_without_its_usage_ends_in_time(
    upstream: Upstream, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "USAGE_SECONDS", 0.05)
    upstream.script(streamed_answer([*HELLO[:-1], Silence()]))
    async with asyncio.timeout(5):
        chunks = await answered(make(), call_of())
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("rest", [b"", b"\x00\x00", Cut(), Reset()])
async def test_what_breaks_after_the_end_breaks_nothing(upstream: Upstream, make: Make, rest: Step) -> None:
    upstream.script(streamed_answer([*HELLO[:-1], rest]))
    chunks = await answered(make(), call_of())
    assert chunks[-1].choices[0].finish_reason == "stop"


FAILURES = {
    "throttlingException": 429, "validationException": 400, "internalServerException": 500,
    "serviceUnavailableException": 503,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "status"), FAILURES.items())
@pytest.mark.parametrize("begun", [False, True])
async def test_a_failure_in_a_stream_has_the_status_that_it_has_elsewhere(
    upstream: Upstream, make: Make, kind: str, status: int, begun: bool
) -> None:
    upstream.script(streamed_answer([*HELLO[: 2 if begun else 1], exception(kind, {"message": "No more."})]))
    provider, call = make(), call_of()
    if not begun:
        # Another target may still be tried.
        with pytest.raises(errors.ProviderRefused) as failure:
            await provider.open_chat_completion(call)
    else:
        found: list[ChatCompletionChunk] = []
        with pytest.raises(errors.ProviderRefused) as failure:
            await read(provider, call, found)
        assert text(found) == "Hel"
    assert failure.value.message == "No more."
    assert failure.value.metadata["upstream_status"] == str(status)
    assert failure.value.metadata["upstream_type"] == kind


@pytest.mark.parametrize(
    "failure",
    [
        exception("modelStreamErrorException", {"message": "Retry.", "originalStatusCode": 500}),
        exception("someNewException", {"Message": "Retry."}),
        encoded({":message-type": "error", ":error-code": "Oops", ":error-message": "Retry."}, b""),
    ],
    ids=["of the model", "of a new kind", "without a kind"],
)
async def test_a_failure_of_the_model_may_be_tried_again(upstream: Upstream, make: Make, failure: bytes) -> None:
    upstream.script(streamed_answer([*HELLO[:2], failure]))
    with pytest.raises(errors.ProviderBroken, match="Retry") as raised:
        await answered(make(), call_of())
    assert raised.value.retryable


async def test_a_damaged_stream_is_an_error(upstream: Upstream, make: Make) -> None:
    damaged = bytearray(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x"}}))
    damaged[-6] ^= 1
    upstream.script(streamed_answer([*HELLO[:2], bytes(damaged), *HELLO[2:]]))
    with pytest.raises(errors.ProviderBroken, match="damaged"):
        await answered(make(), call_of())


async def test_events_that_are_not_known_are_passed_over(upstream: Upstream, make: Make) -> None:
    new = [("initial-response", {}), ("somethingNew", {"a": [1]})]
    upstream.script(streamed_answer([*new, *HELLO[:2], *new, *HELLO[2:]]))
    assert text(await answered(make(), call_of())) == "Hello"


@pytest.mark.parametrize(
    ("status", "kind", "message", "raised"),
    [
        (400, "ValidationException", "The provided model identifier is invalid.", errors.ProviderRefused),
        (403, "AccessDeniedException", "You don't have access to the model.", errors.ProviderUnauthorized),
        (403, "UnrecognizedClientException", "The security token is invalid.", errors.ProviderUnauthorized),
        (403, "ExpiredTokenException", "The token is expired", errors.ProviderUnauthorized),
        (403, "InvalidSignatureException", "It does not match.", errors.ProviderUnauthorized),
        (404, "ResourceNotFoundException", "No such model.", errors.ProviderRefused),
        (429, "ThrottlingException", "Too many tokens, please wait.", errors.ProviderRefused),
        (503, "ServiceUnavailableException", "Bedrock is busy.", errors.ProviderRefused),
    ],
)
@pytest.mark.parametrize("field", ["message", "Message"])
async def test_a_refusal_is_told_with_its_type(
    upstream: Upstream, make: Make, status: int, kind: str, message: str, raised: type[errors.ProviderError], field: str
) -> None:
    upstream.script(refusal(status, kind, message, field))
    call = call_of()
    with pytest.raises(raised) as failure:
        await make().open_chat_completion(call)
    assert message in failure.value.message
    assert failure.value.metadata["upstream_status"] == str(status)
    if raised is errors.ProviderRefused:
        assert failure.value.metadata["upstream_type"] == kind
    assert call.upstream_request_id == REQUEST_ID


async def test_a_model_that_failed_may_be_tried_elsewhere(upstream: Upstream, make: Make) -> None:
    upstream.script(refusal(424, "ModelErrorException", "The model failed."))
    with pytest.raises(errors.ProviderRefused) as failure_of_the_model:
        await make().open_chat_completion(call_of())
    assert failure_of_the_model.value.retryable
    assert failure(failure_of_the_model.value) is Failure.FAILED
    upstream.script(refusal(400, "ValidationException", "Input is too long for requested model."))
    with pytest.raises(errors.ProviderRefused) as too_long:
        await make().open_chat_completion(call_of())
    assert failure(too_long.value) is Failure.TOO_LONG


async def test_no_refusal_tells_keys_accounts_or_their_users(upstream: Upstream, make: Make) -> None:
    told = (
        "User: arn:aws:sts::123456789012:assumed-role/prod/alice is not authorized to perform: bedrock:InvokeModel on "
        "resource: arn:aws:bedrock:us-east-1:123456789012:inference-profile/x with AKIDEXAMPLE, s3cr3t-0123456789, t0ken!"
    )
    upstream.script(refusal(403, "AccessDeniedException", told))
    with pytest.raises(errors.ProviderUnauthorized) as failure:
        await make(aws={**KEYS, "session_token": "t0ken!"}).open_chat_completion(call_of())
    shown = f"{failure.value.message} {failure.value.metadata}"
    assert "bedrock:InvokeModel" in shown
    assert not any(word in shown for word in ("123456789012", "alice", "AKIDEXAMPLE", "s3cr3t", "t0ken"))


def test_keys_are_not_shown_with_the_configuration() -> None:
    row = ProviderConfig.model_validate({"kind": "bedrock", "aws": {**KEYS, "session_token": "t0ken!"}})
    assert not any(word in repr(row) + row.model_dump_json() for word in ("AKIDEXAMPLE", "s3cr3t", "t0ken"))


async def test_leaving_closes_the_connection(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer([*HELLO[:2], Silence()]))
    opened = await make().open_chat_completion(call_of())
    assert await anext(opened)
    await opened.aclose()
    await reached(upstream.requests[0].closed.is_set)


async def test_cancelling_before_the_answer_begins_closes_the_connection(upstream: Upstream, make: Make) -> None:
    upstream.script(streamed_answer([HELLO[0], Silence()]))
    task = asyncio.ensure_future(make().open_chat_completion(call_of()))
    received = await upstream.received()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await reached(received.closed.is_set)


async def test_text_arrives_before_more_is_said(upstream: Upstream, make: Make) -> None:
    go_on = asyncio.Event()
    upstream.script(streamed_answer([*HELLO[:2], Wait(go_on), *HELLO[2:]]))
    async with aclosing(await make().open_chat_completion(call_of())) as opened, asyncio.timeout(5):
        first = [await anext(opened), await anext(opened)]
        assert text(first) == "Hel"
        go_on.set()
        assert text([each async for each in opened]) == "lo"


async def test_what_converse_cannot_take_is_told_and_what_it_does_anyway_is_not(upstream: Upstream, make: Make) -> None:
    upstream.script(whole_answer(completion({"text": "a"})))
    call = call_of(stream=False, n=1, seed=7, parallel_tool_calls=True, store=False, reasoning_effort="low")
    await answered(make(), call)
    assert [rewrite.name for rewrite in call.rewrites] == ["seed", "reasoning_effort"]
    with pytest.raises(errors.UnsupportedParameter):
        await answered(make(), call_of(stream=False, on="reject", parallel_tool_calls=False))
    assert upstream.requests[0].json() == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


async def test_no_models_are_listed(make: Make) -> None:
    assert await make().list_models() == []
