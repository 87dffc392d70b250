"""Tests of the decoder of content encodings."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.upstream.encoding import PIECE_BYTES, Decoder

DATA = b"data: {}\n\n" * 50

ENCODED = {
    "gzip": gzip.compress(DATA),
    "x-gzip": gzip.compress(DATA),
    "GZIP": gzip.compress(DATA[:100]) + gzip.compress(DATA[100:]) + bytes(9),
    "deflate": zlib.compress(DATA),
    " deflate ": zlib.compress(DATA, wbits=-15),
}


def decoded(encoding: str, *received: bytes) -> bytes:
    decoder = Decoder(encoding)
    pieces = []
    for data in received:
        decoder.feed(data)
        while piece := decoder.piece():
            assert len(piece) <= PIECE_BYTES
            pieces.append(piece)
    decoder.finish()
    return b"".join(pieces)


@pytest.mark.parametrize(("encoding", "data"), ENCODED.items(), ids=ENCODED.keys())
def test_every_encoding_is_decoded_wherever_it_is_cut(encoding: str, data: bytes) -> None:
    assert decoded(encoding, *(data[at : at + 1] for at in range(len(data)))) == DATA
    for at in range(len(data) + 1):
        assert decoded(encoding, data[:at], b"", data[at:]) == DATA


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_encoding_that_is_cut_off_is_refused(encoding: str) -> None:
    data = ENCODED[encoding]
    for at in range(1, len(data)):
        with pytest.raises(ValueError, match="ends before"):
            decoded(encoding, data[:at])
    assert decoded(encoding) == b""


@pytest.mark.parametrize(("encoding", "data"), [("gzip", b"plain"), ("deflate", b"\xff"), ("br", b"x"), ("", b"x")])
def test_what_is_not_in_the_encoding_is_refused(encoding: str, data: bytes) -> None:
    with pytest.raises(ValueError, match="encod"):
        decoded(encoding, data)


@given(st.integers(0, 4), st.integers(-300, 300), st.sampled_from([b"\0", b"ab", bytes(range(256))]))
def test_data_around_the_bound_of_a_piece_is_decoded_whole(pieces: int, more: int, pattern: bytes) -> None:
    size = max(0, pieces * PIECE_BYTES + more)
    data = (pattern * size)[:size]
    assert decoded("gzip", gzip.compress(data)) == data
