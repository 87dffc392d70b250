"""What a caller is told whose answer the end of the server cuts."""

import asyncio

import orjson
import pytest
from structlog.testing import capture_logs

from rest_bridge.endpoint import Endpoint
from rest_bridge.exchange import Exchange
from rest_bridge.sse import EventStream, event
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.test_exchange import CONFIG, Caller, Work, document

WORDS = {"message": "The server ends, and the call with it: its time to finish is over.", "param": None}


async def cut(caller: Caller, work: Work, *, streams: bool = True) -> None:
    """Has an endpoint work until it waits, and cancels it as uvicorn does; the cancellation passes through."""
    waits = asyncio.Event()

    async def begun(exchange: Exchange) -> None:
        try:
            await work(exchange)
        finally:
            waits.set()
        await asyncio.Event().wait()

    endpoint = Endpoint(CONFIG, "openai", ("POST",), begun, document)
    if streams:
        endpoint.framed = event
    task = asyncio.create_task(endpoint(caller.scope, caller.messages.get, caller.send))
    async with asyncio.timeout(5):
        await waits.wait()
        task.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")
        with pytest.raises(asyncio.CancelledError):
            await task


async def read(exchange: Exchange) -> None:
    await exchange.body()


async def stream(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.start_stream(200, ())
    await exchange.send(b"data: 1\n\n")


async def test_an_answer_that_has_not_begun_is_503() -> None:
    caller = Caller(b"{}")
    await cut(caller, read)
    assert (caller.status, orjson.loads(caller.body)) == (503, WORDS)
    assert not caller.sent[-1]["more_body"]


async def test_a_request_that_was_not_read_is_told_to_the_log_too() -> None:
    caller = Caller(b"{}")
    with capture_logs() as lines:
        await cut(caller, lambda exchange: asyncio.sleep(0))
    assert caller.status == 503
    assert [(line["event"], line["reason"]) for line in lines] == [("request_refused", "ERROR_REASON_SHUTTING_DOWN")]


async def test_a_stream_that_has_begun_ends_with_the_error() -> None:
    caller = Caller(b"{}")
    await cut(caller, stream)
    assert (caller.status, caller.body) == (200, b"data: 1\n\n" + event(orjson.dumps(WORDS)))
    assert not caller.sent[-1]["more_body"]


async def test_an_event_stream_with_a_ping_under_way_ends_so_as_well() -> None:
    caller = Caller(b"{}")

    async def work(exchange: Exchange) -> None:
        await exchange.body()
        async with EventStream(exchange, 0.001):
            await asyncio.Event().wait()

    endpoint = Endpoint(CONFIG, "openai", ("POST",), work, document)
    endpoint.framed = event
    task = asyncio.create_task(endpoint(caller.scope, caller.messages.get, caller.send))
    async with asyncio.timeout(5):
        await eventually(lambda: len(caller.sent) > 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert caller.body.endswith(event(orjson.dumps(WORDS)))


async def test_what_is_no_stream_of_a_dialect_is_broken_off() -> None:
    caller = Caller(b"{}")
    await cut(caller, stream, streams=False)
    assert caller.body == b"data: 1\n\n"
    assert caller.sent[-1]["more_body"]


async def test_an_answer_that_is_complete_stays_as_it_is() -> None:
    caller = Caller(b"{}")

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, b"{}")

    await cut(caller, answer)
    assert (caller.status, caller.body) == (200, b"{}")
