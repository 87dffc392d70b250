"""Tests of reading an answer: as it arrives, no faster than its reader, and every way in which it breaks off."""

import asyncio
import zlib
from contextlib import aclosing

import pytest

from gateway_core import errors
from gateway_core.upstream.http import Answer as Opened
from tests.gateway_core.upstream.conftest import MakeClient
from tests.support.upstream import (
    LAST_CHUNK,
    Answer,
    Cut,
    Delay,
    Framing,
    Reset,
    Silence,
    Upstream,
    Wait,
    answer,
    chunk,
    head,
    json_answer,
    reached,
    sse_answer,
)

CHUNKED = head(200, {"transfer-encoding": "chunked"})
GZIP = head(200, {"content-encoding": "gzip", "transfer-encoding": "chunked"})


def now() -> float:
    return asyncio.get_running_loop().time()


async def pieces_of(opened: Opened) -> list[bytes]:
    async with aclosing(opened.pieces()) as pieces:
        return [piece async for piece in pieces]


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("piece_bytes", [1, 7, None])
async def test_every_framing_is_read_whole(
    upstream: Upstream, make_client: MakeClient, framing: Framing, gzip: bool, piece_bytes: int | None
) -> None:
    upstream.script(sse_answer([{"text": "é🌍"}, {"b": 2}], piece_bytes=piece_bytes, framing=framing, gzip=gzip))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    expected = 'data: {"text": "é🌍"}\n\ndata: {"b": 2}\n\ndata: [DONE]\n\n'
    assert b"".join(await pieces_of(opened)).decode() == expected


async def test_a_deflated_stream_is_decoded_as_it_arrives(upstream: Upstream, make_client: MakeClient) -> None:
    go = asyncio.Event()
    deflater = zlib.compressobj(wbits=31)
    first = deflater.compress(b"data: 1\n\n") + deflater.flush(zlib.Z_SYNC_FLUSH)
    second = deflater.compress(b"data: 2\n\n") + deflater.flush()
    upstream.script([GZIP, chunk(first), Wait(go), chunk(second), LAST_CHUNK])
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    async with aclosing(opened.pieces()) as pieces:
        assert await anext(pieces) == b"data: 1\n\n"
        go.set()
        assert await anext(pieces) == b"data: 2\n\n"
        assert [piece async for piece in pieces] == []


async def test_pieces_come_as_they_are_sent(upstream: Upstream, make_client: MakeClient) -> None:
    go = [asyncio.Event() for _ in range(3)]
    upstream.script(sse_answer([Wait(go[0]), b"data: 1\n\n", Wait(go[1]), b"data: 2\n\n", Wait(go[2])], done=False))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    assert opened.headers["Content-Type"] == "text/event-stream"
    async with aclosing(opened.pieces()) as pieces:
        for event, expected in zip(go, [b"data: 1\n\n", b"data: 2\n\n"], strict=False):
            event.set()
            assert await anext(pieces) == expected
        go[2].set()
        assert [piece async for piece in pieces] == []
    assert not upstream.requests[0].closed.is_set()


BROKEN: dict[str, Answer] = {
    "cut in a chunk": [CHUNKED, b"5\r\nab", Cut()],
    "cut between chunks": [CHUNKED, chunk(b"data: 1\n\n"), Cut()],
    "reset between chunks": [CHUNKED, chunk(b"data: 1\n\n"), Reset()],
    "bad chunk size": [CHUNKED, chunk(b"data: 1\n\n"), b"zz\r\n", Silence()],
    "bad chunk end": [CHUNKED, b"2\r\nabcd\r\n", Silence()],
    "cut before the length": [head(200, {"content-length": "10"}), b"12345", Cut()],
    "reset before the length": [head(200, {"content-length": "10"}), b"12345", Reset()],
    "reset of a body without length": [head(200), b"data: 1\n\n", Delay(0.01), Reset()],
    "bad gzip": [GZIP, chunk(b"this is not gzip"), LAST_CHUNK],
    "gzip cut": [GZIP, chunk(zlib.compress(b"x" * 99, wbits=31)[:-9]), Cut()],
}


@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_a_body_that_breaks_off_is_broken(
    upstream: Upstream, make_client: MakeClient, broken: Answer, unary: bool
) -> None:
    upstream.script(broken)
    client = make_client(upstream.base_url)

    async def ask() -> None:
        opened = await client.open("POST", "/x", body=b"{}")
        await (opened.read() if unary else pieces_of(opened))

    with pytest.raises(errors.ProviderBroken) as caught:
        await asyncio.wait_for(ask(), 2)
    assert caught.value.metadata == {"provider": "lab"}
    assert str(upstream.port) not in caught.value.message
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


@pytest.mark.parametrize("kept", range(20))
async def test_a_gzipped_body_that_is_not_whole_is_broken(
    upstream: Upstream, make_client: MakeClient, kept: int
) -> None:
    whole = zlib.compress(b"data: 1\n\n", wbits=31)
    upstream.script([GZIP, chunk(whole[: kept + 1]), LAST_CHUNK])
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    with pytest.raises(errors.ProviderBroken):
        await opened.read()


async def test_an_encoding_that_was_not_asked_for_is_broken_once_it_is_read(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(answer([b"data"], status=500, headers={"content-encoding": "br"}))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    assert (opened.status, upstream.requests[0].headers["accept-encoding"]) == (500, "gzip, deflate")
    with pytest.raises(errors.ProviderBroken):
        await opened.read()


async def test_what_arrived_before_a_cut_is_delivered(upstream: Upstream, make_client: MakeClient) -> None:
    go = asyncio.Event()
    upstream.script([CHUNKED, chunk(b"data: 1\n\n"), Wait(go), Cut()])
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    async with aclosing(opened.pieces()) as pieces:
        assert await anext(pieces) == b"data: 1\n\n"
        go.set()
        with pytest.raises(errors.ProviderBroken):
            await anext(pieces)


async def test_a_body_without_length_ends_with_its_connection(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([head(200), b"data: 1\n\n", Cut()])
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    assert await opened.read() == b"data: 1\n\n"


@pytest.mark.parametrize("gzip", [False, True])
async def test_an_answer_over_the_limit_is_refused_and_its_connection_closed(
    upstream: Upstream, make_client: MakeClient, gzip: bool
) -> None:
    upstream.script(answer([bytes(50_000_000)], framing="chunked", gzip=gzip), json_answer({}))
    client = make_client(upstream.base_url, answer_bytes=100_000)
    opened = await client.open("POST", "/x", body=b"{}")
    with pytest.raises(errors.ProviderBroken) as caught:
        await opened.read()
    assert caught.value.metadata == {"provider": "lab"}
    assert "100000 bytes" in caught.value.message
    assert "answer_bytes" in caught.value.message
    assert caught.value.retryable
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)
    assert await (await client.open("POST", "/x", body=b"{}")).read() == b"{}"


async def test_an_answer_of_the_limit_is_read(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(answer([bytes(100_000)]))
    opened = await make_client(upstream.base_url, answer_bytes=100_000).open("POST", "/x", body=b"{}")
    assert len(await opened.read()) == 100_000


@pytest.mark.parametrize("unary", [False, True])
async def test_silence_within_an_answer_times_out(upstream: Upstream, make_client: MakeClient, unary: bool) -> None:
    upstream.script(sse_answer([{"a": 1}, Delay(0.03), {"a": 2}, Delay(0.03), {"a": 3}, Silence()]))
    opened = await make_client(upstream.base_url, idle=0.06).open("POST", "/x", body=b"{}")
    began_at = now()
    with pytest.raises(errors.ProviderTimeout) as caught:
        await (opened.read() if unary else pieces_of(opened))
    assert caught.value.metadata == {"provider": "lab", "phase": "idle"}
    assert now() - began_at >= 0.11
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


async def test_a_slow_reader_is_not_a_silent_provider(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(sse_answer([b"data: %d\n\n" % number for number in range(3)], done=False))
    opened = await make_client(upstream.base_url, idle=0.05).open("POST", "/x", body=b"{}")
    read = b""
    async with aclosing(opened.pieces()) as pieces:
        async for piece in pieces:
            read += piece
            await asyncio.sleep(0.12)
    assert read == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_reader_that_pauses_gives_the_provider_its_full_time(
    upstream: Upstream, make_client: MakeClient
) -> None:
    go = asyncio.Event()
    upstream.script(sse_answer([b"data: 1\n\n", Wait(go), Delay(0.1), b"data: 2\n\n"], done=False))
    opened = await make_client(upstream.base_url, idle=0.15).open("POST", "/x", body=b"{}")
    async with aclosing(opened.pieces()) as pieces:
        await anext(pieces)
        await asyncio.sleep(0.1)
        go.set()
        assert await anext(pieces) == b"data: 2\n\n"


async def test_the_total_bounds_an_answer_that_goes_on(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(sse_answer([step for _ in range(100) for step in (b": ping\n\n", Delay(0.01))]))
    opened = await make_client(upstream.base_url, total=0.1).open("POST", "/x", body=b"{}")
    with pytest.raises(errors.ProviderTimeout) as caught:
        await pieces_of(opened)
    assert caught.value.metadata == {"provider": "lab", "phase": "total"}
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


@pytest.mark.parametrize("unary", [False, True])
async def test_the_callers_deadline_ends_the_reading(upstream: Upstream, make_client: MakeClient, unary: bool) -> None:
    upstream.script(sse_answer([{"a": 1}, Silence()]))
    deadline = now() + 0.1
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}", deadline=deadline)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await (opened.read() if unary else pieces_of(opened))
    assert caught.value.metadata == {"provider": "lab"}
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)
    closed_at = upstream.requests[0].closed_at
    assert closed_at is not None
    assert -0.01 <= closed_at - deadline < 0.1


async def test_the_deadline_frees_the_provider_while_nobody_reads(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(answer([bytes(64_000)] * 1000, framing="chunked"))
    deadline = now() + 0.2
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}", deadline=deadline)
    async with aclosing(opened.pieces()) as pieces:
        await anext(pieces)
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)
        closed_at = upstream.requests[0].closed_at
        assert closed_at is not None
        assert -0.01 <= closed_at - deadline < 0.1
        with pytest.raises(errors.DeadlineExceeded):
            await anext(pieces)


async def test_a_deadline_that_passes_after_the_answer_leaves_the_connection_alone(
    upstream: Upstream, make_client: MakeClient
) -> None:
    go = asyncio.Event()
    whole = head(200, {"content-length": "2"}) + b"{}"
    upstream.script([whole], sse_answer([{"a": 1}, Wait(go)]))
    client = make_client(upstream.base_url)
    unread = await client.open("POST", "/x", body=b"{}", deadline=now() + 0.1)
    opened = await client.open("POST", "/x", body=b"{}")
    await asyncio.sleep(0.15)
    go.set()
    assert b"[DONE]" in await opened.read()
    with pytest.raises(errors.DeadlineExceeded):
        await unread.read()
    with pytest.raises(errors.DeadlineExceeded):
        await pieces_of(unread)
    assert upstream.connection_count == 1


async def test_an_upstream_is_read_no_faster_than_its_reader(upstream: Upstream, make_client: MakeClient) -> None:
    total = 64_000 * 1000
    upstream.script(answer([bytes(64_000)] * 1000, framing="chunked"))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    received = upstream.requests[0]
    written = -1

    def stands_still() -> bool:
        nonlocal written
        before, written = written, received.bytes_written
        return before == written

    async with aclosing(opened.pieces()) as pieces:
        await anext(pieces)
        await asyncio.sleep(0.05)
        await reached(stands_still)
        # What the system holds for the connection; the rest waits at the provider.
        assert written < total / 4
        assert sum([len(piece) async for piece in pieces]) > total * 0.9
    assert received.bytes_written > total


async def test_an_answer_closed_early_closes_its_connection_and_a_read_one_keeps_it(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(sse_answer([{"a": 1}]), sse_answer([{"a": 1}, Silence()]), json_answer({}))
    client = make_client(upstream.base_url)
    await pieces_of(await client.open("POST", "/x", body=b"{}"))
    opened = await client.open("POST", "/x", body=b"{}")
    assert upstream.connection_count == 1
    async with aclosing(opened.pieces()) as pieces:
        await anext(pieces)
    await asyncio.wait_for(upstream.requests[1].closed.wait(), 0.1)
    await (await client.open("POST", "/x", body=b"{}")).read()
    assert upstream.connection_count == 2


async def test_an_answer_closed_before_it_is_read_closes_its_connection(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(sse_answer([{"a": 1}, Silence()]))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    await opened.close()
    await opened.close()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 0.1)


async def test_an_answer_whose_reading_never_began_closes_its_connection(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(sse_answer([{"a": 1}, Silence()]))
    pieces = (await make_client(upstream.base_url).open("POST", "/x", body=b"{}")).pieces()
    await pieces.aclose()
    del pieces
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 0.1)


async def test_a_body_may_be_empty(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([head(204)], answer([]), answer([], framing="chunked"))
    client = make_client(upstream.base_url)
    for _ in range(3):
        assert await (await client.open("POST", "/x", body=b"{}")).read() == b""
    assert upstream.connection_count == 1


async def test_an_abort_ends_a_read_that_waits_after_what_has_come(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(sse_answer([b"data: 1\n\n", Silence()]))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    pieces = opened.pieces()
    assert await anext(pieces) == b"data: 1\n\n"
    reading = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0.02)
    assert not reading.done()
    opened.abort()
    with pytest.raises(errors.ProviderBroken):
        await asyncio.wait_for(reading, 1)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


@pytest.mark.parametrize("gzip", [False, True])
async def test_a_read_that_is_held_while_its_reader_does_something_else_harms_only_itself(
    upstream: Upstream, make_client: MakeClient, gzip: bool
) -> None:
    upstream.script(sse_answer([b"data: 1\n\n", Silence()], gzip=gzip))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}", deadline=now() + 0.1)
    async with aclosing(opened.pieces()) as pieces:
        assert await anext(pieces) == b"data: 1\n\n"
        # As rest_bridge.batches does it: the read waits, and its task goes on with other things.
        step = anext(pieces).__await__()
        waited_for = next(step)
        await asyncio.sleep(0.15)
        assert waited_for.done()
        with pytest.raises(errors.DeadlineExceeded):
            next(step)


async def test_a_connection_whose_answer_was_read_slowly_serves_again(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(answer([bytes(200_000)]), json_answer({}))
    client = make_client(upstream.base_url)
    opened = await client.open("POST", "/x", body=b"{}")
    size = 0
    async with aclosing(opened.pieces()) as pieces:
        async for piece in pieces:
            assert len(piece) <= 64 * 1024
            size += len(piece)
            await asyncio.sleep(0.001)
    assert size == 200_000
    assert await (await client.open("POST", "/x", body=b"{}")).read() == b"{}"
    assert upstream.connection_count == 1


async def test_a_body_that_comes_with_its_head_has_arrived_and_no_other(
    upstream: Upstream, make_client: MakeClient
) -> None:
    began = head(200, {"content-length": "6"})
    upstream.script(
        [began + b"abcdef"],
        [began, Delay(0.05), b"abcdef"],
        [began + b"abc", Delay(0.05), b"def"],
        [CHUNKED + chunk(b"abcdef") + LAST_CHUNK],
        answer([b"abcdef"], gzip=True),
    )
    client = make_client(upstream.base_url)
    arrived = []
    for _ in range(5):
        opened = await client.open("POST", "/x", body=b"{}")
        arrived.append(opened.arrived())
        if arrived[-1] is None:
            assert await opened.read() == b"abcdef"
    assert arrived == [b"abcdef", None, None, b"abcdef", None]


async def test_a_body_that_comes_with_its_head_is_bounded_too(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([head(200, {"content-length": "200"}) + bytes(200)])
    opened = await make_client(upstream.base_url, answer_bytes=100).open("POST", "/x", body=b"{}")
    with pytest.raises(errors.ProviderBroken) as caught:
        opened.arrived()
    assert "answer_bytes" in caught.value.message
