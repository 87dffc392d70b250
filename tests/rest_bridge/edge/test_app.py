from typing import Any

import pytest
from starlette.routing import Route

from rest_bridge.app import Directory, Outside, refuse
from rest_bridge.config import BridgeConfig
from rest_bridge.endpoint import Endpoint
from rest_bridge.exchange import Exchange
from tests.rest_bridge.edge.test_exchange import Caller, document


def directory() -> Directory:
    def endpoint(name: str) -> Endpoint:
        async def work(exchange: Exchange) -> None:
            await exchange.respond(200, f"{name} {exchange.path_params}".encode())

        return Endpoint(BridgeConfig(), "openai", ("GET",), work, document)

    nowhere = Endpoint(BridgeConfig(), "http", ("GET",), refuse, document)
    routes = [
        Route("/models", endpoint("list")),
        Route("/models/{id:path}", endpoint("get")),
        Route("/models", endpoint("never")),
    ]
    return Directory(routes, Outside(nowhere))


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/models", 200, b"list {}"),
        ("/models/a/b", 200, b"get {'id': 'a/b'}"),
        ("/models/", 200, b"get {'id': ''}"),
        ("/nowhere", 404, None),
        ("", 404, None),
    ],
)
async def test_a_path_leads_to_its_endpoint(path: str, status: int, body: bytes | None) -> None:
    caller = Caller(method="GET")
    caller.scope["path"] = path
    await directory()(caller.scope, caller.messages.get, caller.send)
    assert caller.status == status
    assert body is None or caller.body == body


async def test_what_is_no_http_request_is_left_alone() -> None:
    async def nothing(*message: Any) -> Any:
        raise AssertionError

    await directory()({"type": "websocket", "path": "/nowhere"}, nothing, nothing)
