"""Where OpenAI's API is found, in every spelling that is in use, and what is said where it is not."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.gateway import Gateway

ECHO: Any = {"model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}
PREFIXES = ("/v1", "/api/v1", "/api/v1/open-ai")


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as client:
        yield client


def message_of(response: httpx.Response) -> str:
    """The words of an error document, which must be whole."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


async def test_a_chat_is_answered_under_every_spelling(http: httpx.AsyncClient) -> None:
    for path in (f"{prefix}/{name}" for prefix in PREFIXES for name in ("chat/completions", "chat-completions")):
        response = await http.post(path, json=ECHO)
        assert response.status_code == 200, path
        assert response.json()["choices"][0]["message"]["content"] == "hi"


async def test_a_chat_needs_no_content_type(http: httpx.AsyncClient) -> None:
    for content_type in ("text/plain", "application/json; charset=utf-8", ""):
        body = b'{"model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}'
        response = await http.post("/v1/chat/completions", content=body, headers={"content-type": content_type})
        assert response.status_code == 200


async def test_the_models_are_listed_under_every_spelling(http: httpx.AsyncClient) -> None:
    for prefix in PREFIXES:
        response = await http.get(f"{prefix}/models")
        assert response.status_code == 200
        document = response.json()
        assert document["object"] == "list"
        assert {"id": "echo/echo", "object": "model", "created": 0, "owned_by": "echo"} in document["data"]


@pytest.mark.parametrize(
    "name", ["echo/echo", "lab/org/tiny:7b", "lab/with space", "lab/tiny%25", "lab/größe", "lab/a?b"]
)
async def test_a_model_is_told_whether_or_not_its_slashes_are_encoded(http: httpx.AsyncClient, name: str) -> None:
    for prefix in PREFIXES:
        for safe in ("/", ""):
            response = await http.get(f"{prefix}/models/{quote(name, safe=safe)}")
            assert (response.status_code, response.json().get("id")) == (200, name)


async def test_a_head_has_the_headers_of_a_get_and_no_body(http: httpx.AsyncClient) -> None:
    for path in ("/v1/models", "/v1/models/echo/echo", "/v1/models/nix"):
        got, headed = await http.get(path), await http.head(path)
        assert headed.content == b""
        assert headed.status_code == got.status_code
        for name in ("content-type", "content-length"):
            assert headed.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/v1//models", "/v2/models", "/v1/nix", "/api/v1/open-ai/"],
)
async def test_a_path_that_is_not_there_is_told(http: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST"):
        response = await http.request(method, path)
        assert response.status_code == 404
        assert f"There is no {method} {path}" in message_of(response)


async def test_a_method_that_is_not_allowed_is_told_with_those_that_are(http: httpx.AsyncClient) -> None:
    wrong = [("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/chat-completions", "POST")]
    for method, path, allowed in [*wrong, ("POST", "/v1/models", "GET, HEAD"), ("PUT", "/v1/models/a/b", "GET, HEAD")]:
        response = await http.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        assert f"{method} is not allowed here; allowed: {allowed}." == message_of(response)


async def test_a_model_that_is_not_there_is_told(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models/nix")
    assert response.status_code == 404
    assert "'nix'" in message_of(response)
    assert response.json()["error"]["code"] == "model_not_found"
