"""What each known host is asked: one request for all of them, recorded at a scripted vendor, with what was left out.

HEADGATE_GOLDEN=write rewrites <host>.json.
"""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf import text_format
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, OnUnsupported, Target
from gateway_core.config import ProviderConfig
from gateway_core.errors import UnsupportedParameter
from gateway_core.known.hosts import Host, LocalServer, known_hosts
from gateway_core.providers import load
from gateway_core.services.chat_completion import ChatCompletion
from tests.support import anthropic_vendor, gemini_vendor, ollama_vendor
from tests.support.openai_vendor import completion, streamed
from tests.support.upstream import Answer, Received, Upstream, json_answer, sse_answer

HERE = Path(__file__).parent
HOSTS: list[Host | LocalServer] = [*(host for host in known_hosts().hosts if host.ended is None), *known_hosts().local]

every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)


def asked() -> ChatCompletionSpec:
    text = (HERE / "request.txtpb").read_text(encoding="utf-8")
    return text_format.Parse(text, ChatCompletionSpec())


def row(host: Host | LocalServer, base_url: str) -> ProviderConfig:
    return ProviderConfig.model_validate({"host": host.name, "base_url": base_url, "api_key": "sk-secret-key"})


def call_of(spec: ChatCompletionSpec, *, stream: bool = True, on_unsupported: OnUnsupported = "warn") -> Call[Any]:
    call = Call(request_id="r1", operation=ChatCompletion(), asked=spec, stream=stream)
    call.target = Target("lab", "tiny", on_unsupported)
    return call


def says(received: Received) -> Answer:
    if received.path.endswith("/messages"):
        said = anthropic_vendor.message(anthropic_vendor.text("Hi"))
        streams = received.json().get("stream")
        return anthropic_vendor.streamed_answer(said) if streams else anthropic_vendor.whole_answer(said)
    if received.path.endswith("/api/chat"):
        return ollama_vendor.streamed_answer([ollama_vendor.ended(ollama_vendor.line("Hi"))])
    if "GenerateContent" in received.path:
        return gemini_vendor.streamed_answer([gemini_vendor.document(gemini_vendor.said("Hi"), finish="STOP")])
    return sse_answer(streamed("Hi")) if received.json().get("stream") else json_answer(completion({"content": "Hi"}))


async def ask(host: Host | LocalServer, upstream: Upstream, call: Call[Any]) -> None:
    provider = load("lab", row(host, upstream.base_url.removesuffix("/v1")))
    try:
        assert [event async for event in await provider.open_chat_completion(call)]
    finally:
        await provider.close()


@every_host
async def test_a_host_is_asked_in_its_own_way(host: Host | LocalServer, upstream: Upstream) -> None:
    upstream.script(says)
    call = call_of(asked())
    await ask(host, upstream, call)
    received = await upstream.received()
    document = received.json()
    for name in {"logit_bias", "metadata"} & document.keys():
        document[name] = dict(sorted(document[name].items()))
    found = {
        "path": received.path,
        "key": {name: value for name, value in received.headers.items() if "sk-secret-key" in value},
        "body": document,
        "left_out": [list(rewrite) for rewrite in call.rewrites],
    }
    path = HERE / f"{host.name}.json"
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n"
    if os.environ.get("HEADGATE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8", newline="")
    assert path.read_text(encoding="utf-8") == text


@every_host
async def test_a_host_that_must_not_drop_is_asked_nothing_that_it_does_not_take(
    host: Host | LocalServer, upstream: Upstream
) -> None:
    upstream.script(says)
    warned = call_of(asked())
    await ask(host, upstream, warned)
    told = {rewrite.name for rewrite in warned.rewrites if "takes none back" not in rewrite.reason}
    strict = call_of(asked(), on_unsupported="reject")
    if not told - {"reasoning_effort"}:
        await ask(host, upstream, strict)
        return
    with pytest.raises(UnsupportedParameter) as refused:
        await ask(host, upstream, strict)
    assert refused.value.metadata["param"] in told
    assert len(upstream.requests) == 1


def test_every_host_that_can_be_asked_is_recorded() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == {host.name for host in HOSTS}


def test_there_are_many() -> None:
    assert len(HOSTS) >= 21


async def test_two_answers_are_one_where_the_host_gives_one(upstream: Upstream) -> None:
    upstream.script(says)
    (groq,) = (host for host in HOSTS if host.name == "groq")
    spec = ChatCompletionSpec(model="m", n=2)
    spec.messages.add(role=3, text="Hi")
    for stream in (False, True):
        call = call_of(spec, stream=stream)
        await ask(groq, upstream, call)
        assert [rewrite.name for rewrite in call.rewrites] == ["n"]


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("/openai/v1", "/openai/v1/chat/completions"),
        ("/openai/v1?api-version=preview", "/openai/v1/chat/completions?api-version=preview"),
        (
            "/openai/deployments/{model}?api-version=2024-10-21",
            "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
        ),
    ],
)
async def test_azure_is_asked_at_a_deployment_and_with_a_version(upstream: Upstream, base: str, path: str) -> None:
    upstream.script(json_answer(completion({"content": "Hi"})))
    url = upstream.base_url.removesuffix("/v1") + base
    provider = load("lab", ProviderConfig.model_validate({"host": "azure", "base_url": url, "api_key": "sk-azure"}))
    spec = ChatCompletionSpec(model="m", max_tokens=5)
    spec.messages.add(role=3, text="Hi")
    call = call_of(spec, stream=False)
    call.target = Target("lab", "my gpt")
    assert [event async for event in await provider.open_chat_completion(call)]
    received = await upstream.received()
    assert (received.path, received.headers["api-key"]) == (path, "sk-azure")
    assert "authorization" not in received.headers
    assert received.json()["max_completion_tokens"] == 5
    assert await provider.list_models() == []
    await provider.close()


async def test_a_quirk_of_the_configuration_counts_beside_those_that_are_known(upstream: Upstream) -> None:
    upstream.script(says)
    fields = {"host": "groq", "base_url": upstream.base_url, "quirks": {"renamed_parameters": {"seed": "random_seed"}}}
    provider = load("lab", ProviderConfig.model_validate(fields))
    spec = ChatCompletionSpec(model="m", seed=7, n=2)
    spec.messages.add(role=3, text="Hi")
    assert [event async for event in await provider.open_chat_completion(call_of(spec))]
    document = (await upstream.received()).json()
    assert (document["random_seed"], document.get("n")) == (7, None)
    await provider.close()
