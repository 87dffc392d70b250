"""Requests that are wrong, over a real socket: each has its status and its error, and the server answers the next one."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway_core.config import Config
from rest_bridge.config import BridgeConfig
from tests.support.gateway import Gateway, running

PATH = "/v1/chat/completions"
USER = {"role": "user", "content": "hi"}
BODY_BYTES = 256 * 1024
DEEP = "[" * 150 + "]" * 150

pytestmark = pytest.mark.asyncio(loop_scope="module")


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "echo/echo", "messages": [USER], **fields}).encode()


def said(**fields: Any) -> bytes:
    return chat(messages=[USER, fields])


def part(value: Any) -> bytes:
    return said(role="user", content=[{"type": "text", "text": "hi"}, value])


def called(call: Any) -> bytes:
    return said(role="assistant", tool_calls=[call])


def tool(**function: Any) -> bytes:
    return chat(tools=[{"type": "function", "function": {"name": "f", **function}}])


# Body, the path of what is wrong (None: the body as a whole), what is said of it.
BODIES: list[tuple[bytes, str | None, str]] = [
    # what is no JSON object
    (b"", None, "The body is empty"),
    (b" \r\n\t", None, "The body is empty"),
    (b'{"model": "echo/echo", "messages": [', None, r"not valid JSON.*line 1, column 37"),
    (b'{"model": "echo/echo",\n "messages": [}', None, r"not valid JSON.*line 2"),
    (b'{"model": "echo/echo"} {}', None, "not valid JSON"),
    (b"{'model': 'echo/echo'}", None, "not valid JSON"),
    (b"model=echo/echo&messages=hi", None, "not valid JSON"),
    (b'{"model": "\xff\xfe"}', None, "not valid JSON.*UTF-8"),
    (b'\xef\xbb\xbf{"model": "echo/echo"}', None, "not valid JSON"),
    ('{"model": "echo/echo"}'.encode("utf-16"), None, "not valid JSON"),
    (b'{"model": "\\ud800"}', None, "not valid JSON.*surrogate"),
    (b'{"\\udfff": 1, "model": "echo/echo"}', None, "not valid JSON.*surrogate"),
    (b'{"model": "a\nb"}', None, "not valid JSON.*control character"),
    (b'{"temperature": NaN}', None, "not valid JSON"),
    (b'{"temperature": -Infinity}', None, "not valid JSON"),
    (b'{"seed": 01}', None, "not valid JSON"),
    (b'{"a": 1,}', None, "not valid JSON"),
    (b'{"a": 1 /* one */}', None, "not valid JSON"),
    (b"[]", None, "must be a JSON object"),
    (b'[{"model": "echo/echo"}]', None, "must be a JSON object"),
    (b'"echo/echo"', None, "must be a JSON object"),
    (b"1", None, "must be a JSON object"),
    (b"null", None, "must be a JSON object"),
    (b"\x00" * 100, None, "not valid JSON"),
    (b"\x1f\x8b\x08\x00 gzip", None, "not valid JSON"),
    (b"{" * 10_000, None, "not valid JSON"),
    (b'{"x": ' + DEEP.encode() + b"}", None, "nests deeper than 100"),
    (b'{"x": ' + b"[" * 60_000 + b"]" * 60_000 + b"}", None, "not valid JSON|nests deeper than 100"),
    (b'{"x": ' + b'{"a": ' * 500 + b"1" + b"}" * 500 + b"}", None, "nests deeper than 100"),
    (tool(parameters=json.loads('{"items": ' * 120 + "{}" + "}" * 120)), None, "nests deeper than 100"),
    (part({"type": "x", "x": json.loads(DEEP)}), None, "nests deeper than 100"),
    # the model
    (b"{}", "model", "Missing required parameter: 'model'"),
    (chat(model=None), "model", "Missing required parameter"),
    (chat(model=""), "model", "empty string"),
    (chat(model=7), "model", "expected a string, but got an integer"),
    (chat(model=["echo/echo"]), "model", "expected a string, but got an array"),
    (b'{"model": "echo/echo", "model": 1, "messages": []}', "model", "expected a string"),
    # the conversation
    (b'{"model": "echo/echo"}', "messages", "Missing required parameter: 'messages'"),
    (chat(messages=None), "messages", "Missing required parameter"),
    (chat(messages=[]), "messages", "expected at least one message"),
    (chat(messages="hi"), "messages", "expected an array, but got a string"),
    (chat(messages=USER), "messages", "expected an array, but got an object"),
    (chat(messages=["hi"]), "messages[0]", "expected an object, but got a string"),
    (chat(messages=[USER, None]), "messages[1]", "expected an object, but got null"),
    (chat(messages=[[USER]]), "messages[0]", "expected an object, but got an array"),
    (said(content="hi"), "messages[1].role", "Missing required parameter"),
    (said(role="pirate", content="hi"), "messages[1].role", "Invalid value.*'pirate'. Supported values are: 'system'"),
    (said(role="User", content="hi"), "messages[1].role", "Invalid value"),
    (said(role=1, content="hi"), "messages[1].role", "expected a string"),
    (said(role="user"), "messages[1].content", "Missing required parameter"),
    (said(role="user", content=None), "messages[1].content", "Missing required parameter"),
    (said(role="user", content=5), "messages[1].content", "expected a string or an array"),
    (said(role="user", content={"type": "text"}), "messages[1].content", "expected a string or an array"),
    (said(role="user", content="hi", name=[]), "messages[1].name", "expected a string"),
    (said(role="tool", tool_call_id=1, content=""), "messages[1].tool_call_id", "expected a string"),
    # the parts
    (said(role="user", content=["hi"]), "messages[1].content[0]", "expected an object"),
    (part(None), "messages[1].content[1]", "expected an object, but got null"),
    (part({}), "messages[1].content[1].type", "Missing required parameter"),
    (part({"type": 3}), "messages[1].content[1].type", "expected a string"),
    (part({"type": "text"}), "messages[1].content[1].text", "Missing required parameter"),
    (part({"type": "text", "text": {"value": "hi"}}), "messages[1].content[1].text", "expected a string"),
    (part({"type": "image_url"}), "messages[1].content[1].image_url", "Missing required parameter"),
    (part({"type": "image_url", "image_url": "https://example.com"}), "messages[1].content[1].image_url", "an object"),
    (part({"type": "image_url", "image_url": {}}), "messages[1].content[1].image_url.url", "Missing required"),
    (part({"type": "image_url", "image_url": {"url": 1}}), "messages[1].content[1].image_url.url", "a string"),
    (
        part({"type": "input_audio", "input_audio": {"format": "wav"}}),
        "messages[1].content[1].input_audio.data",
        "Missing",
    ),
    (part({"type": "file", "file": []}), "messages[1].content[1].file", "expected an object"),
    (part({"type": "video_url", "video_url": {"url": None}}), "messages[1].content[1].video_url.url", "Missing"),
    # the calls
    (said(role="assistant", tool_calls="f"), "messages[1].tool_calls", "expected an array"),
    (called("f"), "messages[1].tool_calls[0]", "expected an object"),
    (called({}), "messages[1].tool_calls[0].type", "Missing required parameter"),
    (called({"type": "function"}), "messages[1].tool_calls[0].function", "Missing required parameter"),
    (called({"type": "function", "function": {}}), "messages[1].tool_calls[0].function.name", "Missing required"),
    (called({"function": {"name": "f", "arguments": {}}}), "messages[1].tool_calls[0].function.arguments", "a string"),
    (called({"id": 1, "function": {"name": "f"}}), "messages[1].tool_calls[0].id", "expected a string"),
    # the tools
    (chat(tools="f"), "tools", "expected an array"),
    (chat(tools={"type": "function"}), "tools", "expected an array"),
    (chat(tools=[1]), "tools[0]", "expected an object"),
    (chat(tools=[{"function": {"name": "f"}}]), "tools[0].type", "Missing required parameter"),
    (chat(tools=[{"type": None}]), "tools[0].type", "Missing required parameter"),
    (chat(tools=[{"type": "function"}]), "tools[0].function", "Missing required parameter"),
    (chat(tools=[{"type": "function", "function": {}}]), "tools[0].function.name", "Missing required parameter"),
    (chat(tools=[{"type": "function", "function": "f"}]), "tools[0].function", "expected an object"),
    (
        chat(tools=[{"type": "custom", "custom": {"name": "c", "format": {}}}]),
        "tools[0].custom.format.type",
        "Missing required",
    ),
    (tool(name=""), "tools[0].function.name", "required"),
    (tool(name=7), "tools[0].function.name", "expected a string"),
    (tool(parameters="object"), "tools[0].function.parameters", "expected an object"),
    (tool(parameters=[{"type": "object"}]), "tools[0].function.parameters", "expected an object"),
    (tool(strict="yes"), "tools[0].function.strict", "expected a boolean"),
    (chat(tool_choice=1), "tool_choice", "expected a string or an object"),
    (chat(tool_choice={"function": {"name": "f"}}), "tool_choice.type", "Missing required parameter"),
    (chat(tool_choice={"type": "function"}), "tool_choice.function", "Missing required parameter"),
    (chat(tool_choice={"type": "function", "function": {}}), "tool_choice.function.name", "Missing required"),
    (chat(parallel_tool_calls="no"), "parallel_tool_calls", "expected a boolean"),
    (chat(functions=[{"description": "nameless"}]), "functions[0].name", "Missing required parameter"),
    # the numbers
    (chat(temperature="hot"), "temperature", "expected a number, but got a string"),
    (chat(temperature=True), "temperature", "expected a number, but got a boolean"),
    (chat(presence_penalty="x"), "presence_penalty", "expected a number"),
    (chat(temperature=-1), "temperature", "at least 0"),
    (
        b'{"temperature": 1e999, "model": "echo/echo", "messages": [{"role": "user", "content": "x"}]}',
        None,
        "JSON|number",
    ),
    (chat(top_p=1.01), "top_p", "at most 1"),
    (chat(n=0), "n", "at least 1"),
    (chat(n=129), "n", "at most 128"),
    (chat(n=1.5), "n", "expected an integer, but got a decimal"),
    (chat(n="2"), "n", "expected an integer"),
    (chat(max_tokens=-5), "max_tokens", "at least -1"),
    (chat(max_tokens=2**63), "max_tokens", "at most 9223372036854775807"),
    (chat(max_completion_tokens=2**200), "max_completion_tokens", "at most|integer"),
    (chat(seed=-(2**63) - 1), "seed", "at least|integer"),
    (chat(top_k=2**31), "top_k", "at most"),
    (chat(top_logprobs=-1), "top_logprobs", "at least 0"),
    (chat(logprobs=1), "logprobs", "expected a boolean"),
    (chat(logit_bias=[1]), "logit_bias", "expected an object"),
    (chat(logit_bias={"50256": 101}), "logit_bias.50256", "at most 100"),
    (chat(logit_bias={"50256": "-100"}), "logit_bias.50256", "expected a number"),
    # the rest
    (chat(stream="true"), "stream", "expected a boolean"),
    (chat(stream_options=True), "stream_options", "expected an object"),
    (chat(stream_options={"include_usage": 1}), "stream_options.include_usage", "expected a boolean"),
    (chat(stop=1), "stop", "expected a string or an array"),
    (chat(stop=["a", None]), "stop[1]", "expected a string, but got null"),
    (chat(response_format="json"), "response_format", "expected an object"),
    (chat(response_format={}), "response_format.type", "Missing required parameter"),
    (chat(response_format={"type": "json_schema"}), "response_format.json_schema", "Missing required parameter"),
    (chat(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name", "Missing"),
    (
        chat(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": "{}"}}),
        "response_format.json_schema.schema",
        "expected an object",
    ),
    (chat(metadata={"a": 1}), "metadata.a", "expected a string"),
    (chat(metadata=["a"]), "metadata", "expected an object"),
    (chat(user=7), "user", "expected a string"),
    (chat(modalities="text"), "modalities", "expected an array"),
    (chat(audio={"voice": 1}), "audio.voice", "expected a string or an object"),
    (chat(prediction={"type": "content"}), "prediction.content", "Missing required parameter"),
    (chat(reasoning_effort=3), "reasoning_effort", "expected a string"),
    (chat(web_search_options=[]), "web_search_options", "expected an object"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    """One gateway for all that is wrong, with limits that a test can reach."""
    limits = BridgeConfig(request_body_bytes=BODY_BYTES, drain_seconds=1)
    async with running(Config(), bridge=limits) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object, which must be OpenAI's whole one."""
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error"]
    assert list(document["error"]) == ["message", "type", "param", "code"]
    assert isinstance(document["error"]["message"], str)
    found: dict[str, Any] = document["error"]
    return found


async def assert_alive(http: httpx.AsyncClient) -> None:
    response = await http.post(PATH, content=chat())
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "hi"


@pytest.mark.parametrize(("body", "param", "message"), BODIES, ids=lambda value: str(value)[:60])
async def test_a_malformed_body_is_told_what_is_wrong(
    http: httpx.AsyncClient, body: bytes, param: str | None, message: str
) -> None:
    response = await http.post(PATH, content=body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert re.search(message, error["message"]), error["message"]
    assert len(error["message"]) < 600
    if param is not None or "JSON" not in message:
        assert error["param"] == param
    await assert_alive(http)


REQUESTS: list[tuple[str, str, dict[str, str], bytes, int, str | None, str]] = [
    ("GET", PATH, {}, b"", 405, None, "GET is not allowed here; allowed: POST"),
    ("PUT", PATH, {}, chat(), 405, None, "allowed: POST"),
    ("PATCH", PATH, {}, chat(), 405, None, "allowed: POST"),
    ("DELETE", PATH, {}, b"", 405, None, "allowed: POST"),
    ("OPTIONS", PATH, {}, b"", 405, None, "allowed: POST"),
    ("TRACE", PATH, {}, b"", 405, None, "allowed: POST"),
    ("POST", "/v1/models", {}, b"{}", 405, None, "allowed: GET, HEAD"),
    ("DELETE", "/v1/models/echo/echo", {}, b"", 405, None, "allowed: GET, HEAD"),
    ("POST", "/v1/chat/completion", {}, chat(), 404, None, "There is no POST /v1/chat/completion."),
    ("POST", "/v1/chat/completions/", {}, chat(), 404, None, "There is no POST"),
    ("POST", "/v1/%2e%2e/etc", {}, chat(), 404, None, "There is no POST"),
    ("POST", "/" + "x" * 5000, {}, chat(), 404, None, "There is no POST"),
    ("GET", "/v1/models/nix", {}, b"", 404, "model_not_found", "There is no model 'nix'"),
    ("POST", PATH, {}, chat(model="nix"), 404, "model_not_found", "There is no model 'nix'"),
    ("POST", PATH, {}, chat(model="nix/echo"), 404, "model_not_found", "There is no model 'nix/echo'"),
    ("POST", PATH, {}, chat(model="echo/"), 404, "model_not_found", "There is no model 'echo/'"),
    ("POST", PATH, {}, chat(model="x" * 50_000), 404, "model_not_found", "There is no model 'x{200}'"),
    ("POST", PATH, {}, chat(model="\x00\u202e"), 404, "model_not_found", "There is no model"),
    ("POST", PATH, {"content-encoding": "gzip"}, chat(), 415, "invalid_request", "without Content-Encoding"),
    ("POST", PATH, {"content-encoding": "br, gzip"}, chat(), 415, "invalid_request", "without Content-Encoding"),
    ("POST", PATH, {"x-request-timeout": "soon"}, chat(), 400, "invalid_request", "x-request-timeout must be"),
    ("POST", PATH, {"x-request-timeout": "-1"}, chat(), 400, "invalid_request", "x-request-timeout must be"),
    ("POST", PATH, {"x-request-timeout": "0"}, chat(), 400, "invalid_request", "x-request-timeout must be"),
    ("POST", PATH, {"x-request-timeout": "nan"}, chat(), 400, "invalid_request", "x-request-timeout must be"),
    ("POST", PATH, {"x-request-timeout": ""}, chat(), 400, "invalid_request", "x-request-timeout must be"),
    ("POST", PATH, {"x-request-id": "a b"}, chat(), 400, "invalid_request", "x-request-id must be"),
    ("POST", PATH, {"x-request-id": "x" * 129}, chat(), 400, "invalid_request", "x-request-id must be"),
    ("POST", PATH, {"x-request-timeout": "1e-9"}, chat(), 408, "deadline_exceeded", "x-request-timeout gives passed"),
    ("POST", PATH, {}, chat(user="x" * BODY_BYTES), 413, "too_large", f"larger than {BODY_BYTES} bytes"),
]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code", "message"), REQUESTS, ids=lambda value: str(value)[:40]
)
async def test_a_malformed_request_has_its_status(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str | None,
    message: str,
) -> None:
    response = await http.request(method, path, content=body, headers=headers)
    assert response.status_code == status
    error = error_of(response)
    assert error["code"] == code
    assert re.search(message, error["message"]), error["message"]
    assert len(error["message"]) < 600
    await assert_alive(http)


async def test_a_body_over_the_limit_is_refused_whether_or_not_its_length_is_told(http: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * (BODY_BYTES // 32)

    for content in (b" " * (BODY_BYTES + 1), pieces()):
        response = await http.post(PATH, content=content)
        assert response.status_code == 413
        assert error_of(response)["code"] == "too_large"
        await assert_alive(http)
    assert (await http.post(PATH, content=chat() + b" " * (BODY_BYTES - len(chat())))).status_code == 200


async def test_what_is_odd_but_right_is_answered(http: httpx.AsyncClient) -> None:
    odd: list[tuple[bytes, dict[str, str]]] = [
        (chat(temperature=None, tools=None, stop=None, metadata=None), {}),
        (b'{"model": "nix", "model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}', {}),
        (chat(), {"content-encoding": "identity", "content-type": "text/plain"}),
        (chat(tools=[], stop=[], logit_bias={}, modalities=[]), {}),
        (chat(x_unknown={"deep": [[[[1.5, None]]]]}), {"x-request-timeout": "1e300"}),
        (chat(seed=-(2**63), max_tokens=2**63 - 1), {"authorization": "Basic ????", "cookie": "a=b"}),
        (part({"type": "x_new", "x": 1}), {"traceparent": "00-nix"}),
    ]
    for body, headers in odd:
        response = await http.post(PATH, content=body, headers=headers)
        assert response.status_code == 200, response.text
