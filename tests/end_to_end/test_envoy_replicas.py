"""The real Envoy before two replicas: who gets which call, who is left alone, and whose trace a call belongs to."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway_core.config import Config
from tests.conftest import lab_config
from tests.gateway_core.telemetry.collector import Collector, running_collector
from tests.support.envoy import Front, answered, fronted, fronting, needs_envoy
from tests.support.gateway import running
from tests.support.openai_vendor import completion
from tests.support.upstream import Upstream, json_answer

CHAT = "/v1/chat/completions"
HI = {"model": "echo/echo", "messages": [{"role": "user", "content": "hi"}]}
SESSIONS = [f"session-{number}" for number in range(16)]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
FAILURES = 5
"""Connections that fail one after the other, after which a replica is left alone."""

pytestmark = needs_envoy


@asynccontextmanager
async def two(directory: Path, **envoy: Any) -> AsyncIterator[Front]:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(running(Config())) for _ in range(2)]
        yield await stack.enter_async_context(fronting(tuple(gateways), directory, envoy, tls=False))


async def unary(channel: aio.Channel, metadata: tuple[tuple[str, str], ...] = (), model: str = "echo/echo") -> None:
    spec: Any = {"model": model, "messages": [{"role": ROLE_USER, "text": "hi"}]}
    stub: Any = ChatCompletionServiceStub(channel)
    await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec), metadata=metadata, timeout=20)


async def test_a_session_stays_at_one_replica_over_rest_and_grpc(tmp_path: Path) -> None:
    async with two(tmp_path, balance="ring_hash") as front, front.client() as client, front.channel() as channel:
        for _ in range(3):
            for session in SESSIONS:
                headers = {"x-headgate-session": session, "x-request-id": session}
                assert (await client.post(CHAT, json=HI, headers=headers)).status_code == 200
                await unary(channel, tuple(headers.items()))
        places: dict[tuple[str, str], set[str]] = {}
        for line in await front.lines(6 * len(SESSIONS)):
            places.setdefault((line["cluster"], line["request_id"]), set()).add(line["upstream"])
    assert len(places) == 2 * len(SESSIONS)
    assert all(len(found) == 1 for found in places.values()), places
    for cluster in ("core", "bridge"):
        assert len({place for (where, _), found in places.items() if where == cluster for place in found}) == 2


async def test_a_replica_whose_service_of_completions_does_not_serve_gets_no_calls(tmp_path: Path) -> None:
    """The other services say nothing: it is this one that Envoy asks for."""
    async with two(tmp_path) as front, front.channel() as channel:
        health = front.gateways[0].core._health
        health.tell("headgate.v1.ChatCompletionService", is_serving=False)

        async def is_left_alone() -> bool:
            return await front.statistic("cluster.core.membership_healthy") == 1

        await answered(is_left_alone)
        for _ in range(10):
            await unary(channel)
        assert {line["upstream"] for line in await front.lines(10)} == {front.gateways[1].grpc_address}


async def test_a_replica_to_which_connections_fail_is_left_alone_before_the_next_check_of_its_health(
    tmp_path: Path,
) -> None:
    async with (
        running(Config()) as gateway,
        running(Config()) as other,
        fronting((gateway, other), tmp_path, {"health_seconds": 600}, tls=False) as front,
    ):
        await other.core.close()

        async def is_ejected() -> bool:
            async with front.channel() as channel:
                # Envoy asks the other replica instead, and no call fails.
                await unary(channel)
            return await front.statistic("cluster.core.outlier_detection.ejections_active") == 1

        await answered(is_ejected)
        failed = await front.statistic("cluster.core.upstream_cx_connect_fail")
        assert failed >= FAILURES
        async with front.channel() as channel:
            for _ in range(20):
                await unary(channel)
        assert await front.statistic("cluster.core.upstream_cx_connect_fail") == failed
        assert await front.statistic("cluster.core.membership_healthy") == 1


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


async def test_a_callers_trace_reaches_headgates_spans_through_envoy(
    collector: Collector, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})))
    async with (
        fronted(lab_config(upstream.base_url), tmp_path, tls=False) as front,
        front.client() as client,
        front.channel() as channel,
    ):
        body = {**HI, "model": "lab/tiny"}
        assert (await client.post(CHAT, json=body, headers={"traceparent": TRACEPARENT})).status_code == 200
        await unary(channel, (("traceparent", TRACEPARENT),), "lab/tiny")
    servers = collector.named(Span.SpanKind.SPAN_KIND_SERVER)
    clients = collector.named(Span.SpanKind.SPAN_KIND_CLIENT)
    assert [(span.trace_id.hex(), span.parent_span_id.hex()) for span in servers] == [(TRACE, PARENT)] * 2
    assert {span.trace_id.hex() for span in clients} == {TRACE}
    assert {span.parent_span_id for span in clients} == {span.span_id for span in servers}
