"""Streams over REST whose connections are cut: the events behind the last one that arrived are those that come."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest

from gateway_core.config import DetachConfig
from tests.conftest import lab_config
from tests.faults.callers import HI, MODEL, OPENAI_PATH, Raw, request
from tests.faults.phases import ENDLESS, standing_still
from tests.support.event_source import Event, EventSource
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.openai_vendor import USAGE, event, streamed, texts, usage_event
from tests.support.relay import Relay
from tests.support.upstream import Silence, Upstream, Wait, reached, sse_answer

WISH = {"x-headgate-detach": "60s"}


def call_piece(index: int, **function: str) -> dict[str, Any]:
    begun = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": index, **begun, "function": function}]}


SCRIPTS: dict[str, list[Any]] = {
    "text": streamed("Once", " upon", " a", " time"),
    "usage with the end": [
        event({"role": "assistant", "content": ""}),
        event({"content": "Hel"}),
        event({"content": "lo"}, "stop", usage=USAGE),
    ],
    "two answers, ended one after the other": [
        event({"role": "assistant", "content": "a"}),
        event({"role": "assistant", "content": "b"}, index=1),
        event({"content": "c"}, "stop"),
        event({"content": "d"}, index=1),
        event({"content": "e"}, "length", index=1),
        usage_event(),
    ],
    "tools": [
        event({"role": "assistant", "content": None}),
        event(call_piece(0, name="look", arguments="")),
        event(call_piece(0, arguments='{"a"')),
        event(call_piece(0, arguments=": 1}")),
        event(call_piece(1, name="see", arguments="{")),
        event(call_piece(1, arguments="}")),
        event({}, "tool_calls"),
        usage_event(),
    ],
}


@asynccontextmanager
async def gateway_of(
    upstream: Upstream, arrangement: Arrangement = "together", **detach: Any
) -> AsyncIterator[Gateway]:
    config = lab_config(upstream.base_url).model_copy(update={"detach": DetachConfig(**detach)})
    async with running(config, arrangement) as gateway:
        yield gateway


def document(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HI, "stream": True, **fields}


@asynccontextmanager
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


async def whole(client: httpx.AsyncClient, url: str, **fields: Any) -> list[Event]:
    """All events of a stream that asks to be kept."""
    answer = await client.post(url + OPENAI_PATH, json=document(**fields), headers=WISH)
    assert answer.status_code == 200
    assert answer.headers["x-headgate-detach"] == "60s"
    source = EventSource()
    source.feed(answer.content)
    return source.events


async def read(source: EventSource, answer: httpx.Response) -> None:
    """Reads to the end."""
    async for piece in answer.aiter_raw():
        source.feed(piece)


async def resumed(client: httpx.AsyncClient, url: str, last_event_id: str, identity: str = "") -> httpx.Response:
    identity = identity or last_event_id.split(".")[0]
    return await client.get(f"{url}{OPENAI_PATH}/{identity}/stream", headers={"last-event-id": last_event_id})


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
async def test_behind_any_event_come_exactly_the_other_ones(
    upstream: Upstream, arrangement: Arrangement, name: str, include_usage: bool
) -> None:
    upstream.script(sse_answer(SCRIPTS[name]))
    options = {"stream_options": {"include_usage": include_usage}}
    async with gateway_of(upstream, arrangement) as gateway, http() as client:
        events = await whole(client, gateway.http_url, **options)
        assert events[-1].data == "[DONE]"
        plain = await client.post(gateway.http_url + OPENAI_PATH, json=document(**options))
        source = EventSource()
        source.feed(plain.content)
        assert [each.data for each in source.events] == [each.data for each in events]
        assert {each.last_event_id for each in source.events} == {""}
        assert len({each.last_event_id for each in events}) == len(events)
        for count, last in enumerate(events[:-1], 1):
            answer = await resumed(client, gateway.http_url, last.last_event_id)
            assert answer.status_code == 200
            source = EventSource(last.last_event_id)
            source.feed(answer.content)
            assert source.events == events[count:]
        done = await resumed(client, gateway.http_url, events[-1].last_event_id)
        assert (done.status_code, done.content) == (204, b"")
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_connection_that_is_cut_behind_any_chunk_loses_nothing(upstream: Upstream, name: str) -> None:
    script = SCRIPTS[name]
    gates = [asyncio.Event() for _ in script]
    upstream.script(
        sse_answer(script), *(sse_answer([*script[:n], Wait(gates[n]), *script[n:]]) for n in range(1, len(script)))
    )
    async with gateway_of(upstream) as gateway, http() as client:
        expected = [each.data for each in await whole(client, gateway.http_url)]
        for count in range(1, len(script)):
            source = EventSource()
            async with Relay(gateway.port) as relay, http() as lost:
                url = f"http://127.0.0.1:{relay.port}{OPENAI_PATH}"
                async with lost.stream("POST", url, json=document(), headers=WISH) as answer:
                    identity = answer.headers["x-headgate-stream-id"]
                    (stream,) = [each for each in gateway.core.streams._streams.values() if each.id == identity]
                    await reached(lambda stream=stream, count=count: stream.buffer.last == count)  # type: ignore[misc]
                    relay_cut = asyncio.get_running_loop().call_later(0.05, relay.cut)
                    with pytest.raises(httpx.TransportError):
                        await read(source, answer)
                    relay_cut.cancel()
            gates[count].set()
            rest = await resumed(client, gateway.http_url, source.last_event_id, identity)
            source.feed(rest.content)
            assert [each.data for each in source.events] == expected


async def test_a_stream_goes_on_live(upstream: Upstream, arrangement: Arrangement) -> None:
    gate = asyncio.Event()
    script = SCRIPTS["text"]
    upstream.script(sse_answer([*script[:3], Wait(gate), *script[3:]]))
    async with gateway_of(upstream, arrangement) as gateway, http() as client:
        async with client.stream("POST", gateway.http_url + OPENAI_PATH, json=document(), headers=WISH) as answer:
            identity = answer.headers["x-headgate-stream-id"]
        # The same request again, as clients do that know nothing of ids.
        again = {"last-event-id": f"{identity}.1", **WISH}
        source = EventSource()
        async with client.stream("POST", gateway.http_url + OPENAI_PATH, json=document(), headers=again) as answer:
            assert answer.headers["x-headgate-stream-id"] == identity
            async for piece in answer.aiter_raw():
                source.feed(piece)
                gate.set()
        said = [json.loads(each.data)["choices"][0]["delta"].get("content") for each in source.events[:-1]]
        assert said == ["Once", " upon", " a", " time", None]
        assert len(upstream.requests) == 1


async def test_openais_sdk_reads_a_stream_with_ids(upstream: Upstream) -> None:
    upstream.script(sse_answer(SCRIPTS["text"]))
    async with gateway_of(upstream) as gateway, openai.DefaultAsyncHttpxClient(trust_env=False) as client:
        sdk = openai.AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="sk-any", http_client=client)
        chunks = await sdk.chat.completions.create(model=MODEL, messages=HI, stream=True, extra_headers=WISH)
        assert texts([chunk async for chunk in chunks]) == "Once upon a time"


async def test_without_a_last_event_id_a_stream_comes_from_its_beginning(upstream: Upstream) -> None:
    upstream.script(sse_answer(SCRIPTS["text"]))
    async with gateway_of(upstream) as gateway, http() as client:
        events = await whole(client, gateway.http_url)
        identity = events[0].last_event_id.split(".")[0]
        for method in ("GET", "POST"):
            answer = await client.request(method, f"{gateway.http_url}{OPENAI_PATH}/{identity}/stream")
            source = EventSource()
            source.feed(answer.content)
            assert source.events == events


@pytest.mark.parametrize(
    ("last_event_id", "status", "code"),
    [
        ("here-1-{zeros}.1", 404, "not_found"),
        ("there-1-{zeros}.1", 404, "not_found"),
        ("{id}.99", 400, "invalid_request"),
        ("{id}", 400, "invalid_request"),
        ("7", 400, "invalid_request"),
        ("here-2-{zeros}.1", 404, "not_found"),
    ],
)
async def test_a_place_that_is_none_is_refused(upstream: Upstream, last_event_id: str, status: int, code: str) -> None:
    upstream.script(sse_answer(SCRIPTS["text"]))
    async with gateway_of(upstream, process="here") as gateway, http() as client:
        events = await whole(client, gateway.http_url)
        text = last_event_id.format(id=events[0].last_event_id.split(".")[0], zeros="0" * 32)
        answer = await resumed(client, gateway.http_url, text)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        again = await client.post(gateway.http_url + OPENAI_PATH, json=document(), headers={"last-event-id": text})
        assert (again.status_code, again.json()["error"]["code"]) == (status, code)
        assert len(upstream.requests) == 1


async def test_chunks_that_are_no_longer_kept_are_gone(upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed(*(f"{number:04}" for number in range(100)))))
    async with gateway_of(upstream, buffer_bytes=4096) as gateway, http() as client:
        events = await whole(client, gateway.http_url)
        answer = await resumed(client, gateway.http_url, events[0].last_event_id)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "chunks_gone")
        last = events[-10]
        source = EventSource(last.last_event_id)
        source.feed((await resumed(client, gateway.http_url, last.last_event_id)).content)
        assert source.events == events[-9:]


async def test_a_caller_that_lost_the_stream_to_another_is_told_so_for_good(upstream: Upstream) -> None:
    upstream.script(sse_answer([*SCRIPTS["text"][:3], Silence()]))
    async with gateway_of(upstream) as gateway, http() as client, http() as other:
        source = EventSource()
        async with client.stream("POST", gateway.http_url + OPENAI_PATH, json=document(), headers=WISH) as answer:
            identity = answer.headers["x-headgate-stream-id"]
            async with other.stream("GET", f"{gateway.http_url}{OPENAI_PATH}/{identity}/stream"):
                async for piece in answer.aiter_raw():
                    source.feed(piece)
        last = source.events[-1]
        assert json.loads(last.data)["error"]["code"] == "stream_taken_over"
        assert (await resumed(client, gateway.http_url, last.last_event_id)).status_code == 204


async def test_a_slow_caller_is_not_read_ahead_for(upstream: Upstream, arrangement: Arrangement) -> None:
    upstream.script(ENDLESS)
    async with gateway_of(upstream, arrangement, buffer_bytes=64 << 20) as gateway:
        raw = Raw(gateway.port)
        try:
            await raw.send(request(OPENAI_PATH, document(), ["x-headgate-detach: 60s"]))
            await raw.read_until(b"data: ")
            assert await standing_still(upstream.requests[0]) < 1 << 20
            (stream,) = gateway.core.streams._streams.values()
            assert stream.buffer.size < 1 << 20
        finally:
            raw.socket.close()


async def test_a_connection_lost_without_the_wish_ends_the_call(upstream: Upstream, arrangement: Arrangement) -> None:
    upstream.script(sse_answer([*SCRIPTS["text"][:3], Silence()]))
    async with gateway_of(upstream, arrangement) as gateway, http() as client:
        async with client.stream("POST", gateway.http_url + OPENAI_PATH, json=document()) as answer:
            assert "x-headgate-stream-id" not in answer.headers
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        assert not gateway.core.streams._streams


async def test_the_wish_that_is_none_is_refused(upstream: Upstream) -> None:
    async with gateway_of(upstream) as gateway, http() as client:
        wish = {"x-headgate-detach": "a minute"}
        answer = await client.post(gateway.http_url + OPENAI_PATH, json=document(), headers=wish)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-headgate-detach")
