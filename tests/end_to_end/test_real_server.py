"""A model server that nobody here wrote, with its own tokenizer and sampling, through a whole gateway.

README.md beside this file says how to get one.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import openai
import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from ollama import AsyncClient
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel

from gateway_core.config import Config, ProviderConfig
from tests.support.gateway import MESSAGE_OPTIONS, Arrangement, running
from tests.support.openai_vendor import texts

UPSTREAM = os.environ.get("HEADGATE_TEST_UPSTREAM", "").rstrip("/")
KEY = os.environ.get("HEADGATE_TEST_UPSTREAM_KEY")
MODEL = os.environ.get("HEADGATE_TEST_UPSTREAM_MODEL", "")
MANY = 1500
"""Tokens of an answer that takes a while."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not UPSTREAM, reason="HEADGATE_TEST_UPSTREAM is not set (see tests/end_to_end/README.md)"),
]

STEADY: dict[str, Any] = {"temperature": 0, "seed": 7}
"""The most probable token always: an answer that begins well today does so tomorrow."""

ASKED = "Say something about rivers."
HI: list[Any] = [{"role": "user", "content": ASKED}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "switch",
        "description": "Switches a lamp on or off.",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
            "additionalProperties": False,
        },
    },
}
LONG: Any = {"type": "array", "items": {"enum": ["river", "stream"]}, "minItems": 500}
CHOICES: dict[str, Any] = {"required": "required", "by name": {"type": "function", "function": {"name": "switch"}}}


@dataclass(frozen=True, slots=True)
class Real:
    """A gateway before the server, a client of every kind, and the server itself."""

    model: str
    """As the gateway's callers name it."""
    stub: Any
    sdk: AsyncOpenAI
    ollama: AsyncClient
    server: httpx.AsyncClient

    async def asked(self, **fields: Any) -> httpx.Response:
        """What the server itself answers."""
        body = {"model": self.model.partition("/")[2], "messages": HI, **fields}
        return await self.server.post("/chat/completions", json=body)

    async def grpc(self, **fields: Any) -> Any:
        """What a generated client gets."""
        spec: Any = {"model": self.model, "messages": [{"role": ROLE_USER, "text": ASKED}], **fields}
        return (await self.stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), timeout=60)).completion

    def grpc_stream(self, **fields: Any) -> Any:
        """What a generated client gets in chunks."""
        spec: Any = {"model": self.model, "messages": [{"role": ROLE_USER, "text": ASKED}], **fields}
        return self.stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec), timeout=60)


@pytest.fixture
async def real(arrangement: Arrangement) -> AsyncIterator[Real]:
    lab = ProviderConfig.model_validate({"kind": "openai", "base_url": UPSTREAM, "api_key": KEY})
    headers = {"authorization": f"Bearer {KEY}"} if KEY else {}
    async with (
        httpx.AsyncClient(base_url=UPSTREAM, headers=headers, timeout=60) as server,
        running(Config(providers={"real": lab}), arrangement) as gateway,
        aio.insecure_channel(gateway.grpc_address, MESSAGE_OPTIONS) as channel,
        DefaultAsyncHttpxClient(trust_env=False) as http,
        AsyncClient(host=gateway.http_url, trust_env=False) as ollama,
    ):
        model = MODEL or (await server.get("/models")).raise_for_status().json()["data"][0]["id"]
        sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="none", max_retries=0, http_client=http)
        yield Real(f"real/{model}", ChatCompletionServiceStub(channel), sdk, ollama, server)


async def test_a_chat_is_answered_over_grpc(real: Real) -> None:
    whole = await real.grpc(max_tokens=16, **STEADY)
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.prompt_tokens > 0
    assert whole.usage.completion_tokens > 0
    chunks = [response.chunk async for response in real.grpc_stream(max_tokens=16, **STEADY)]
    assert "".join(choice.delta.content for chunk in chunks for choice in chunk.choices)
    told = [chunk.usage for chunk in chunks if chunk.HasField("usage")]
    assert {usage.prompt_tokens for usage in told} <= {whole.usage.prompt_tokens}


async def test_a_chat_is_answered_through_openais_sdk(real: Real) -> None:
    create = real.sdk.chat.completions.create
    whole = await create(model=real.model, messages=HI, max_tokens=16, **STEADY)
    assert whole.choices[0].message.content
    assert whole.usage
    assert whole.usage.prompt_tokens > 0
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    stream = await create(
        model=real.model, messages=HI, max_tokens=16, stream=True, stream_options={"include_usage": True}, **STEADY
    )
    chunks = [chunk async for chunk in stream]
    assert texts(chunks)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    if "usage" not in (await real.asked(max_tokens=2, stream=True, stream_options={"include_usage": True})).text:
        pytest.skip("the server does not tell the usage of a stream")
    assert chunks[-1].usage
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens > 0


async def test_a_chat_is_answered_through_ollamas_sdk(real: Real) -> None:
    options = {"num_predict": 16, **STEADY}
    whole = await real.ollama.chat(real.model, HI, options=options)
    assert whole.message.content
    assert whole.done
    assert whole.prompt_eval_count
    assert whole.eval_count
    parts = [part async for part in await real.ollama.chat(real.model, HI, options=options, stream=True)]
    assert "".join(part.message.content or "" for part in parts)
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].prompt_eval_count in (None, whole.prompt_eval_count)
    generated = await real.ollama.generate(real.model, ASKED, options=options)
    assert generated.response
    pieces = [part async for part in await real.ollama.generate(real.model, ASKED, options=options, stream=True)]
    assert "".join(piece.response or "" for piece in pieces)


async def test_the_same_seed_gives_the_same_text_by_every_way(real: Real) -> None:
    asked: dict[str, Any] = {"max_tokens": 16, **STEADY}
    first, second = [(await real.asked(**asked)).json()["choices"][0]["message"]["content"] for _ in range(2)]
    if first != second:
        pytest.skip("the server does not answer alike twice")
    create = real.sdk.chat.completions.create
    said = [
        (await create(model=real.model, messages=HI, **asked)).choices[0].message.content,
        texts([chunk async for chunk in await create(model=real.model, messages=HI, stream=True, **asked)]),
        (await real.grpc(**asked)).choices[0].message.content,
        texts([response.chunk async for response in real.grpc_stream(**asked)]),
        (await real.ollama.chat(real.model, HI, options={"num_predict": 16, **STEADY})).message.content,
    ]
    assert said == [first] * len(said)


async def test_the_limit_of_tokens_ends_the_answer(real: Real) -> None:
    create = real.sdk.chat.completions.create
    whole = await create(model=real.model, messages=HI, max_tokens=1, **STEADY)
    assert (whole.choices[0].finish_reason, whole.usage and whole.usage.completion_tokens) == ("length", 1)
    stream = await create(model=real.model, messages=HI, max_tokens=1, stream=True, **STEADY)
    reasons = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
    assert reasons[-1] == "length"
    assert (await real.grpc(max_tokens=1, **STEADY)).choices[0].finish_reason == "length"
    assert (await real.ollama.chat(real.model, HI, options={"num_predict": 1, **STEADY})).done_reason == "length"


class Lamp(BaseModel):
    on: bool
    colour: Literal["red", "green"]


async def test_an_answer_follows_its_schema(real: Real) -> None:
    schema = {**Lamp.model_json_schema(), "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "Lamp", "schema": schema, "strict": True}}
    own = await real.asked(response_format=form, max_tokens=200)
    try:
        Lamp.model_validate_json(own.json()["choices"][0]["message"]["content"])
    except (KeyError, ValueError):
        pytest.skip("the server itself does not follow a JSON schema")
    parsed = await real.sdk.chat.completions.parse(model=real.model, messages=HI, response_format=Lamp, max_tokens=200)
    assert isinstance(parsed.choices[0].message.parsed, Lamp)
    options: Any = {"model": real.model, "messages": HI, "response_format": Lamp, "max_tokens": 200}
    async with real.sdk.chat.completions.stream(**options) as stream:
        assert isinstance((await stream.get_final_completion()).choices[0].message.parsed, Lamp)
    said = await real.ollama.chat(real.model, HI, format=schema, options={"num_predict": 200})
    assert Lamp.model_validate_json(said.message.content or "")


class Switch(BaseModel):
    on: bool


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
async def test_a_tool_is_called(real: Real, choice: Any) -> None:
    asked: dict[str, Any] = {"tools": [ADD], "tool_choice": choice, "max_tokens": 200}
    own = await real.asked(**asked)
    if own.status_code != 200 or not own.json()["choices"][0]["message"].get("tool_calls"):
        pytest.skip("the server itself does not call tools when it must")
    whole = await real.sdk.chat.completions.create(model=real.model, messages=HI, **asked)
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "switch"
    assert Switch.model_validate_json(call.function.arguments)
    async with real.sdk.chat.completions.stream(model=real.model, messages=HI, **asked) as stream:
        (streamed,) = (await stream.get_final_completion()).choices[0].message.tool_calls or []
    assert streamed.function.name == "switch"
    assert Switch.model_validate_json(streamed.function.arguments)
    assert streamed.id


async def slots(real: Real) -> list[dict[str, Any]]:
    """What the server works on, as llama.cpp's server tells it."""
    response = await real.server.get(UPSTREAM.removesuffix("/v1") + "/slots")
    if response.status_code != 200:
        pytest.skip("the server does not tell what it works on (GET /slots)")
    found: list[dict[str, Any]] = response.json()
    return found


async def slots_at_rest(real: Real) -> list[dict[str, Any]]:
    """The same, once the server works on nothing."""
    while True:
        found = await slots(real)
        if not any(slot["is_processing"] for slot in found):
            return found
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["grpc", "openai", "ollama"])
async def test_leaving_in_the_middle_frees_the_server(real: Real, way: str) -> None:
    await slots(real)
    extra = {"ignore_eos": True, "logprobs": True, "top_logprobs": 20}
    if way == "grpc":
        call = real.grpc_stream(max_tokens=MANY, logprobs=True, top_logprobs=20, extra_json='{"ignore_eos": true}')
        await anext(aiter(call))
        call.cancel()
    elif way == "openai":
        stream = await real.sdk.chat.completions.create(
            model=real.model, messages=HI, max_tokens=MANY, stream=True, extra_body=extra
        )
        await anext(stream)
        await stream.close()
    else:
        # Ollama's API has no word for ignore_eos: a schema keeps the answer from ending early.
        parts: Any = await real.ollama.chat(
            real.model, HI, format=LONG, options={"num_predict": MANY}, logprobs=True, top_logprobs=20, stream=True
        )
        await anext(parts)
        await parts.aclose()
    async with asyncio.timeout(10):
        found = await slots_at_rest(real)
    last = max(found, key=lambda slot: slot.get("id_task", -1))
    # A task that came to its end has no next token.
    assert last["next_token"][0]["has_next_token"]


async def test_the_model_is_listed(real: Real) -> None:
    assert real.model in [model.id async for model in real.sdk.models.list()]
    assert (await real.sdk.models.retrieve(real.model)).owned_by == "real"
    assert real.model in [model.model for model in (await real.ollama.list()).models]


async def test_a_wrong_key_is_the_gateways_fault_and_stays_secret(real: Real) -> None:
    refused = await real.server.get("/models", headers={"authorization": "Bearer sk-wrong-1234567890"})
    chat = await real.server.post(
        "/chat/completions",
        json={"messages": HI, "max_tokens": 1},
        headers={"authorization": "Bearer sk-wrong-1234567890"},
    )
    if chat.status_code not in (401, 403):
        pytest.skip(f"the server takes any key (HTTP {refused.status_code}, {chat.status_code})")
    wrong = ProviderConfig.model_validate({"kind": "openai", "base_url": UPSTREAM, "api_key": "sk-wrong-1234567890"})
    async with running(Config(providers={"real": wrong})) as gateway, DefaultAsyncHttpxClient(trust_env=False) as http:
        sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="none", max_retries=2, http_client=http)
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model=real.model, messages=HI)
    assert (caught.value.status_code, caught.value.code) == (502, "provider_unauthorized")
    assert "sk-wrong" not in caught.value.response.text
