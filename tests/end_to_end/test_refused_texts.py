"""Texts that an administrative request may not hold: NUL characters anywhere, and the names of plans that are none."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.config_plan import PlanConfig
from gateway_core.storage.store import Store
from rest_bridge.dialects.admin.binding import services
from tests.gateway_core.storage.conftest import database_url, postgres_server
from tests.support.gateway import Gateway, running

__all__ = ["database_url", "postgres_server"]

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
AUTHORIZATION = {"authorization": f"Bearer {ROOT}"}
DEPTH = 4
CALLS = {"ChatCompletionService", "ModelService"}
"""Services that are not for administration."""


@asynccontextmanager
async def served(url: str, directory: Path) -> AsyncIterator[Gateway]:
    store = Store.at(SecretStr(url), directory, {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    async with running(Config(plans={"free": PlanConfig()}), store=store, root_key=ROOT) as gateway:
        yield gateway


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with served(database_url, tmp_path) as started:
        yield started


def with_nul(kind: Descriptor, depth: int = DEPTH) -> Iterator[tuple[str, Message]]:
    """A message for each of its texts, which has a NUL character and nothing else; with the path of the text."""
    made: type[Any] = GetMessageClass(kind)
    for field in kind.fields:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            value = inner.fields_by_name["value"]
            yield field.name, made(**{field.name: {"a\0": "" if value.type == value.TYPE_STRING else 0}})
            if value.type == value.TYPE_STRING:
                yield f"{field.name}.a", made(**{field.name: {"a": "b\0"}})
        elif inner is not None and depth:
            for path, message in with_nul(inner, depth - 1):
                place = f"{field.name}[0]" if field.is_repeated else field.name
                yield f"{place}.{path}", made(**{field.name: [message] if field.is_repeated else message})
        elif field.type == field.TYPE_STRING:
            place = f"{field.name}[0]" if field.is_repeated else field.name
            yield place, made(**{field.name: ["a\0b"] if field.is_repeated else "a\0b"})


def wrong(error: aio.AioRpcError) -> tuple[StatusCode, str]:
    """The status of an RPC, and the path that it names."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.metadata["param"]


async def refusal(channel: aio.Channel, method: MethodDescriptor, request: Message) -> tuple[StatusCode, str]:
    """How an RPC is refused."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    parts = (type(request).SerializeToString, GetMessageClass(method.output_type).FromString)
    kind: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = kind(name, *parts)(request, metadata=tuple(AUTHORIZATION.items()))
    with pytest.raises(aio.AioRpcError) as refused:
        await (call.read() if method.server_streaming else call)
    return wrong(refused.value)


async def test_a_nul_character_is_refused_by_the_name_of_its_field_in_every_text(gateway: Gateway) -> None:
    count = 0
    async with aio.insecure_channel(gateway.grpc_address) as channel:
        for service in (each for each in services() if each.name not in CALLS):
            for method in service.methods:
                for path, request in with_nul(method.input_type):
                    refused = await refusal(channel, method, request)
                    assert refused == (StatusCode.INVALID_ARGUMENT, path), method.full_name
                    count += 1
    assert count > 100


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/api/v1/accounts", {"name": "a", "metadata": {"a": "\0"}}, "metadata.a"),
        ("POST", "/api/v1/gateways", {"name": "g", "model": "echo/echo", "prefill": "\0"}, "prefill"),
        ("POST", "/api/v1/plans", {"name": "p", "description": "\0"}, "description"),
        ("GET", "/api/v1/keys?project=%00", None, "project"),
        ("GET", "/api/v1/keys/%00", None, "id"),
        ("GET", "/api/v1/usage/export?tag=%00", None, "tag"),
    ],
)
async def test_over_rest_it_is_refused_with_400(
    gateway: Gateway, method: str, path: str, body: Any, param: str
) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url, headers=AUTHORIZATION, trust_env=False) as http:
        answer = await http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["details"].get("param")) == (400, param), answer.text


async def test_an_account_gets_only_a_plan_that_exists(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url, headers=AUTHORIZATION, trust_env=False) as http:
        refused = await http.post("/api/v1/accounts", json={"name": "a", "plan": "none"})
        assert (refused.status_code, refused.json()["details"]["param"]) == (400, "plan")
        made = await http.post("/api/v1/accounts", json={"name": "a", "plan": "free"})
        path = f"/api/v1/accounts/{made.json()['data']['account']['id']}"
        refused = await http.patch(path, json={"plan": "none"})
        assert (refused.status_code, refused.json()["details"]["param"]) == (400, "plan")
        await http.post("/api/v1/plans", json={"name": "gold"})
        assert (await http.patch(path, json={"plan": "gold"})).json()["data"]["plan"] == "gold"
        await http.delete("/api/v1/plans/gold")
        kept = await http.patch(path, json={"plan": None})
        assert (kept.status_code, kept.json()["data"]["plan"]) == (200, "")


async def test_a_plan_that_another_process_made_a_moment_ago_exists(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    async with (
        served(database_url, tmp_path) as other,
        httpx.AsyncClient(headers=AUTHORIZATION, trust_env=False) as http,
    ):
        assert (await http.post(f"{other.http_url}/api/v1/plans", json={"name": "new"})).status_code == 200
        made = await http.post(f"{gateway.http_url}/api/v1/accounts", json={"name": "a", "plan": "new"})
    assert made.status_code == 200, made.text
