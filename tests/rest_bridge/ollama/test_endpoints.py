"""The dialect, called by Ollama's own SDK and by plain HTTP, over a scripted core."""

import asyncio
import base64
import json
import re
from typing import Any

import httpx
import pytest
from google.protobuf import text_format
from grpc import StatusCode
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk
from headgate.v1.message_pb2 import ROLE_TOOL, ROLE_USER
from ollama import ResponseError

from tests.rest_bridge.ollama.conftest import Bridge, Refusal, until

PNG = b"\x89PNG\r\n\x1a\n"
HI = [{"role": "user", "content": "hi"}]
RATE_LIMITED = Refusal(StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_RATE_LIMITED", "Too many calls.")
BROKEN = Refusal(StatusCode.UNAVAILABLE, "ERROR_REASON_PROVIDER_BROKEN", "The answer broke off.")
SPELLINGS = ("", "/api/v1/ollama")


def chunk(text: str) -> ChatCompletionChunk:
    return text_format.Parse(text, ChatCompletionChunk())


def completion(text: str) -> ChatCompletion:
    return text_format.Parse(text, ChatCompletion())


TEXT = [
    chunk('model: "tiny" choices { delta { role: ROLE_ASSISTANT content: "" } }'),
    chunk('choices { delta { content: "Hel" } }'),
    chunk('choices { delta { content: "lo" } }'),
    chunk('choices { delta {} finish_reason: "stop" }'),
    chunk("usage { prompt_tokens: 5 completion_tokens: 2 total_tokens: 7 }"),
]
WHOLE = completion(
    'choices { message { content: "Hello" } finish_reason: "stop" } usage { prompt_tokens: 5 completion_tokens: 2 }'
)
CALLING = [
    chunk('choices { delta { tool_calls { id: "call_a" function { name: "add" arguments: "{\\"a\\":" } } } }'),
    chunk('choices { delta { tool_calls { function { arguments: " 1}" } } } finish_reason: "tool_calls" }'),
]


async def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await response.aread()).decode().splitlines()]


@pytest.mark.parametrize("prefix", SPELLINGS)
async def test_the_sdk_streams_a_chat(bridge: Bridge, prefix: str) -> None:
    bridge.core.events = TEXT
    sdk = await bridge.sdk(prefix)
    parts = [part async for part in await sdk.chat("small", HI, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == "Hello"
    assert [part.done for part in parts] == [False, False, True]
    last = parts[-1]
    assert (last.model, last.done_reason, last.prompt_eval_count, last.eval_count) == ("small", "stop", 5, 2)
    assert last.total_duration == (last.prompt_eval_duration or 0) + (last.eval_duration or 0) > 0


async def test_the_sdk_chats_without_streaming(bridge: Bridge) -> None:
    bridge.core.completion = WHOLE
    answer = await (await bridge.sdk()).chat("small", HI)
    assert (answer.message.content, answer.done, answer.done_reason, answer.eval_count) == ("Hello", True, "stop", 2)


async def test_the_sdk_streams_a_generation(bridge: Bridge) -> None:
    bridge.core.events = TEXT
    parts = [part async for part in await (await bridge.sdk()).generate("small", "hi", stream=True)]
    assert "".join(part.response or "" for part in parts) == "Hello"
    assert parts[-1].done


async def test_the_sdk_generates_without_streaming(bridge: Bridge) -> None:
    bridge.core.completion = WHOLE
    answer = await (await bridge.sdk()).generate(
        "small", "hi", system="Be brief.", images=[PNG], options={"num_predict": 9}
    )
    assert answer.response == "Hello"
    spec = bridge.core.specs[0]
    assert [message.role for message in spec.messages][-1] == ROLE_USER
    assert spec.messages[1].parts.parts[0].image_url.url.startswith("data:image/png;base64,")
    assert spec.max_tokens == 9


async def test_the_sdk_calls_a_tool_and_tells_its_result(bridge: Bridge) -> None:
    def add(a: int) -> int:
        """Adds.

        Args:
            a: A number
        """
        return a

    bridge.core.events = CALLING
    parts = [part async for part in await (await bridge.sdk()).chat("small", HI, tools=[add], stream=True)]
    called = parts[0].message
    assert called.tool_calls
    assert called.tool_calls[0].function.arguments == {"a": 1}
    result = {"role": "tool", "tool_name": "add", "content": "1"}
    bridge.core.events = TEXT
    async for _ in await (await bridge.sdk()).chat("small", [*HI, called, result], tools=[add], stream=True):
        pass
    first, second = bridge.core.specs
    assert json.loads(first.tools[0].function.parameters_json)["properties"]["a"]["type"] == "integer"
    assert second.messages[2].role == ROLE_TOOL
    assert second.messages[2].tool_call_id == second.messages[1].tool_calls[0].id != ""


async def test_the_sdk_sees_what_the_model_thinks(bridge: Bridge) -> None:
    bridge.core.events = [chunk('choices { delta { reasoning: "Hm." } }'), *TEXT]
    parts = [part async for part in await (await bridge.sdk()).chat("small", HI, think="low", stream=True)]
    assert parts[0].message.thinking == "Hm."
    assert bridge.core.specs[0].reasoning_effort == "low"


async def test_the_sdk_asks_for_a_schema(bridge: Bridge) -> None:
    bridge.core.completion = WHOLE
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    await (await bridge.sdk()).chat("small", HI, format=schema)
    assert json.loads(bridge.core.specs[0].response_format.json_schema.schema_json) == schema


async def test_the_sdk_sends_images(bridge: Bridge) -> None:
    bridge.core.completion = WHOLE
    await (await bridge.sdk()).chat("small", [{"role": "user", "content": "What?", "images": [PNG]}])
    encoded = base64.b64encode(PNG).decode()
    assert bridge.core.specs[0].messages[0].parts.parts[0].image_url.url == f"data:image/png;base64,{encoded}"


async def test_the_sdk_lists_and_shows_models(bridge: Bridge) -> None:
    listed = await (await bridge.sdk()).list()
    assert [model.model for model in listed.models] == ["small"]
    shown = await (await bridge.sdk()).show("small")
    assert shown.capabilities
    assert "completion" in shown.capabilities
    assert (await (await bridge.sdk()).ps()).models == []


async def test_a_model_that_does_not_exist_is_told_in_the_words_of_ollama(bridge: Bridge) -> None:
    with pytest.raises(ResponseError) as caught:
        await (await bridge.sdk()).show("nix")
    assert (caught.value.status_code, caught.value.error) == (404, "model 'nix' not found")


async def test_a_failure_before_the_first_event_has_its_status(bridge: Bridge) -> None:
    bridge.core.events = [RATE_LIMITED]
    with pytest.raises(ResponseError) as caught:
        async for _ in await (await bridge.sdk()).chat("small", HI, stream=True):
            pass
    assert (caught.value.status_code, caught.value.error) == (429, "Too many calls.")


async def test_a_failure_of_a_whole_answer_has_its_status(bridge: Bridge) -> None:
    bridge.core.completion = BROKEN
    with pytest.raises(ResponseError) as caught:
        await (await bridge.sdk()).generate("small", "hi")
    assert caught.value.status_code == 502


async def test_a_late_failure_is_the_last_line_and_nothing_is_done(bridge: Bridge) -> None:
    bridge.core.events = [*TEXT[:2], BROKEN]
    async with bridge.http.stream("POST", "/api/chat", json={"model": "small", "messages": HI}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = await lines_of(response)
    assert lines[0]["message"]["content"] == "Hel"
    assert lines[-1] == {"error": "The answer broke off."}
    assert not any(line.get("done") for line in lines)


async def test_the_sdk_raises_a_late_failure(bridge: Bridge) -> None:
    bridge.core.events = [*TEXT[:2], BROKEN]
    with pytest.raises(ResponseError, match="broke off"):
        async for _ in await (await bridge.sdk()).chat("small", HI, stream=True):
            pass


@pytest.mark.parametrize("stream", [True, False])
async def test_unreadable_arguments_of_a_tool_call_are_an_error(bridge: Bridge, stream: bool) -> None:
    calls = 'tool_calls { id: "c" function { name: "add" arguments: "{\\"a\\":" } }'
    bridge.core.events = [chunk(f"choices {{ delta {{ {calls} }} finish_reason: 'tool_calls' }}")]
    bridge.core.completion = completion(f"choices {{ message {{ {calls} }} finish_reason: 'tool_calls' }}")
    body = {"model": "small", "messages": HI, "stream": stream}
    response = await bridge.http.post("/api/chat", json=body)
    assert response.status_code == (200 if stream else 502)
    assert "'add'" in response.json()["error"]


@pytest.mark.parametrize("stream", [True, False])
async def test_headers_tell_who_answered_and_what_was_rewritten(bridge: Bridge, stream: bool) -> None:
    bridge.core.events, bridge.core.completion = TEXT, WHOLE
    warnings = (("x-headgate-warning", "seed: dropped"), ("x-headgate-warning", "top_k: dropped"))
    bridge.core.answer_metadata += warnings
    body = {"model": "small", "messages": HI, "stream": stream}
    response = await bridge.http.post("/api/chat", json=body)
    assert response.headers["x-headgate-provider"] == "lab"
    assert response.headers["x-headgate-request-id"] == "r-1"
    assert response.headers.get_list("x-headgate-warning") == ["seed: dropped", "top_k: dropped"]


async def test_a_failure_tells_the_id_of_the_request(bridge: Bridge) -> None:
    bridge.core.events = [RATE_LIMITED]
    response = await bridge.http.post("/api/chat", json={"model": "small", "messages": HI})
    assert response.headers["x-headgate-request-id"] == "r-1"


async def test_key_and_deadline_reach_the_core(bridge: Bridge) -> None:
    bridge.core.completion = WHOLE
    headers = {"authorization": "Bearer k", "x-request-timeout": "30"}
    body = {"model": "small", "prompt": "hi", "stream": False}
    await bridge.http.post("/api/generate", json=body, headers=headers)
    assert bridge.core.metadata["authorization"] == "Bearer k"
    assert bridge.core.time_remaining is not None
    assert 0 < bridge.core.time_remaining <= 31  # gRPC's clock is a coarse one


@pytest.mark.parametrize("line_read", [False, True])
async def test_a_client_that_leaves_cancels_the_call(bridge: Bridge, line_read: bool) -> None:
    bridge.core.events = [*(TEXT[:2] if line_read else []), asyncio.Event()]
    body = {"model": "small", "messages": HI}

    async def call() -> None:
        async with bridge.http.stream("POST", "/api/chat", json=body) as response:
            async for _ in response.aiter_lines():
                came.set()

    came = asyncio.Event()
    caller = asyncio.create_task(call())
    await until(lambda: came.is_set() if line_read else bridge.core.specs)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await until(bridge.core.cancelled.is_set)


async def test_events_are_not_held_back(bridge: Bridge) -> None:
    more = asyncio.Event()
    bridge.core.events = [*TEXT[:2], more, *TEXT[2:]]
    answer = await (await bridge.sdk()).chat("small", HI, stream=True)
    async with asyncio.timeout(10):
        assert (await anext(answer)).message.content == "Hel"
        more.set()
        assert [part.message.content async for part in answer] == ["lo", ""]


@pytest.mark.parametrize("prefix", SPELLINGS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_says_that_ollama_is_running(bridge: Bridge, prefix: str, method: str) -> None:
    for path in {"/", ""} if prefix else {"/"}:
        response = await bridge.http.request(method, prefix + path)
        assert (response.status_code, response.text) == (200, "" if method == "HEAD" else "Ollama is running")


async def test_the_version_is_one_that_clients_take(bridge: Bridge) -> None:
    version = (await bridge.http.get("/api/version")).json()["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)


async def test_nothing_to_say_only_loads_and_asks_no_model(bridge: Bridge) -> None:
    loaded = await (await bridge.sdk()).generate("small")
    assert (loaded.response, loaded.done, loaded.done_reason) == ("", True, "load")
    parts = [part async for part in await (await bridge.sdk()).chat("small", [], stream=True, keep_alive=0)]
    assert [(part.message.content, part.done, part.done_reason) for part in parts] == [("", True, "unload")]
    assert bridge.core.specs == []


async def test_a_model_that_does_not_exist_cannot_be_loaded(bridge: Bridge) -> None:
    with pytest.raises(ResponseError) as caught:
        await (await bridge.sdk()).chat("nix", [])
    assert caught.value.status_code == 404


NOT_OFFERED = [
    ("POST", "pull"),
    ("POST", "push"),
    ("POST", "create"),
    ("POST", "copy"),
    ("DELETE", "delete"),
    ("POST", "embed"),
    ("POST", "embeddings"),
    ("POST", "blobs/sha256:0"),
]


@pytest.mark.parametrize("prefix", SPELLINGS)
async def test_what_is_not_offered_says_so(bridge: Bridge, prefix: str) -> None:
    for method, operation in NOT_OFFERED:
        response = await bridge.http.request(method, f"{prefix}/api/{operation}", content=b"not even JSON")
        assert response.status_code == 501
        assert f"'{operation}'" in response.json()["error"]
