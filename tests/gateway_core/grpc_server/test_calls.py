"""Calls, octet by octet: what gRPC over HTTP/2 says of requests and answers."""

import base64
import gzip

import pytest

from gateway_core.grpc_server import Limits, frames
from gateway_core.grpc_server.frames import frame
from tests.gateway_core.grpc_server.conftest import Connect
from tests.gateway_core.grpc_server.raw import Servicer, head, message, setting, text_of

PING = frame(frames.PING, 0, 0, b"whatever")


async def test_a_call_whose_octets_arrive_one_by_one_is_answered(connect: Connect) -> None:
    client = await connect()
    for octet in client.ask(1, "one by one") + client.ask(3, "again"):
        client.send(bytes((octet,)))
        await client.writer.drain()
    for number, text in ((1, "one by one"), (3, "again")):
        first, body, last = await client.answer(number)
        assert (first[":status"], text_of(body), last["grpc-status"]) == ("200", text, "0")


async def test_calls_in_one_piece_are_all_answered(connect: Connect) -> None:
    client = await connect()
    client.send(*(client.ask(number, str(number)) for number in range(1, 200, 2)))
    for number in range(1, 200, 2):
        _, body, _ = await client.answer(number)
        assert text_of(body) == str(number)


async def test_messages_of_a_streamed_request_are_answered_one_by_one(connect: Connect) -> None:
    client = await connect()
    client.send(client.call(1, head("/test.Test/Chat")))
    for text in ("a", "b"):
        client.send(frame(frames.DATA, 0, 1, message(text)[:3]), frame(frames.DATA, 0, 1, message(text)[3:]))
        (*_, came) = await client.until(lambda came: came.kind == frames.DATA)
        assert text_of(came.payload) == text
    client.send(frame(frames.DATA, frames.END_STREAM, 1))
    (*_, came) = await client.until(lambda came: came.kind == frames.HEADERS)
    assert came.flags & frames.END_STREAM


async def test_a_servicer_may_write_its_stream(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "x", head("/test.Test/Write")))
    _, body, last = await client.answer(1)
    assert (body, last["grpc-status"]) == (3 * message("x"), "0")


async def test_metadata_arrive_in_both_their_kinds(connect: Connect, servicer: Servicer) -> None:
    client = await connect()
    octets = base64.b64encode(b"\0\xff").decode().rstrip("=")
    client.send(client.ask(1, "", head("/test.Test/Echo", ("a", "b c"), ("c-bin", f"{octets},{octets}=="))))
    await client.answer(1)
    assert servicer.contexts[0].invocation_metadata() == (("a", "b c"), ("c-bin", b"\0\xff"), ("c-bin", b"\0\xff"))


async def test_a_client_that_takes_back_its_call_cancels_the_servicer(connect: Connect, servicer: Servicer) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Wait")), PING)
    await client.until(lambda came: came.kind == frames.PING)
    client.send(frame(frames.RST_STREAM, 0, 1, frames.NUMBER.pack(frames.CANCEL)))
    await servicer.cancelled.wait()
    assert servicer.contexts[0].cancelled()


async def test_the_server_keeps_the_deadline_itself(connect: Connect, servicer: Servicer) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Wait", ("grpc-timeout", "50m"))))
    first, body, last = await client.answer(1)
    assert (first, body, last["grpc-status"]) == (last, b"", "4")
    await servicer.cancelled.wait()


async def test_a_compressed_request_is_read(connect: Connect) -> None:
    client = await connect()
    packed = gzip.compress(message("packed")[5:])
    data = b"\1" + len(packed).to_bytes(4, "big") + packed
    client.send(client.call(1, head("/test.Test/Echo", ("grpc-encoding", "gzip"))))
    client.send(frame(frames.DATA, frames.END_STREAM, 1, data))
    _, body, _ = await client.answer(1)
    assert text_of(body) == "packed"


@pytest.mark.parametrize(
    ("fields", "data", "status"),
    [
        ([], message("x" * 2000), "8"),
        ([], b"\0\xff\xff\xff\xff", "8"),
        ([("grpc-encoding", "gzip")], b"\1" + (len(p := gzip.compress(b"x" * 100_000))).to_bytes(4, "big") + p, "8"),
        ([("grpc-encoding", "gzip")], b"\1\0\0\0\1x", "13"),
        ([("grpc-encoding", "snappy")], b"\1\0\0\0\1x", "12"),
        ([], b"\1\0\0\0\1x", "13"),
        ([], b"\2\0\0\0\1x", "13"),
        ([], b"\0\0\0\0\2x", "13"),
        ([], b"", "12"),
        ([], message("x") + message("x"), "12"),
        ([], b"\0\0\0\0\2\xff\xff", "13"),
        ([("grpc-timeout", "soon")], message("x"), "13"),
        ([("a-bin", "???")], message("x"), "13"),
        ([("a", "x" * 70_000)], message("x"), "8"),
    ],
)
async def test_what_cannot_be_a_request_is_refused_with_a_status(
    connect: Connect, fields: list[tuple[str, str]], data: bytes, status: str
) -> None:
    client = await connect(Limits(message_bytes=1000, header_bytes=64_000))
    block = client.encoder.block(head("/test.Test/Echo", *fields))
    client.send(frames.header_frames(1, block, is_last=False), frame(frames.DATA, frames.END_STREAM, 1, data))
    _, _, last = await client.answer(1)
    assert last["grpc-status"] == status
    client.send(client.ask(3, "still here"))
    _, body, _ = await client.answer(3)
    assert text_of(body) == "still here"


@pytest.mark.parametrize(
    ("changed", "status"), [((":method", "GET"), "405"), (("content-type", "application/json"), "415")]
)
async def test_what_is_no_grpc_is_answered_in_http(connect: Connect, changed: tuple[str, str], status: str) -> None:
    client = await connect()
    fields = [changed if name == changed[0] else (name, value) for name, value in head()]
    client.send(client.ask(1, "", fields))
    first, body, _ = await client.answer(1)
    assert first[":status"] == status
    assert b"gRPC" in body


async def test_a_method_that_there_is_not_is_unimplemented(connect: Connect) -> None:
    client = await connect()
    client.send(client.ask(1, "", head("/test.Test/Other")))
    first, _, _ = await client.answer(1)
    assert first["grpc-status"] == "12"


async def test_a_slow_reader_holds_its_own_stream_only(connect: Connect, servicer: Servicer) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 100))
    client.send(client.ask(1, "x" * 30, head("/test.Test/Repeat")), client.ask(3, "short"))
    _, body, _ = await client.answer(3)
    assert text_of(body) == "short"
    assert servicer.written <= 3
    client.send(frame(frames.WINDOW_UPDATE, 0, 1, frames.NUMBER.pack(1 << 20)))
    found = await client.until(lambda came: came.number == 1 and bool(came.flags & frames.END_STREAM))
    assert servicer.written == 100
    rest = sum(len(came.payload) for came in found if came.kind == frames.DATA and came.number == 1)
    assert rest == 100 * len(message("x" * 30)) - 100


async def test_an_answer_larger_than_the_windows_comes_in_pieces(connect: Connect) -> None:
    client = await connect(settings=setting(frames.INITIAL_WINDOW_SIZE, 10))
    data = message("x" * 60_000)
    pieces = [data[start : start + 16_000] for start in range(0, len(data), 16_000)]
    client.send(client.call(1, head()))
    for place, piece in enumerate(pieces, 1):
        client.send(frame(frames.DATA, int(place == len(pieces)), 1, piece))
    (*_, came) = await client.until(lambda came: came.kind == frames.DATA)
    assert len(came.payload) == 10
    client.send(frame(frames.SETTINGS, 0, 0, setting(frames.INITIAL_WINDOW_SIZE, 1 << 20)))
    ended = await client.until(lambda came: bool(came.flags & 1) and came.kind == frames.HEADERS)
    assert came.payload + b"".join(each.payload for each in ended if each.kind == frames.DATA) == data


async def test_a_client_with_no_table_for_fields_understands_the_answers(connect: Connect) -> None:
    client = await connect(settings=setting(frames.HEADER_TABLE_SIZE, 0))
    client.send(PING)
    await client.until(lambda came: came.kind == frames.PING)
    for number in (1, 3):
        client.send(client.ask(number, "x"))
        first, _, last = await client.answer(number)
        assert (first["content-type"], last["grpc-status"]) == ("application/grpc", "0")
    assert len(client.decoder.table) == 0
