"""One body over every folder of rest_bridge/dialects."""

from pathlib import Path

import httpx
import pytest

from gateway_core.config import Config
from rest_bridge import dialects
from tests.support.gateway import running

# One path of each dialect that takes a JSON body, and one that tells of an unknown model.
CASES = {
    "openai": ("/v1/chat/completions", {"model": "no", "messages": [{"role": "user", "content": "x"}]}),
    "ollama": ("/api/chat", {"model": "no", "messages": [{"role": "user", "content": "x"}]}),
}

# What asks no model: tests/rest_bridge/admin holds each of its routes against the same.
ASKS_NO_MODEL = {"admin"}


def message(document: dict[str, object]) -> object:
    """The message of an error document: an object's, or the text itself."""
    error = document["error"]
    return error["message"] if isinstance(error, dict) else error


def test_every_folder_has_its_case() -> None:
    folder = Path(dialects.__file__).parent
    folders = {path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(CASES) | ASKS_NO_MODEL == set(dialects.NAMES)


@pytest.mark.parametrize("name", CASES)
async def test_failures_are_documents_with_their_status(name: str) -> None:
    path, unknown = CASES[name]
    async with running(Config()) as gateway, httpx.AsyncClient(base_url=gateway.http_url) as client:
        answers = [
            (await client.post(path, content=b"{"), 400),
            (await client.post(path, content=b"[]"), 400),
            (await client.post(path, json={"model": "echo/echo", "messages": 5}), 400),
            (await client.post(path, json=unknown), 404),
            (await client.put(path, json=unknown), 405),
            (await client.post(path, content=b"x", headers={"content-encoding": "gzip"}), 415),
            (await client.post(path, json=unknown, headers={"x-request-timeout": "soon"}), 400),
        ]
        for answer, status in answers:
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"].startswith("application/json")
            assert message(answer.json())
            assert answer.headers["x-request-id"]


@pytest.mark.parametrize("name", CASES)
async def test_the_request_id_is_the_callers_where_it_gives_one(name: str) -> None:
    path, body = CASES[name]
    async with running(Config()) as gateway, httpx.AsyncClient(base_url=gateway.http_url) as client:
        answer = await client.post(
            path, json={**body, "model": "echo/echo", "stream": False}, headers={"x-request-id": "mine-1"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-headgate-request-id"] == answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["x-headgate-provider"] == "echo"
