"""Requests that are wrong, each with its status and the error's text; the server answers the next one."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from headgate.v1.chat_completion_pb2 import ChatCompletion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.ollama.request import asks_to_unload, chat_spec, generate_spec, is_streamed
from tests.rest_bridge.ollama.conftest import Bridge, serving

PNG = "iVBORw0KGgo="
USER = {"role": "user", "content": "hi"}
CALL = {"function": {"name": "f", "arguments": {}}}


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "small", "messages": [USER], "stream": False, **fields}).encode()


def said(**fields: Any) -> bytes:
    return chat(messages=[USER, {"role": "user", **fields}])


def called(call: Any) -> bytes:
    return chat(messages=[{"role": "assistant", "tool_calls": [call]}])


def tool(**function: Any) -> bytes:
    return chat(tools=[{"type": "function", "function": {"name": "f", **function}}])


def generate(**fields: Any) -> bytes:
    return json.dumps({"model": "small", "prompt": "hi", "stream": False, **fields}).encode()


BODIES = [
    # what is no JSON object
    ("chat", b"", "The body is empty"),
    ("chat", b"   ", "The body is empty"),
    ("chat", b'{"model": "small", "messages": [', "not valid JSON"),
    ("chat", b'{"model": "small"} {}', "not valid JSON"),
    ("chat", b"{'model': 'small'}", "not valid JSON"),
    ("chat", b'{"model": "\xff\xfe"}', "not valid JSON"),
    ("chat", b'{"model": "\\ud800"}', "not valid JSON"),
    ("chat", b'{"model": NaN}', "not valid JSON"),
    ("chat", b"[]", "must be a JSON object"),
    ("chat", b'"small"', "must be a JSON object"),
    ("chat", b"null", "must be a JSON object"),
    ("chat", b"\x00" * 100, "not valid JSON"),
    ("chat", b'{"x": ' + b"[" * 150 + b"]" * 150 + b"}", "nests deeper than 100"),
    ("chat", b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON|nests deeper"),
    ("chat", b'{"x": ' + b'{"a": ' * 5000 + b"1" + b"}" * 5000 + b"}", "not valid JSON|nests deeper"),
    # the model
    ("chat", b"{}", "model is required"),
    ("chat", chat(model=""), "model is required"),
    ("chat", chat(model=None), "model is required"),
    ("chat", chat(model=7), "'model': expected a string"),
    ("chat", chat(model=["small"]), "'model': expected a string"),
    # the messages
    ("chat", chat(messages="hi"), "'messages': expected an array"),
    ("chat", chat(messages={"role": "user"}), "'messages': expected an array"),
    ("chat", chat(messages=["hi"]), r"'messages\[0\]': expected an object"),
    ("chat", chat(messages=[None]), r"'messages\[0\]': expected an object"),
    ("chat", chat(messages=[{"content": "hi"}]), r"'messages\[0\].role'"),
    ("chat", chat(messages=[{"role": "", "content": "hi"}]), r"messages\[0\].role must be one of"),
    ("chat", chat(messages=[{"role": "pirate"}]), r"messages\[0\].role must be one of"),
    ("chat", chat(messages=[{"role": 1}]), r"'messages\[0\].role': expected a string"),
    ("chat", said(content=[{"type": "text", "text": "hi"}]), r"'messages\[1\].content': expected a string"),
    ("chat", said(content=5), r"'messages\[1\].content': expected a string"),
    ("chat", said(thinking=True), r"'messages\[1\].thinking': expected a string"),
    ("chat", chat(messages=[{"role": "tool", "tool_call_id": 1}]), r"'messages\[0\].tool_call_id': expected a string"),
    ("chat", chat(messages=[{"role": "tool", "tool_name": {}}]), r"'messages\[0\].tool_name': expected a string"),
    # the pictures
    ("chat", said(images="iVBO"), r"'messages\[1\].images': expected an array"),
    ("chat", said(images=[7]), r"'messages\[1\].images\[0\]': expected a string"),
    ("chat", said(images=[PNG, "%%%"]), r"messages\[1\].images\[1\] must be base64"),
    ("chat", said(images=["iVBORw0KGg"]), r"messages\[1\].images\[0\] must be base64"),
    ("chat", said(images=["grüße"]), r"messages\[1\].images\[0\] must be base64"),
    ("chat", said(images=["aGVsbG8="]), r"messages\[1\].images\[0\] must be a PNG"),
    ("chat", said(images=[""]), r"messages\[1\].images\[0\] must be a PNG"),
    ("chat", said(images=["https://example.com/a.png"]), r"messages\[1\].images\[0\] must be base64"),
    ("chat", said(images=["data:image/png;base64,"]), r"messages\[1\].images\[0\] must be a PNG"),
    ("generate", generate(images=["aGVsbG8="]), r"images\[0\] must be a PNG"),
    # the calls of tools
    ("chat", called("f"), r"'messages\[0\].tool_calls\[0\]': expected an object"),
    ("chat", called({}), r"'messages\[0\].tool_calls\[0\].function'"),
    ("chat", called({"function": {"arguments": {}}}), r"'messages\[0\].tool_calls\[0\].function.name'"),
    ("chat", called({"function": {"name": "f", "arguments": "{}"}}), r"function.arguments': expected an object"),
    ("chat", called({"function": {"name": "f", "arguments": [1]}}), r"function.arguments': expected an object"),
    ("chat", called({**CALL, "id": 7}), r"'messages\[0\].tool_calls\[0\].id': expected a string"),
    ("chat", chat(messages=[{"role": "assistant", "tool_calls": CALL}]), r"tool_calls': expected an array"),
    # the tools
    ("chat", chat(tools="f"), "'tools': expected an array"),
    ("chat", chat(tools=[1]), r"'tools\[0\]': expected an object"),
    ("chat", chat(tools=[{"type": "function"}]), r"'tools\[0\].function'"),
    ("chat", chat(tools=[{"type": "web_search", "function": {"name": "f"}}]), r'tools\[0\].type must be "function"'),
    ("chat", chat(tools=[{"function": {"description": "nameless"}}]), r"'tools\[0\].function.name'"),
    ("chat", tool(parameters="object"), r"'tools\[0\].function.parameters': expected an object"),
    ("chat", tool(parameters={"type": 1}), r"'tools\[0\].function.parameters.type': expected a string"),
    ("chat", tool(parameters={"required": "a"}), r"'tools\[0\].function.parameters.required': expected an array"),
    (
        "chat",
        tool(parameters={"properties": ["a"]}),
        r"'tools\[0\].function.parameters.properties': expected an object",
    ),
    ("chat", tool(parameters={"properties": {"a": "string"}}), r"parameters.properties.a': expected an object"),
    # the options
    ("chat", chat(options=[]), "'options': expected an object"),
    ("chat", chat(options="temperature=1"), "'options': expected an object"),
    ("chat", chat(options={"temperature": "hot"}), "'options.temperature': expected a number"),
    ("chat", chat(options={"temperature": True}), "'options.temperature': expected a number"),
    ("chat", chat(options={"temperature": -0.5}), "'options.temperature': expected a value of at least 0"),
    ("chat", chat(options={"top_p": -0.1}), "'options.top_p': expected a value of at least 0"),
    ("chat", chat(options={"min_p": 1.1}), "'options.min_p': expected a value of at most 1"),
    ("chat", chat(options={"top_k": 0.5}), "'options.top_k': expected an integer"),
    ("chat", chat(options={"top_k": 2**31}), "'options.top_k': expected a value of at most"),
    ("chat", chat(options={"seed": 2**63}), "'options.seed': expected a value of at most"),
    ("chat", chat(options={"num_predict": 1e300}), "'options.num_predict': expected a value of at most"),
    ("chat", chat(options={"num_predict": "all"}), "'options.num_predict': expected an integer"),
    ("chat", b'{"model": "small", "options": {"seed": ' + b"9" * 400 + b"}}", "not valid JSON|options.seed|number"),
    ("chat", b'{"model": "small", "options": {"temperature": 1e999}}', "not valid JSON|options.temperature"),
    ("chat", chat(options={"stop": 1}), "'options.stop': expected an array"),
    ("chat", chat(options={"stop": ["a", None]}), r"'options.stop\[1\]': expected a string"),
    # the rest
    ("chat", chat(stream="yes"), "'stream': expected a boolean"),
    ("chat", chat(stream=1), "'stream': expected a boolean"),
    ("chat", chat(think="hard"), "think must be true, false or one of"),
    ("chat", chat(think=1), "think must be true, false or one of"),
    ("chat", chat(format="yaml"), 'format must be "json" or a JSON Schema'),
    ("chat", chat(format=["json"]), 'format must be "json" or a JSON Schema'),
    ("chat", chat(keep_alive="soon"), "keep_alive must be a duration"),
    ("chat", chat(keep_alive={}), "'keep_alive': expected a number"),
    ("chat", chat(logprobs="yes"), "'logprobs': expected a boolean"),
    ("chat", chat(top_logprobs=-1), "'top_logprobs': expected a value of at least 0"),
    ("chat", chat(truncate="no"), "'truncate': expected a boolean"),
    ("generate", generate(prompt=["hi"]), "'prompt': expected a string"),
    ("generate", generate(system={}), "'system': expected a string"),
    ("generate", generate(raw="yes"), "'raw': expected a boolean"),
    ("generate", generate(raw=True, system="s"), "raw mode does not support template, system, or context"),
    ("generate", generate(raw=True, context=[1]), "raw mode does not support template, system, or context"),
    ("generate", generate(template=1), "'template': expected a string"),
    ("generate", generate(context="abc"), "'context': expected an array"),
    ("show", b"{}", "model is required"),
    ("show", b'{"model": 1}', "'model': expected a string"),
    ("show", b"", "The body is empty"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge() -> AsyncIterator[Bridge]:
    """One server for all that is wrong."""
    async with serving() as served_dialect:
        yield served_dialect


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("endpoint", "body", "error"), BODIES, ids=lambda value: str(value)[:60])
async def test_a_malformed_body_is_told_what_is_wrong(bridge: Bridge, endpoint: str, body: bytes, error: str) -> None:
    response = await bridge.http.post(f"/api/{endpoint}", content=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    assert re.search(error, response.json()["error"])
    assert not bridge.core.specs
    await assert_alive(bridge)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "error"),
    [
        ("GET", "/api/chat", {}, 405, "allowed: POST"),
        ("PUT", "/api/chat", {}, 405, "allowed: POST"),
        ("DELETE", "/api/generate", {}, 405, "allowed: POST"),
        ("GET", "/api/show", {}, 405, "allowed: POST"),
        ("POST", "/api/tags", {}, 405, "allowed: GET, HEAD"),
        ("POST", "/api/version", {}, 405, "allowed: GET, HEAD"),
        ("PATCH", "/", {}, 405, "allowed: GET, HEAD"),
        ("GET", "/api/v1/ollama/api/chat", {}, 405, "allowed: POST"),
        ("POST", "/api/v1/ollama/api/nothing", {}, 404, "There is no POST"),
        ("GET", "/api/v1/ollama/v1/models", {}, 404, "There is no GET"),
        ("POST", "/api/chat", {"content-encoding": "gzip"}, 415, "Content-Encoding"),
        ("POST", "/api/chat", {"x-request-timeout": "soon"}, 400, "x-request-timeout must be"),
        ("POST", "/api/chat", {"x-request-timeout": "-1"}, 400, "x-request-timeout must be"),
        ("POST", "/api/chat", {"x-request-id": "a b"}, 400, "x-request-id must be"),
    ],
)
async def test_a_malformed_request_has_its_status(
    bridge: Bridge, method: str, path: str, headers: dict[str, str], status: int, error: str
) -> None:
    body = chat() if method not in ("GET", "HEAD") else b""
    response = await bridge.http.request(method, path, content=body, headers=headers)
    assert response.status_code == status
    assert error in response.json()["error"]
    assert status != 405 or response.headers["allow"] == error.removeprefix("allowed: ")
    await assert_alive(bridge)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_huge_body_is_refused(bridge: Bridge) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 1024 * 1024

    response = await bridge.http.post("/api/chat", content=endless())
    assert response.status_code == 413
    assert "larger than" in response.json()["error"]
    await assert_alive(bridge)


async def assert_alive(bridge: Bridge) -> None:
    bridge.core.completion = ChatCompletion()
    response = await bridge.http.post("/api/chat", content=chat())
    assert response.status_code == 200
    assert response.json()["done"] is True
    bridge.core.specs.clear()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just(PNG)
NAMES = st.sampled_from(
    ["role", "content", "images", "tool_calls", "tool_name", "function", "name", "arguments", "parameters", "id"]
) | st.sampled_from(
    ["properties", "type", "required", "temperature", "top_k", "seed", "stop", "num_predict", "num_ctx"]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=5)
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"])}, optional={
    "content": st.text(max_size=4), "images": VALUES, "tool_calls": VALUES, "tool_name": VALUES, "thinking": VALUES,
}), max_size=4)  # fmt: skip
REQUESTS = st.fixed_dictionaries(
    {"model": st.just("small")},
    optional={"messages": MESSAGES | VALUES, "prompt": VALUES, "images": VALUES, "tools": VALUES, "options": VALUES,
              "format": VALUES, "think": VALUES, "keep_alive": VALUES, "stream": VALUES, "raw": VALUES, "x": VALUES},
)  # fmt: skip


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=REQUESTS | VALUES)
def test_whatever_a_body_is_it_is_understood_or_refused(body: object) -> None:
    for read in (chat_spec, generate_spec, is_streamed, asks_to_unload):
        with contextlib.suppress(InvalidBody):
            understood = read(body)
            assert isinstance(understood, bool) or understood.SerializeToString()
