"""HPACK: the examples of RFC 7541, Appendix C, and whatever else can be said."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.grpc_server import huffman
from gateway_core.grpc_server.hpack_decoder import Decoder, TooLarge, Undecodable, integer
from gateway_core.grpc_server.hpack_encoder import Encoder
from gateway_core.grpc_server.hpack_encoder import integer as integer_octets
from gateway_core.grpc_server.hpack_table import Field, size

HOST = (":authority", "www.example.com")
GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"), HOST)

TEXTS = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=60)
FIELDS = st.lists(st.tuples(st.sampled_from(["grpc-status", "content-type", "a", "b", "c-bin"]), TEXTS), max_size=12)


@pytest.mark.parametrize(
    "blocks",
    [
        ("828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865"),
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf"),
    ],
)
def test_requests_of_the_rfc_are_read_with_and_without_huffmans_code(blocks: tuple[str, str]) -> None:
    decoder = Decoder(1000)
    assert tuple(decoder.fields(bytes.fromhex(blocks[0]))) == GET
    assert tuple(decoder.fields(bytes.fromhex(blocks[1]))) == (*GET, ("cache-control", "no-cache"))


@pytest.mark.parametrize(
    "block",
    [
        "80", "bf", "ff808080808001", "40", "4001", "400161", "40016105", "8220", "3fe21f",
        "4001610184ffffffff", "400161827fff", "00",
    ],
)  # fmt: skip
def test_a_block_that_is_none_is_refused(block: str) -> None:
    with pytest.raises(Undecodable):
        Decoder(1000).fields(bytes.fromhex(block))


def test_fields_that_are_too_many_leave_the_table_as_the_client_thinks_it_is() -> None:
    encoder, decoder = Encoder(), Decoder(100)
    with pytest.raises(TooLarge):
        decoder.fields(encoder.block([("a", "x" * 60), ("b", "y" * 60)]))
    assert decoder.fields(encoder.block([("b", "y" * 60)])) == [("b", "y" * 60)]


def test_one_field_told_over_and_over_does_not_fill_the_memory() -> None:
    decoder = Decoder(10_000)
    decoder.fields(Encoder().block([("a", "x" * 200)]))
    with pytest.raises(TooLarge):
        decoder.fields(b"\xbe" * 30_000)


@given(blocks=st.lists(st.one_of(FIELDS, st.integers(0, 5000)), max_size=20))
def test_what_the_encoder_writes_is_what_a_decoder_reads(blocks: list[list[Field] | int]) -> None:
    encoder, decoder = Encoder(), Decoder(1 << 20)
    most = 4096
    for fields in blocks:
        if isinstance(fields, int):
            encoder.resize(fields)
            most = min(fields, 4096)
        else:
            assert decoder.fields(encoder.block(fields)) == fields
            assert sum(size(decoder.table[62 + place]) for place in range(len(decoder.table))) <= most


@given(octets=st.binary(max_size=80))
def test_any_block_is_read_or_refused(octets: bytes) -> None:
    with suppress(Undecodable, TooLarge):
        Decoder(1000).fields(octets)


@given(number=st.integers(0, 1 << 31), mask=st.sampled_from([0x7F, 0x3F, 0x1F, 0x0F]))
def test_integers_are_read_as_they_are_written(number: int, mask: int) -> None:
    octets = integer_octets(number, 0, mask)
    assert integer(octets, 0, mask) == (number, len(octets))


def test_each_octet_has_its_code() -> None:
    codes, code, last = {}, 0, 0
    for octet in sorted(range(257), key=lambda octet: (huffman.LENGTHS[octet], octet)):
        code <<= huffman.LENGTHS[octet] - last
        last = huffman.LENGTHS[octet]
        codes[octet] = f"{code:0{last}b}"
        code += 1
    assert codes[256] == "1" * 30
    for octet in range(256):
        bits = codes[octet] * 3
        bits += "1" * (-len(bits) % 8)
        assert huffman.decoded(int(bits, 2).to_bytes(len(bits) // 8, "big")) == bytes((octet,)) * 3
