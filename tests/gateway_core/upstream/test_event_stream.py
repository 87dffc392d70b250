"""AWS's binary event stream: cut anywhere it is the same, damaged anywhere it is refused."""

import json
from itertools import accumulate
from struct import pack
from zlib import crc32

import pytest

from gateway_core.errors import ProviderBroken
from gateway_core.upstream.event_stream import Message, MessageReader
from tests.support.event_stream import encoded, event, exception

MESSAGES = [
    event("messageStart", {"role": "assistant"}),
    event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Grüße 😀"}, "p": "abcdef"}),
    exception("throttlingException", {"message": "Slow down."}),
    encoded({}, b""),
]
STREAM = b"".join(MESSAGES)


def reader(limit: int = 1 << 20) -> MessageReader:
    return MessageReader(limit, "lab")


def read(*pieces: bytes) -> list[Message]:
    found = reader()
    return [message for piece in pieces for message in found.feed(piece)] + found.finish()


EXPECTED = read(STREAM)


def test_messages_have_their_headers_and_their_payload() -> None:
    assert [message.headers.get(":message-type") for message in EXPECTED] == ["event", "event", "exception", None]
    assert EXPECTED[1].headers == {
        ":event-type": "contentBlockDelta", ":content-type": "application/json", ":message-type": "event",
    }  # fmt: skip
    assert json.loads(EXPECTED[1].payload)["delta"] == {"text": "Grüße 😀"}
    assert EXPECTED[2].headers[":exception-type"] == "throttlingException"
    assert EXPECTED[3] == ({}, b"")


def test_headers_that_are_no_text_are_passed_over() -> None:
    every_type = b"".join(
        pack(">B", 1) + name + value
        for name, value in [
            (b"a", b"\x00"), (b"b", b"\x01"), (b"c", b"\x02\x7f"), (b"d", b"\x03\x00\x01"), (b"e", b"\x04" + bytes(4)),
            (b"f", b"\x05" + bytes(8)), (b"g", b"\x06\x00\x02hi"), (b"h", b"\x07\x00\x02hi"), (b"i", b"\x08" + bytes(8)),
            (b"j", b"\x09" + bytes(16)), (b"k", b"\x07\x00\x00"),
        ]
    )  # fmt: skip
    prelude = pack(">II", 16 + len(every_type), len(every_type))
    data = prelude + pack(">I", crc32(prelude)) + every_type
    assert read(data + pack(">I", crc32(data))) == [({"h": "hi", "k": ""}, b"")]


def test_a_stream_cut_anywhere_gives_the_same_messages() -> None:
    for position in range(len(STREAM) + 1):
        assert read(STREAM[:position], STREAM[position:]) == EXPECTED, position
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EXPECTED


def test_a_message_comes_as_soon_as_it_is_whole() -> None:
    first = event("messageStart", {"role": "assistant"})
    found = reader()
    assert found.feed(first[:-1]) == []
    assert len(found.feed(first[-1:] + first[:20])) == 1


def test_what_the_end_of_a_stream_cuts_off_is_no_message() -> None:
    ends = [len(part) for part in accumulate(MESSAGES)]
    for position in range(len(STREAM)):
        assert read(STREAM[:position]) == EXPECTED[: sum(end <= position for end in ends)]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_stream_with_one_byte_wrong_is_broken_wherever_that_is(flip: int) -> None:
    for position in range(len(STREAM)):
        damaged = bytearray(STREAM)
        damaged[position] ^= flip
        with pytest.raises(ProviderBroken):
            read(bytes(damaged))
        with pytest.raises(ProviderBroken):
            read(*(bytes(damaged[at : at + 1]) for at in range(len(damaged))))


@pytest.mark.parametrize(
    "block",
    [b"\x01", b"\x05:a\x07\x00\x01b", b"\x01a\x0a", b"\x01a\x07\x00\x09b", b"\x01a\x07\x00", b"\x01\xff\x07\x00\x00",
     b"\x01a\x07\x00\x01\xff"],
)  # fmt: skip
def test_headers_that_make_no_sense_are_broken_although_the_checksums_fit(block: bytes) -> None:
    prelude = pack(">II", 16 + len(block), len(block))
    data = prelude + pack(">I", crc32(prelude)) + block
    with pytest.raises(ProviderBroken):
        read(data + pack(">I", crc32(data)))


@pytest.mark.parametrize(("size", "headers_size"), [(15, 0), (0, 0), (20, 8), (16, 0xFFFFFFFF)])
def test_sizes_that_cannot_be_are_broken_at_once(size: int, headers_size: int) -> None:
    prelude = pack(">II", size, headers_size)
    with pytest.raises(ProviderBroken):
        reader().feed(prelude + pack(">I", crc32(prelude)))


def test_a_message_over_the_limit_is_refused_before_it_has_come() -> None:
    large = encoded({}, bytes(1000))
    assert len(reader(len(large)).feed(large)) == 1
    with pytest.raises(ProviderBroken, match="more than the 1015 bytes"):
        reader(len(large) - 1).feed(large[:12])
