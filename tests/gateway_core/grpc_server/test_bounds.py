"""What a client can make the server keep, or do, and whose metadata a call has."""

import asyncio
import gzip
import socket

import pytest

from gateway_core.grpc_server import GrpcServer, Limits, frames
from gateway_core.grpc_server.allowance import Allowance
from gateway_core.grpc_server.caller import name_of
from gateway_core.grpc_server.connection import Connection
from gateway_core.grpc_server.frames import ConnectionFault, frame
from gateway_core.grpc_server.hpack_encoder import integer
from gateway_core.grpc_server.inlet import QUEUED_AT_MOST, STREAM_WINDOW
from tests.gateway_core.grpc_server.conftest import Connect
from tests.gateway_core.grpc_server.raw import Servicer, client, head, message, serving, setting, text_of
from tests.support.upstream import reached

NUMBER = frames.NUMBER.pack
UNREAD_BYTES = 200_000
NEWEST = integer(62, 0x80, 0x7F)
"""The field that was remembered last."""


def literal(name: str, value: str, *, is_remembered: bool = False) -> bytes:
    kind, mask = (0x40, 0x3F) if is_remembered else (0, 0x0F)
    octets = [text.encode("latin-1") for text in (name, value)]
    return integer(0, kind, mask) + b"".join(integer(len(each), 0, 0x7F) + each for each in octets)


def begun(number: int, block: bytes, *, is_last: bool = False) -> bytes:
    return frames.header_frames(number, block, is_last=is_last)


def connection_of(server: GrpcServer) -> Connection:
    (connection,) = server._connections
    return connection


PLAIN = b"".join(literal(name, value) for name, value in head())
OF_ANOTHER = literal("authorization", "another", is_remembered=True)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            begun(5, PLAIN) + frame(frames.DATA, 0, 5, message("x")) + begun(5, OF_ANOTHER, is_last=True), id="trailers"
        ),
        pytest.param(begun(5, PLAIN + OF_ANOTHER + literal("z", "y" * 17_000), is_last=True), id="too large"),
        pytest.param(begun(5, PLAIN + OF_ANOTHER + literal("A", "malformed"), is_last=True), id="malformed"),
    ],
)
async def test_the_same_octets_mean_something_else_once_the_table_has_changed(
    connect: Connect, servicer: Servicer, change: bytes
) -> None:
    client = await connect()
    one = frame(frames.DATA, frames.END_STREAM, 1, message())
    client.send(begun(1, PLAIN + literal("authorization", "first", is_remembered=True)), one)
    await client.answer(1)
    for number, change_before, who in ((3, b"", "first"), (7, change, "another")):
        client.send(change_before, begun(number, PLAIN + NEWEST))
        client.send(frame(frames.DATA, frames.END_STREAM, number, message()))
        await client.answer(number)
        assert dict(servicer.contexts[-1].invocation_metadata())["authorization"] == who


async def test_many_binary_values_between_commas_are_refused_unread(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Echo", ("a-bin", "," * 3000))), client.ask(3, "on"))
    _, _, last = await client.answer(1)
    assert last["grpc-status"] == "8"


async def test_a_length_that_nothing_has_is_malformed(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Echo", ("content-length", "1" * 5000))), client.ask(3, "on"))
    (*_, reset) = await client.until(lambda came: came.kind == frames.RST_STREAM)
    assert (reset.number, reset.payload) == (1, NUMBER(frames.PROTOCOL_ERROR))
    _, body, _ = await client.answer(3)
    assert text_of(body) == "on"


async def test_too_large_fields_behind_a_request_end_its_call_alone(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Wait")), begun(1, literal("z", "y" * 17_000), is_last=True))
    (*_, reset) = await client.until(lambda came: came.kind == frames.RST_STREAM)
    assert (reset.number, reset.payload) == (1, NUMBER(frames.STREAM_CLOSED))
    client.send(client.ask(3, "on"))
    _, body, _ = await client.answer(3)
    assert text_of(body) == "on"


@pytest.mark.parametrize(
    ("value", "found"),
    [("Zo\u00eb".encode().decode("latin-1"), "Zo\u00eb"), ("Zo\u00eb", "Zo\u00eb"), ("a\tb", "a\tb")],
)
async def test_values_that_proxies_hand_on_are_taken(
    connect: Connect, servicer: Servicer, value: str, found: str
) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Echo", ("a", value))))
    _, _, last = await client.answer(1)
    assert last["grpc-status"] == "0"
    assert dict(servicer.contexts[0].invocation_metadata())["a"] == found


async def test_details_that_no_text_can_be_are_told_as_far_as_they_can(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Surrogate")))
    _, _, last = await client.answer(1)
    assert (last["grpc-status"], last["grpc-message"]) == ("5", "no ? such thing")


# ---- windows ----


async def test_a_window_for_all_streams_opens_each(connect: Connect) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 0))
    client.send(*(client.ask(number, "x" * 100, head("/test.Test/Write")) for number in (1, 3, 5)))
    sizes = b"".join(setting(frames.INITIAL_WINDOW_SIZE, size) for size in (7, 0, 65_535))
    client.send(frame(frames.SETTINGS, 0, 0, sizes))
    for number in (1, 3, 5):
        _, body, last = await client.answer(number)
        assert (body, last["grpc-status"]) == (3 * message("x" * 100), "0")


async def test_a_window_that_shrinks_below_what_was_sent_is_filled_first(connect: Connect) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 150))
    client.send(client.ask(1, "x" * 100, head("/test.Test/Write")))
    sent = 0
    while sent < 150:
        (*_, came) = await client.until(lambda came: came.kind == frames.DATA)
        sent += len(came.payload)
    client.send(frame(frames.SETTINGS, 0, 0, setting(frames.INITIAL_WINDOW_SIZE, 50)))
    client.send(frame(frames.WINDOW_UPDATE, 0, 1, NUMBER(100)), frame(frames.PING, 0, 0, b"whatever"))
    found = await client.until(lambda came: came.kind == frames.PING)
    assert not [came for came in found if came.kind == frames.DATA]
    client.send(frame(frames.WINDOW_UPDATE, 0, 1, NUMBER(10_000)))
    _, body, _ = await client.answer(1)
    assert sent + len(body) == 3 * len(message("x" * 100))


async def test_streams_share_a_window_that_is_too_small_for_all(connect: Connect) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 1 << 20))
    bodies = dict.fromkeys(range(1, 20, 2), 0)
    client.send(*(client.ask(number, "x" * 10_000, head("/test.Test/Write")) for number in bodies))
    ended: set[int] = set()
    while len(ended) < len(bodies):
        came = await client.frame()
        assert came is not None
        if came.kind == frames.DATA:
            bodies[came.number] += len(came.payload)
            client.send(frame(frames.WINDOW_UPDATE, 0, 0, NUMBER(len(came.payload))))
        elif came.kind == frames.HEADERS and came.flags & frames.END_STREAM:
            ended.add(came.number)
    assert set(bodies.values()) == {3 * len(message("x" * 10_000))}


async def test_calls_that_ended_wait_for_no_window_any_more(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port, setting(frames.INITIAL_WINDOW_SIZE, 0))
    fields = head("/test.Test/Repeat", ("grpc-timeout", "30m"))
    one.send(*(one.ask(number, "x", fields) for number in range(1, 100, 2)))
    for number in range(1, 100, 2):
        _, _, last = await one.answer(number)
        assert last["grpc-status"] == "4"
    connection = connection_of(server)
    await reached(lambda: not connection.calls.tasks)
    assert not connection._wire._waiting
    assert not connection.calls.streams
    one.writer.close()
    await server.stop(None)


async def test_every_call_ends_at_its_own_deadline(connect: Connect) -> None:
    client = await connect()
    waits = {number: 20 + 3 * number for number in range(1, 60, 2)}
    for number, milliseconds in waits.items():
        client.send(client.ask(number, "", head("/test.Test/Wait", ("grpc-timeout", f"{200 - milliseconds}m"))))
    order = []
    for _ in waits:
        (*_, came) = await client.until(lambda came: came.kind == frames.HEADERS)
        assert came.fields["grpc-status"] == "4"
        order.append(came.number)
    assert order == sorted(waits, reverse=True)


# ---- what is kept ----


async def test_a_client_that_reads_nothing_is_left_before_it_costs_much(
    servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.grpc_server.wire.UNREAD_BYTES_AT_MOST", UNREAD_BYTES)
    server, port = await serving(servicer)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(plain.connect, ("127.0.0.1", port))
        plain.settimeout(10)
        await reached(lambda: bool(server._connections))
        connection = connection_of(server)
        most = 0
        block = PLAIN.replace(b"Echo", b"None") + literal("x", "y")
        calls = (
            b"".join(begun(number + 2 * i, block, is_last=True) for i in range(500)) for number in range(1, 10**6, 1000)
        )

        def flood() -> None:
            plain.sendall(frames.PREFACE + frame(frames.SETTINGS, 0, 0))
            for piece in calls:
                plain.sendall(piece)

        flooding = asyncio.create_task(asyncio.to_thread(flood))
        while not flooding.done():
            if connection._transport is not None:
                most = max(most, connection._transport.get_write_buffer_size())
            await asyncio.sleep(0.001)
        with pytest.raises(OSError):  # noqa: PT011  # reset, or a broken pipe
            await flooding
        assert 0 < most < 4 * UNREAD_BYTES
    await server.stop(None)


async def test_messages_that_nobody_reads_are_few_and_counted(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port, setting(frames.INITIAL_WINDOW_SIZE, 0))
    fields = head("/test.Test/Chat", ("grpc-encoding", "gzip"))
    packed = gzip.compress(message("x" * 100_000)[5:])
    data = b"\1" + len(packed).to_bytes(4, "big") + packed
    # The answer to the first waits for a window, and so do those behind it.
    one.send(one.call(1, fields), *(frame(frames.DATA, 0, 1, data) for _ in range(2 * QUEUED_AT_MOST)))
    big = message("x" * 15_000)
    one.send(*(frame(frames.DATA, 0, 1, big) for _ in range(12)), frame(frames.PING, 0, 0, b"whatever"))
    found = await one.until(lambda came: came.kind == frames.PING)
    assert not [came for came in found if came.kind == frames.WINDOW_UPDATE and came.number == 1]
    calls = connection_of(server).calls
    (stream,) = calls.streams.values()
    assert calls._held == stream._queued < STREAM_WINDOW
    one.send(frame(frames.RST_STREAM, 0, 1, NUMBER(frames.CANCEL)))
    await reached(lambda: not calls.streams)
    assert calls._held == 0
    one.writer.close()
    await server.stop(None)


async def test_a_message_that_cannot_be_unpacked_where_it_is_read_ends_the_call(connect: Connect) -> None:
    client = await connect()
    client.send(client.call(1, head("/test.Test/Chat", ("grpc-encoding", "gzip"))))
    client.send(frame(frames.DATA, 0, 1, b"\1\0\0\0\1x"))
    _, _, last = await client.answer(1)
    assert last["grpc-status"] == "13"


async def test_what_unpacks_to_a_hundred_times_its_size_is_refused(connect: Connect) -> None:
    client = await connect(Limits(message_bytes=64 << 20))
    packed = gzip.compress(bytes(32 << 20))
    data = b"\1" + len(packed).to_bytes(4, "big") + packed
    client.send(client.call(1, head("/test.Test/Echo", ("grpc-encoding", "gzip"))))
    client.send(*(frame(frames.DATA, 0, 1, data[at : at + 16_000]) for at in range(0, len(data), 16_000)))
    _, _, last = await client.answer(1)
    assert last["grpc-status"] == "8"


async def test_who_has_heard_something_may_leave_as_often_as_it_likes(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.grpc_server.calls.RESETS", 10)
    client = await connect(Limits(streams=5), setting(frames.INITIAL_WINDOW_SIZE, 0))
    for number in range(1, 60, 2):
        client.send(client.ask(number, "x", head("/test.Test/Repeat")))
        await client.until(lambda came: came.kind == frames.HEADERS)
        client.send(frame(frames.RST_STREAM, 0, number, NUMBER(frames.CANCEL)))
    client.send(*(client.ask(n, "", head("/test.Test/Wait")) + frame(3, 0, n, NUMBER(8)) for n in range(61, 90, 2)))
    assert await client.farewell() == frames.ENHANCE_YOUR_CALM


def test_what_costs_more_counts_more() -> None:
    allowance = Allowance(lambda: 0.0, 100, "too many")
    allowance.spend(0, 99)
    with pytest.raises(ConnectionFault):
        allowance.spend(0, 2)


async def test_messages_of_a_stream_that_leave_together_are_one_frame(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "ab", head("/test.Test/Repeat")))
    found = await client.until(lambda came: came.number == 1 and bool(came.flags & frames.END_STREAM))
    pieces = [came.payload for came in found if came.kind == frames.DATA]
    assert b"".join(pieces) == 100 * message("ab")
    assert len(pieces) == 1


async def test_small_frames_leave_at_once(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port)
    await reached(lambda: bool(server._connections))
    transport = connection_of(server)._transport
    assert transport is not None
    assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    one.writer.close()
    await server.stop(None)


# ---- the end ----


async def test_a_client_that_reads_slowly_has_its_whole_answer_as_the_server_ends(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    size = 1_000_000
    one = await client(port, setting(frames.INITIAL_WINDOW_SIZE, 1 << 30))
    one.send(frame(frames.WINDOW_UPDATE, 0, 0, NUMBER(1 << 30)), one.call(1, head()))
    one.send(*(frame(frames.DATA, 0, 1, message("x" * size)[at : at + 16_000]) for at in range(0, 160_000, 16_000)))
    await reached(lambda: bool(server._connections))
    ending = asyncio.create_task(server.stop(20))
    (*_, ping) = await one.until(lambda came: came.kind == frames.PING)
    one.send(frame(frames.PING, frames.ACK, 0, ping.payload))
    rest = message("x" * size)
    for at in range(160_000, len(rest), 16_000):
        one.send(frame(frames.DATA, int(at + 16_000 >= len(rest)), 1, rest[at : at + 16_000]))
        await one.writer.drain()
    received = 0
    last = None
    while last is None:
        came = await one.frame()
        assert came is not None, f"cut behind {received} octets"
        if came.kind == frames.DATA:
            received += len(came.payload)
            one.send(frame(frames.WINDOW_UPDATE, 0, 0, NUMBER(max(1, len(came.payload)))))
        elif came.kind == frames.HEADERS and came.flags & frames.END_STREAM:
            last = came.fields
    assert (received, last["grpc-status"]) == (len(rest), "0")
    one.writer.close()
    await ending


async def test_a_server_that_ends_does_not_wait_for_calls_that_were_taken_back(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port)
    one.send(one.ask(1, "", head("/test.Test/Wait")))
    await reached(lambda: bool(servicer.contexts))
    ending = asyncio.create_task(server.stop(30))
    (*_, ping) = await one.until(lambda came: came.kind == frames.PING)
    one.send(frame(frames.PING, frames.ACK, 0, ping.payload))
    await one.until(lambda came: came.kind == frames.GOAWAY)
    # Of a call that was begun too late nothing is taken, its end neither.
    one.send(one.call(3, head()), begun(3, literal("late", "1"), is_last=True))
    one.send(frame(frames.RST_STREAM, 0, 1, NUMBER(frames.CANCEL)))
    assert await one.frame() is None
    one.writer.close()
    async with asyncio.timeout(10):
        await ending


async def test_what_is_on_its_way_behind_a_deadline_is_no_fault(connect: Connect) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 0))
    # Answered and not taken, while the request is not over.
    client.send(
        client.call(1, head("/test.Test/Chat", ("grpc-timeout", "50m"))), frame(frames.DATA, 0, 1, message("a"))
    )
    (*_, last) = await client.until(
        lambda came: (
            came.number == 1
            and came.kind in (frames.HEADERS, frames.RST_STREAM)
            and (came.kind == frames.RST_STREAM or bool(came.flags & frames.END_STREAM))
        )
    )
    assert last.number == 1
    client.send(frame(frames.DATA, 0, 1, message("b")), begun(1, literal("late", "1"), is_last=True))
    client.send(frame(frames.SETTINGS, 0, 0, setting(frames.INITIAL_WINDOW_SIZE, 1000)), client.ask(3, "on"))
    _, body, _ = await client.answer(3)
    assert text_of(body) == "on"


async def test_a_servicer_that_waits_to_write_is_woken_by_the_end(connect: Connect, servicer: Servicer) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 0))
    client.send(client.ask(1, "x", head("/test.Test/Aside", ("grpc-timeout", "50m"))))
    await client.until(lambda came: came.number == 1 and bool(came.flags & frames.END_STREAM))
    await asyncio.wait_for(servicer.woken.wait(), 10)


async def test_who_comes_as_the_server_ends_is_left(servicer: Servicer) -> None:
    server, port = await serving(servicer)
    one = await client(port)
    one.send(one.ask(1, "", head("/test.Test/Wait")))
    await reached(lambda: bool(servicer.contexts))
    ending = asyncio.create_task(server.stop(0.2))
    await asyncio.sleep(0)
    late = server._connection()
    reader, writer = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: late, writer)
    reader.settimeout(10)
    assert await asyncio.to_thread(reader.recv, 100) == b""
    reader.close()
    await ending
    one.writer.close()


def test_nobody_is_taken_for_a_neighbour_who_has_no_name() -> None:
    assert [name_of(address) for address in ("", b"\0abstract", None, ("::1", 5, 0, 0))] == [
        "unix:",
        "unix:",
        "",
        "ipv6:%5B::1%5D:5",
    ]
