"""Tests of the pool: which connection serves whom, and when one is let go."""

import asyncio

import pytest

from gateway_core import errors
from gateway_core.upstream.http import Upstream as Client
from tests.gateway_core.upstream.conftest import MakeClient, cancelled
from tests.support.upstream import (
    Answer,
    Cut,
    Received,
    Silence,
    Upstream,
    Wait,
    head,
    json_answer,
    never_accepting,
    reached,
    refusing,
)


async def ask(client: Client, path: str = "/x") -> bytes:
    return await (await client.open("POST", path, body=b"{}")).read()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_connection_used_last_serves_next(upstream: Upstream, make_client: MakeClient) -> None:
    go = asyncio.Event()
    upstream.script(lambda received: [Wait(go), *json_answer({})] if received.path == "/v1/late" else json_answer({}))
    client = make_client(upstream.base_url)
    late = asyncio.ensure_future(ask(client, "/late"))
    await upstream.received(1)
    await ask(client)
    go.set()
    await late
    last = upstream.requests[0].connection
    for _ in range(3):
        await ask(client)
    assert upstream.connection_count == 2
    assert [received.connection for received in upstream.requests[2:]] == [last] * 3


async def test_who_waits_for_a_connection_is_served_in_turn(upstream: Upstream, make_client: MakeClient) -> None:
    go = asyncio.Event()
    upstream.script([Wait(go), *json_answer({})], json_answer({}))
    client = make_client(upstream.base_url, max_connections=1)
    waiting = [asyncio.ensure_future(ask(client, "/0"))]
    await upstream.received()
    for number in range(1, 6):
        waiting.append(asyncio.ensure_future(ask(client, f"/{number}")))
        await asyncio.sleep(0)
    await cancelled(waiting[2])
    go.set()
    await asyncio.wait(waiting)
    assert [received.path for received in upstream.requests] == ["/v1/0", "/v1/1", "/v1/3", "/v1/4", "/v1/5"]
    assert upstream.connection_count == 1


@pytest.mark.parametrize("turns", range(12))
async def test_leaving_at_any_turn_of_the_wait_takes_no_place(
    upstream: Upstream, make_client: MakeClient, turns: int
) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url, max_connections=1)
    leaving = [asyncio.ensure_future(ask(client)) for _ in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    assert await asyncio.wait_for(ask(client), 2) == b"{}"
    assert await asyncio.wait_for(ask(client), 2) == b"{}"


@pytest.mark.parametrize("turns", range(12))
async def test_leaving_at_any_turn_leaves_no_connection(
    upstream: Upstream, make_client: MakeClient, turns: int
) -> None:
    upstream.script([Silence()])
    task = asyncio.ensure_future(ask(make_client(upstream.base_url)))
    for _ in range(turns):
        await asyncio.sleep(0)
    await cancelled(task)
    await asyncio.sleep(0.02)
    assert all(connection.closed.is_set() for connection in upstream.connections)


async def test_a_repeated_request_waits_for_a_new_connection(upstream: Upstream, make_client: MakeClient) -> None:
    cut, done = asyncio.Event(), asyncio.Event()

    def play(received: Received) -> Answer:
        steps: dict[str, Answer] = {
            "/v1/stale": [Wait(cut), Cut()] if received.number else json_answer({}),
            "/v1/held": [Wait(done), *json_answer({})],
            "/v1/silent": [Silence()],
        }
        return steps.get(received.path, json_answer({}))

    upstream.script(play)
    client = make_client(upstream.base_url, max_connections=2)
    held = asyncio.ensure_future(ask(client, "/held"))
    await upstream.received(1)
    await ask(client)
    stale = asyncio.ensure_future(ask(client, "/stale"))
    await upstream.received(3)
    silent = asyncio.ensure_future(ask(client, "/silent"))
    await asyncio.sleep(0)
    cut.set()
    await upstream.received(4)
    assert upstream.requests[3].path == "/v1/silent"  # it has waited longer for the place
    done.set()
    assert await asyncio.wait_for(stale, 2) == await held == b"{}"
    await cancelled(silent)


async def test_a_connection_that_fails_leaves_its_place_to_the_next(make_client: MakeClient) -> None:
    with refusing() as base_url:
        client = make_client(base_url, max_connections=1)
        tasks = [asyncio.ensure_future(ask(client)) for _ in range(5)]
        await asyncio.wait(tasks, timeout=2)
        assert all(isinstance(task.exception(), errors.ProviderUnreachable) for task in tasks)


async def test_an_answer_that_is_closed_early_leaves_its_place_to_the_next(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script([head(200, {"content-length": "9"}), b"1", Silence()], json_answer({}))
    client = make_client(upstream.base_url, max_connections=1)
    opened = await client.open("POST", "/x", body=b"{}")
    waiting = asyncio.ensure_future(ask(client))
    await asyncio.sleep(0)
    opened.abort()
    assert await asyncio.wait_for(waiting, 2) == b"{}"
    assert upstream.connection_count == 2


async def test_idle_connections_are_closed_after_a_while(
    upstream: Upstream, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.pool.KEEP_ALIVE_SECONDS", 0.1)
    go = asyncio.Event()
    upstream.script(lambda received: [Wait(go), *json_answer({})] if received.path == "/v1/late" else json_answer({}))
    client = make_client(upstream.base_url)
    late = asyncio.ensure_future(ask(client, "/late"))
    await upstream.received()
    began_at = now()
    await ask(client)
    await asyncio.wait_for(upstream.requests[1].closed.wait(), 2)
    assert now() - began_at > 0.09
    assert not upstream.requests[0].closed.is_set()
    go.set()
    assert await late == b"{}"
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 2)


async def test_a_connection_that_the_host_closes_while_idle_is_not_asked_again(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url, max_connections=1)
    await ask(client)
    upstream.connections[0].abort()
    await upstream.connections[0].closed.wait()
    await reached(lambda: not client._pool._idle)
    await ask(client)
    assert (upstream.connection_count, len(upstream.requests)) == (2, 2)


async def test_closing_ends_who_waits_for_a_connection_or_an_answer(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script([Silence()])
    client = make_client(upstream.base_url, max_connections=1)
    asked = asyncio.ensure_future(ask(client))
    await upstream.received()
    waiting = asyncio.ensure_future(ask(client))
    await asyncio.sleep(0)
    await client.close()
    await asyncio.wait([asked, waiting], timeout=2)
    assert isinstance(asked.exception(), errors.ProviderBroken)
    assert isinstance(waiting.exception(), errors.ShuttingDown)
    await asyncio.wait_for(upstream.connections[0].closed.wait(), 2)


async def test_closing_ends_what_is_being_connected(make_client: MakeClient) -> None:
    with never_accepting() as base_url:
        client = make_client(base_url)
        waiting = asyncio.ensure_future(ask(client))
        await asyncio.sleep(0.02)
        await client.close()
        await asyncio.wait([waiting], timeout=2)
        assert isinstance(waiting.exception(), errors.ShuttingDown)


async def test_a_crowd_is_served_over_few_connections(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(lambda received: json_answer({"path": received.path}))
    client = make_client(upstream.base_url, max_connections=7)
    answers = await asyncio.gather(*(ask(client, f"/{number}") for number in range(300)))
    assert answers == [b'{"path": "/v1/%d"}' % number for number in range(300)]
    await reached(lambda: upstream.connection_count == 7)
