"""What callers who mean harm can do through the real Envoy to others: nothing that those would notice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway_core.config import Config
from gateway_core.storage.store import Store
from headgate_cli.serve import bridge_config
from tests.support.envoy import Front, answered, fronted, fronting, needs_envoy
from tests.support.gateway import running

CHAT = "/v1/chat/completions"
HI = {"model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}
ATTACKER, OTHER = "198.51.100.1", "198.51.100.2"
HELD_AT_MOST = 20
HELD = 40
ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"

pytestmark = needs_envoy


@asynccontextmanager
async def half_sent(
    front: Front, address: str, count: int, path: str = CHAT
) -> AsyncIterator[Sequence[asyncio.StreamReader]]:
    """Requests without a key whose bodies do not come."""
    # A message that is not compressed, of 256 bytes (PROTOCOL-HTTP2.md of grpc).
    kind, begun = ("application/json", b"{") if path == CHAT else ("application/grpc", b"\0\0\0\1\0")
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {address}\r\ncontent-type: {kind}\r\nte: trailers\r\n"
    host, _, port = front.address.rpartition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    try:
        for _, writer in opened:
            writer.write(head.encode() + b"content-length: 261\r\n\r\n" + begun)
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def asked(front: Front, address: str) -> int:
    async with front.client() as client:
        answer = await client.post(CHAT, json=HI, headers={"x-forwarded-for": address})
    return answer.status_code


async def test_one_caller_who_sends_half_requests_does_not_shut_out_the_others(tmp_path: Path) -> None:
    config = Config.model_validate({"limits": {"connections_per_client": HELD_AT_MOST}})
    bridge = replace(bridge_config(config), drain_seconds=1)
    async with (
        running(config, bridge=bridge) as gateway,
        fronting((gateway,), tmp_path, {"trusted_hops": 1}, tls=False) as front,
    ):
        async with half_sent(front, ATTACKER, HELD):

            async def is_refused() -> bool:
                return await front.statistic("http.front.downstream_rq_4xx") >= HELD - HELD_AT_MOST

            await answered(is_refused)
            assert [await asked(front, OTHER) for _ in range(5)] == [200] * 5
            assert await asked(front, ATTACKER) == 429

        async def is_free() -> bool:
            return await asked(front, ATTACKER) == 200

        await answered(is_free)


async def test_a_request_without_a_key_ends_before_its_body_where_envoy_asks_for_keys(tmp_path: Path) -> None:
    store = Store.at(None, tmp_path, {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    config = Config.model_validate({"envoy_services": {"authorization": True}})
    keys = {"external_authorization": True}
    async with (
        fronted(config, tmp_path, keys, tls=False, store=store, root_key=ROOT) as front,
        half_sent(front, ATTACKER, 5) as readers,
    ):
        for reader in readers:
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 401 ")
        assert await front.statistic("cluster.bridge.upstream_rq_total") == 0


async def test_an_rpc_that_is_never_whole_ends(tmp_path: Path) -> None:
    """Of the core nothing bounds it; Envoy waits ten seconds longer than a body may take."""
    config = Config.model_validate({"limits": {"body_seconds": 0.1}})
    path = "/headgate.v1.ChatCompletionService/CreateChatCompletion"
    async with (
        fronted(config, tmp_path, tls=False) as front,
        half_sent(front, ATTACKER, 3, path) as readers,
    ):
        for reader in readers:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            assert b"grpc-status: " in head
            assert b"request timeout" in head
        assert await front.statistic("cluster.core.upstream_rq_active") == 0


async def test_what_a_replica_counts_is_not_told_to_callers(tmp_path: Path) -> None:
    async with fronted(Config(), tmp_path, tls=False) as front, front.client() as client:
        assert (await client.get(f"{front.gateway.http_url}/metrics")).status_code == 200
        for path in ("/metrics", "/metrics?a=b", "/%6Detrics", "/metric%73", "/v1/%2e%2e/metrics", "//metrics"):
            answer = await client.get(f"{front.url}{path}")
            assert answer.status_code == 404, path
            assert "headgate_" not in answer.text
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/metrics")).status_code == 404


async def test_a_callers_connection_has_a_bounded_number_of_streams(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"streams_per_connection": 7}
    async with fronted(Config(), tmp_path, settings, tls=False) as front:
        host, _, port = front.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))  # RFC 9113, 3.4 and 6.5
        head = await asyncio.wait_for(reader.readexactly(9), 10)
        told = await reader.readexactly(int.from_bytes(head[:3], "big"))
        pairs = [told[at : at + 6] for at in range(0, len(told), 6)]
        assert {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}[3] == 7
        writer.transport.abort()
