"""Golden files of gateways: gateway and request → what the provider is sent. HEADGATE_GOLDEN=write rewrites the last."""

import os
from pathlib import Path

import httpx
import orjson
import pytest
from google.protobuf import text_format
from headgate.v1.gateway_pb2 import Gateway
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest

from tests.support.kept import ROOT, bearer, kept
from tests.support.upstream import Received, Upstream, json_answer

HERE = Path(__file__).parent
CASES = sorted(path.name.removesuffix(".gateway.txtpb") for path in HERE.glob("*.gateway.txtpb"))
ENDPOINT = "https://own.example/v1"
"""Stands in a gateway for the scripted vendor."""
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}


def recorded(received: Received) -> str:
    """A request as it was sent: what stands in it in which order, and with which key."""
    document = {
        "method": received.method,
        "path": received.path,
        "authorization": received.headers.get("authorization"),
        "body": orjson.loads(received.body),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


@pytest.mark.parametrize("case", CASES)
async def test_the_provider_is_sent_what_is_recorded(case: str, tmp_path: Path) -> None:
    gateway = text_format.Parse((HERE / f"{case}.gateway.txtpb").read_text(encoding="utf-8"), Gateway())
    body = orjson.loads((HERE / f"{case}.request.json").read_bytes())
    async with Upstream() as upstream, kept(tmp_path, upstream) as world, httpx.AsyncClient(trust_env=False) as client:
        upstream.script(json_answer(ANSWER))
        if gateway.endpoint.base_url == ENDPOINT:
            gateway.endpoint.base_url = upstream.base_url
        made = await world.gateways.CreateGateway(CreateGatewayRequest(gateway=gateway), metadata=bearer(ROOT))
        response = await client.post(
            f"{world.gateway.http_url}/v1/chat/completions",
            json={"model": made.gateway.slug, **body},
            headers={"authorization": f"Bearer {ROOT}"},
        )
        assert response.status_code == 200, response.text
        found = recorded(upstream.requests[-1])
    path = HERE / f"{case}.upstream_request.json"
    if os.environ.get("HEADGATE_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == found


def test_every_file_belongs_to_a_case() -> None:
    endings = (".gateway.txtpb", ".request.json", ".upstream_request.json")
    expected = {case + ending for case in CASES for ending in endings}
    assert {path.name for path in HERE.iterdir() if path.suffix in {".json", ".txtpb"}} == expected
    assert CASES
