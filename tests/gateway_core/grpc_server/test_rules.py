"""Clients that break the rules of HTTP/2, by mistake or on purpose, and servers that end."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_core.grpc_server import Limits, frames
from gateway_core.grpc_server.frames import ENHANCE_YOUR_CALM, frame
from tests.gateway_core.grpc_server.conftest import Connect
from tests.gateway_core.grpc_server.raw import Client, Servicer, client, head, serving, setting, text_of

NUMBER = frames.NUMBER.pack
Breach = Callable[[Client], bytes]
PING = frame(frames.PING, 0, 0, b"whatever")


@pytest.mark.parametrize(
    ("breach", "code"),
    [
        pytest.param(lambda _: frame(frames.DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR, id="data on stream 0"),
        pytest.param(lambda _: frame(frames.DATA, 0, 1, b"x"), frames.PROTOCOL_ERROR, id="data on an idle stream"),
        pytest.param(lambda _: frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"), frames.COMPRESSION_ERROR, id="block"),
        pytest.param(lambda _: frame(frames.HEADERS, 4, 1, b"\xfe"), frames.COMPRESSION_ERROR, id="unknown field"),
        pytest.param(lambda client: client.ask(2), frames.PROTOCOL_ERROR, id="even number"),
        pytest.param(lambda _: frame(frames.PING, 0, 0, b"x"), frames.FRAME_SIZE_ERROR, id="short ping"),
        pytest.param(lambda _: frame(frames.WINDOW_UPDATE, 0, 0, NUMBER(0)), frames.PROTOCOL_ERROR, id="no growth"),
        pytest.param(lambda _: frame(frames.WINDOW_UPDATE, 0, 0, NUMBER(2**31 - 1)), frames.FLOW_CONTROL_ERROR, id="window"),
        pytest.param(lambda _: frame(frames.SETTINGS, 0, 0, setting(4, 2**31)), frames.FLOW_CONTROL_ERROR, id="setting"),
        pytest.param(lambda _: frame(frames.PUSH_PROMISE, 4, 1, b""), frames.PROTOCOL_ERROR, id="push"),
        pytest.param(lambda _: frame(frames.HEADERS, 0, 1, b"") + PING, frames.PROTOCOL_ERROR, id="between blocks"),
        pytest.param(lambda _: bytes((1, 0, 0, 0, 0, 0, 0, 0, 1)), frames.FRAME_SIZE_ERROR, id="long frame"),
        pytest.param(
            lambda _: frame(frames.HEADERS, 0, 1, b"") + 12_000 * frame(frames.CONTINUATION, 0, 1),
            ENHANCE_YOUR_CALM, id="flood of empty continuations",
        ),
        pytest.param(
            lambda _: frame(frames.HEADERS, 0, 1, b"") + 20 * frame(frames.CONTINUATION, 0, 1, bytes(16_000)),
            ENHANCE_YOUR_CALM, id="flood of continuations",
        ),
        pytest.param(lambda _: 12_000 * frame(frames.SETTINGS, 0, 0), ENHANCE_YOUR_CALM, id="flood of settings"),
        pytest.param(lambda _: 12_000 * frame(77, 0, 0), ENHANCE_YOUR_CALM, id="flood of unknown frames"),
        pytest.param(lambda _: 4 * PING, ENHANCE_YOUR_CALM, id="pings"),
        pytest.param(
            lambda client: client.call(1, head()) + 12_000 * frame(frames.DATA, 0, 1), ENHANCE_YOUR_CALM, id="empty data"
        ),
        pytest.param(
            lambda client: b"".join(
                client.ask(number, "", head("/test.Test/Wait")) + frame(frames.RST_STREAM, 0, number, NUMBER(8))
                for number in range(1, 10_000, 2)
            ),
            ENHANCE_YOUR_CALM, id="rapid reset",
        ),
    ],
)  # fmt: skip
async def test_a_client_that_breaks_a_rule_is_told_which_and_left(connect: Connect, breach: Breach, code: int) -> None:
    client = await connect()
    client.send(breach(client))
    assert await client.farewell() == code


@pytest.mark.parametrize(
    "fields",
    [
        [("A", "b")], [("connection", "close")], [("te", "gzip")], [(":path", "/again")], [(":status", "200")],
        [("a b", "c")], [("a", "b\nc")], [("content-length", "77")],
    ],
)  # fmt: skip
async def test_a_request_that_breaks_a_rule_is_reset_and_others_go_on(
    connect: Connect, fields: list[tuple[str, str]]
) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Echo", *fields)), client.ask(3, "x"))
    found = await client.until(lambda came: came.kind == frames.RST_STREAM)
    assert (found[-1].number, found[-1].payload) == (1, NUMBER(frames.PROTOCOL_ERROR))
    _, body, _ = await client.answer(3)
    assert text_of(body) == "x"


async def test_more_calls_at_once_than_allowed_are_refused(connect: Connect) -> None:
    client = await connect(Limits(streams=2))
    client.send(*(client.ask(number, "", head("/test.Test/Wait")) for number in (1, 3, 5)))
    found = await client.until(lambda came: came.kind == frames.RST_STREAM)
    assert (found[-1].number, found[-1].payload) == (5, NUMBER(frames.REFUSED_STREAM))


async def test_a_server_that_ends_takes_what_is_on_its_way_and_waits_for_it(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port)
    one.send(one.call(1, head()))
    one.send(PING)
    await one.until(lambda came: came.kind == frames.PING)
    ending = asyncio.create_task(server.stop(30))
    found = await one.until(lambda came: came.kind == frames.PING)
    assert frames.TWO_NUMBERS.unpack_from(found[-2].payload) == (2**31 - 1, frames.NO_ERROR)
    one.send(one.ask(3, "late"), frame(frames.PING, frames.ACK, 0, found[-1].payload))
    _, body, _ = await one.answer(3)
    assert text_of(body) == "late"
    # This one begins after the second GOAWAY.
    one.send(one.ask(5, "too late"), frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\0"))
    numbers = {came.number for came in await one.until(lambda came: came.number == 1 and came.kind == frames.HEADERS)}
    while (came := await one.frame()) is not None:
        numbers.add(came.number)
    assert 5 not in numbers
    one.writer.close()
    await ending


async def test_a_server_that_ends_at_once_says_so_to_every_call(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port)
    one.send(one.ask(1, "", head("/test.Test/Wait")), PING)
    await one.until(lambda came: came.kind == frames.PING)
    ending = asyncio.create_task(server.stop(None))
    _, _, last = await one.answer(1)
    assert last["grpc-status"] == "14"
    await ending
    one.writer.close()
    assert servicer.cancelled.is_set()


async def test_a_client_that_is_silent_is_asked_and_left(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.grpc_server.connection.BEGIN_SECONDS", 0.05)
    client = await connect(Limits(keepalive_seconds=0.05, keepalive_answer_seconds=0.05))
    await client.until(lambda came: came.kind == frames.PING)
    assert await client.frame() is None


async def test_an_old_connection_is_to_be_made_anew(connect: Connect) -> None:
    client = await connect(Limits(age_seconds=0.05))
    found = await client.until(lambda came: came.kind == frames.PING)
    client.send(frame(frames.PING, frames.ACK, 0, found[-1].payload))
    assert await client.farewell() == frames.NO_ERROR


KINDS = st.integers(0, 11)
FRAMES = st.builds(frame, KINDS, st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))
PIECES = st.lists(st.one_of(FRAMES, st.binary(max_size=30)), max_size=12)


@given(pieces=PIECES, is_begun=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_nothing_escapes_and_the_server_goes_on(
    pieces: list[bytes], is_begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        servicer = Servicer()
        server, port = await serving(servicer)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if is_begun:
            writer.write(frames.PREFACE + frame(frames.SETTINGS, 0, 0))
        for piece in pieces:
            writer.write(piece)
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        other = await client(port)
        other.send(other.ask(1, "well"))
        _, body, _ = await other.answer(1)
        assert text_of(body) == "well"
        other.writer.close()
        await server.stop(None)

    with asyncio.Runner() as runner:
        runner.run(run())
    assert "fault of the server" not in caplog.text
