"""Whom a bridge behind Envoy takes for the caller: whom Envoy saw, whatever the caller says."""

from pathlib import Path

import httpx

from gateway_core.config import Config
from gateway_core.config_envoy import EnvoyConfig
from headgate_cli.envoy.commands import rendered
from tests.support.envoy import needs_envoy, started
from tests.support.upstream import Upstream, json_answer

pytestmark = needs_envoy


async def told(upstream: Upstream, directory: Path, hops: int) -> str | None:
    """What stands in place of a bridge is told of a caller who says to have come from elsewhere."""
    upstream.script(json_answer({}))
    section = {
        "listen": ["127.0.0.1:0"],
        "admin": "127.0.0.1:0",
        "trusted_hops": hops,
        "replicas": [{"host": "127.0.0.1", "http": upstream.port, "grpc": None}],
    }
    text = rendered(Config(envoy=EnvoyConfig.model_validate(section)))
    async with started(text, directory) as (admin, _, _), httpx.AsyncClient(trust_env=False) as client:
        (listener,) = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
        port = listener["local_address"]["socket_address"]["port_value"]
        said = {"x-forwarded-for": "203.0.113.7, 203.0.113.8"}
        await client.get(f"http://127.0.0.1:{port}/v1/models", headers=said)
    (received,) = [request for request in upstream.requests if request.path == "/v1/models"]
    return received.headers.get("x-forwarded-for")


async def test_what_a_caller_says_of_its_address_reaches_no_bridge(upstream: Upstream, tmp_path: Path) -> None:
    assert await told(upstream, tmp_path, 0) == "127.0.0.1"


async def test_what_a_proxy_before_envoy_says_is_believed_where_it_is_configured(
    upstream: Upstream, tmp_path: Path
) -> None:
    assert await told(upstream, tmp_path, 1) == "203.0.113.8"
