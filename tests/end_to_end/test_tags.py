"""What callers tell their calls apart by, from the request to the record."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from tests.support.kept import ROOT, Kept, bearer, kept
from tests.support.upstream import Upstream

BODY = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}
KEY = {"authorization": f"Bearer {ROOT}"}


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path, upstream) as opened:
        yield opened


@pytest.fixture
async def http(world: Kept) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.gateway.http_url, trust_env=False, headers=KEY) as client:
        yield client


async def records(http: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await http.get("/api/v1/usage/records", params=query)
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", BODY), ("/api/chat", {**BODY, "stream": True})])
async def test_a_call_brings_its_tag_over_rest(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await http.post(path, json=body, headers={"x-headgate-tag": "night run 7"})
    assert answer.status_code == 200
    await http.post(path, json=body)
    assert [record.get("tag", "") for record in await records(http)] == ["", "night run 7"]
    assert len(await records(http, tag="night run 7")) == 1
    summary = (await http.get("/api/v1/usage/summary", params={"group_by": "tag"})).json()["data"]["summaries"]
    assert {row.get("group", "") for row in summary} == {"", "night run 7"}


async def test_the_metadata_of_a_request_is_in_its_record(http: httpx.AsyncClient) -> None:
    await http.post("/v1/chat/completions", json={**BODY, "metadata": {"customer": "7"}})
    (record,) = await records(http)
    assert record["metadata"] == {"customer": "7"}


async def test_a_call_brings_its_tag_over_grpc(world: Kept, http: httpx.AsyncClient) -> None:
    stub = ChatCompletionServiceStub(world.channel)
    request = CreateChatCompletionRequest()
    request.spec.model = "echo/echo"
    request.spec.messages.add(role=ROLE_USER, text="Hi")
    await stub.CreateChatCompletion(request, metadata=(*bearer(ROOT), ("x-headgate-tag", "a" * 64)))
    with pytest.raises(aio.AioRpcError) as refused:
        await stub.CreateChatCompletion(request, metadata=(*bearer(ROOT), ("x-headgate-tag", "a" * 65)))
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert [record["tag"] for record in await records(http)] == ["a" * 64]


@pytest.mark.parametrize("tag", ["a" * 65, "a" * 5000, "\N{LATIN SMALL LETTER E WITH ACUTE}", "a\tb"])
async def test_a_tag_that_is_too_long_or_not_printable_is_refused(http: httpx.AsyncClient, tag: str) -> None:
    headers = {b"x-headgate-tag": tag.encode("utf-8")}
    answer = await http.post("/v1/chat/completions", json=BODY, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-headgate-tag"
