"""Many streams at once, and very long ones, through the real Envoy over TLS: none is reset, cut or held up."""

import asyncio
import re
import ssl
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.config import Config, TimeoutsConfig
from gateway_core.config_envoy import EnvoyConfig
from headgate_cli.envoy.commands import rendered
from headgate_cli.open_files import allow_open_files
from tests.conftest import lab_config
from tests.support.certificate import self_signed
from tests.support.envoy import Front, fronted, needs_envoy, started
from tests.support.gateway import running
from tests.support.openai_vendor import event
from tests.support.upstream import Delay, Step, Upstream, Wait, reached, sse_answer

pytestmark = needs_envoy

STREAMS = 2000
"""At the same time, half of them over REST."""
CHANNELS = 4
OPENING_AT_ONCE = 100
SECONDS = 120
"""Within which all must have begun, and within which all must have ended once they may."""
BEGUN, ENDED = "be", "gun"

SCALE = 300
"""An hour in twelve seconds."""
HOUR = 3600 / SCALE
QUIET = 600 / SCALE
"""Between two events of a stream that says little: ten minutes."""


@dataclass(slots=True)
class Seen:
    """When a caller got what; of time.monotonic."""

    asked_at: float = 0.0
    first_at: float = 0.0
    last_at: float = 0.0
    flaw: str = ""

    @property
    def first_seconds(self) -> float:
        """Until the first byte of the answer's text."""
        return self.first_at - self.asked_at


async def over_rest(front: Front, seen: Seen, trust: ssl.SSLContext, texts: Sequence[str]) -> None:
    """A stream on a connection of its own."""
    host, _, port = front.address.rpartition(":")
    body = b'{"model":"lab/tiny","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    seen.asked_at = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trust, server_hostname=host)
    try:
        writer.write(head.encode() + body)
        said = b""
        while piece := await reader.read(65536):
            said += piece
            if not seen.first_at and f'"content":"{texts[0]}"'.encode() in said:
                seen.first_at = time.monotonic()
        seen.last_at = time.monotonic()
        missing = [text for text in texts if f'"content":"{text}"'.encode() not in said]
        if missing or not said.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            seen.flaw = f"{missing} is missing: {said[:200]!r} … {said[-200:]!r}"
    except OSError as error:
        seen.flaw = repr(error)
    finally:
        writer.transport.abort()


async def over_grpc(channel: aio.Channel, seen: Seen, texts: Sequence[str]) -> None:
    """A stream beside others on a channel."""
    spec: Any = {"model": "lab/tiny", "messages": [{"role": ROLE_USER, "text": "hi"}]}
    said = ""
    seen.asked_at = time.monotonic()
    try:
        async for response in ChatCompletionServiceStub(channel).StreamChatCompletion(
            StreamChatCompletionRequest(spec=spec)
        ):
            said += "".join(choice.delta.content for choice in response.chunk.choices)
            if said and not seen.first_at:
                seen.first_at = time.monotonic()
        seen.last_at = time.monotonic()
    except aio.AioRpcError as error:
        seen.flaw = f"{error.code()}: {error.details()}"
    if said != "".join(texts):
        seen.flaw = seen.flaw or f"only {said!r} came"


def told(name: str, seconds: list[float]) -> str:
    """Median, 99th of a hundred, and the worst."""
    ordered = sorted(seconds)
    median, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"{name}: median {median:.2f} s, p99 {late:.2f} s, worst {ordered[-1]:.2f} s"


@pytest.mark.slow
async def test_two_thousand_streams_are_open_at_once_and_none_is_reset(tmp_path: Path) -> None:
    allow_open_files()
    async with Upstream() as vendor:
        release = asyncio.Event()
        vendor.script(
            sse_answer([event({"content": BEGUN}), Wait(release), event({"content": ENDED}), event({}, "stop")])
        )
        async with fronted(lab_config(vendor.base_url), tmp_path, {"per_address": None}) as front:
            rest = [Seen() for _ in range(STREAMS // 2)]
            grpc = [Seen() for _ in range(STREAMS - len(rest))]
            trust = front.verify
            assert isinstance(trust, ssl.SSLContext)
            channels = [front.channel() for _ in range(CHANNELS)]
            texts = (BEGUN, ENDED)
            opening = asyncio.Semaphore(OPENING_AT_ONCE)

            async def one(seen: Seen, asking: Coroutine[Any, Any, None]) -> None:
                # A caller's time begins when it asks: not all two thousand ask in the same instant.
                async with opening:
                    asked = asyncio.create_task(asking)
                    await reached(lambda: bool(seen.first_at) or asked.done(), within=SECONDS)
                await asked

            asking = [(seen, over_rest(front, seen, trust, texts)) for seen in rest]
            asking += [(seen, over_grpc(channels[index % CHANNELS], seen, texts)) for index, seen in enumerate(grpc)]
            tasks = [asyncio.create_task(one(*each)) for each in asking]
            everybody = rest + grpc
            await reached(lambda: all(seen.first_at or seen.flaw for seen in everybody), within=SECONDS)
            assert [seen.flaw for seen in everybody if seen.flaw] == []
            assert await front.statistic("http.front.downstream_rq_active") >= STREAMS
            released_at = time.monotonic()
            release.set()
            await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)
            for channel in channels:
                await channel.close()
            assert [seen.flaw for seen in everybody if seen.flaw] == []
            for cluster in ("core", "bridge"):
                for name in (
                    "upstream_rq_rx_reset",
                    "upstream_rq_tx_reset",
                    "upstream_rq_pending_overflow",
                    "upstream_cx_overflow",
                ):
                    assert await front.statistic(f"cluster.{cluster}.{name}") == 0, (cluster, name)
            for name, group in (("REST", rest), ("gRPC", grpc)):
                print(told(f"{name}, first byte after the request", [seen.first_seconds for seen in group]))
                print(told(f"{name}, last byte after the vendor's", [seen.last_at - released_at for seen in group]))


def compressed(text: str, idle_seconds: float | None = None) -> str:
    """Envoy's configuration with the times of streams and connections three hundred times as short.

    Takes another idle time of streams than is rendered.
    """

    def scaled(match: re.Match[str]) -> str:
        seconds = idle_seconds if idle_seconds is not None and "stream" in match[1] else float(match[2])
        return f"{match[1]}{seconds / SCALE:.3f}s"

    text, count = re.subn(r"(stream_idle_timeout: |[^_]idle_timeout: )([0-9.]+)s", scaled, text)
    assert count == 2
    return text


def quiet_config(base_url: str) -> Config:
    """Headgate's own times, as short: those that it has by default, but for the pings, which are turned off."""
    config = lab_config(base_url)
    times = TimeoutsConfig(first_byte_seconds=QUIET * 1.5, idle_seconds=QUIET * 1.5, total_seconds=HOUR * 1.5)
    lab = config.providers["lab"].model_copy(update={"timeouts": times})
    return config.model_copy(update={"providers": {"lab": lab}, "ping_seconds": 10 * HOUR})


async def said_in_an_hour(tmp_path: Path, idle_seconds: float | None) -> tuple[Seen, Seen]:
    """What callers over REST and gRPC saw of an hour's stream that says a word every ten minutes."""
    texts = [f"word {number}" for number in range(int(HOUR // QUIET))]
    steps: list[Any] = []
    for text in texts:
        steps += [event({"content": text}), Delay(QUIET)]
    answer: Sequence[Step] = sse_answer([*steps, event({}, "stop")])
    authorities, key = self_signed(tmp_path)
    async with Upstream() as vendor:
        vendor.script(answer)
        async with running(quiet_config(vendor.base_url)) as gateway:
            replica = {"host": "127.0.0.1", "grpc": int(gateway.grpc_address.rpartition(":")[2]), "http": gateway.port}
            section = EnvoyConfig.model_validate(
                {
                    "listen": ["127.0.0.1:0"],
                    "admin": "127.0.0.1:0",
                    "tls": {"certificate": str(authorities), "private_key": str(key)},
                    "replicas": [replica],
                }
            )
            usual = lab_config("http://127.0.0.1:1/v1").model_copy(update={"envoy": section})
            async with started(compressed(rendered(usual), idle_seconds), tmp_path) as (admin, log, errors):
                (listener,) = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
                port = listener["local_address"]["socket_address"]["port_value"]
                front = Front(f"127.0.0.1:{port}", authorities, admin, log, errors, (gateway,))
                trust = front.verify
                assert isinstance(trust, ssl.SSLContext)
                rest, grpc = Seen(), Seen()
                async with front.channel() as channel:
                    await asyncio.gather(over_rest(front, rest, trust, texts), over_grpc(channel, grpc, texts))
    return rest, grpc


@pytest.mark.slow
async def test_a_stream_of_an_hour_that_says_little_survives_in_compressed_time(tmp_path: Path) -> None:
    seen = await said_in_an_hour(tmp_path, None)
    assert [one.flaw for one in seen] == ["", ""]
    assert all(one.last_at - one.asked_at >= HOUR - QUIET for one in seen)


async def test_with_the_idle_time_that_envoy_has_by_default_it_does_not(tmp_path: Path) -> None:
    rest, grpc = await said_in_an_hour(tmp_path, 300)
    assert rest.flaw
    assert StatusCode.UNAVAILABLE.name in grpc.flaw or StatusCode.INTERNAL.name in grpc.flaw or "DEADLINE" in grpc.flaw
