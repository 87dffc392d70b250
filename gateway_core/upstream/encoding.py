"""Decodes the content encodings that providers are asked for, a bounded piece at a time."""

import zlib

ACCEPTED = "gzip, deflate"

# A few bytes can decode to gigabytes: no more than this is decoded before it is asked for.
PIECE_BYTES = 64 * 1024

# zlib's window bits (zlib.h, inflateInit2) for the values of Content-Encoding.
FORMATS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
RAW = -zlib.MAX_WBITS  # what some hosts send as deflate, against RFC 9110, 8.4.1.2


class Decoder:
    """Feed it what arrives, take pieces until there is none. Whatever is wrong raises ValueError."""

    def __init__(self, encoding: str) -> None:
        """Takes the value of Content-Encoding."""
        self._format = FORMATS.get(encoding.strip().lower())
        self._inflater: zlib._Decompress | None = None
        self._waiting = b""
        self._is_between = False
        self._has_more = False  # zlib may hold output of bytes that it has taken

    def feed(self, data: bytes) -> None:
        """Takes encoded bytes."""
        # Between the members of a body there may be padding (RFC 1952, 2.2).
        self._waiting = data.lstrip(b"\0") if self._is_between else self._waiting + data

    def piece(self) -> bytes:
        """The next decoded bytes; empty where more encoded ones are needed."""
        piece = b""
        while not piece and (self._waiting or self._has_more):
            if self._inflater is None:
                self._is_between = False
                self._inflater = zlib.decompressobj(self._window_bits())
            try:
                piece = self._inflater.decompress(self._waiting, PIECE_BYTES)
            except zlib.error:
                raise ValueError("the body is not encoded as it says") from None
            self._has_more = len(piece) == PIECE_BYTES and not self._inflater.eof
            self._waiting = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._waiting = self._inflater.unused_data.lstrip(b"\0")
                self._inflater = None
                self._is_between = not self._waiting
        return piece

    def finish(self) -> None:
        """Tells that nothing more arrives."""
        if self._inflater is not None:
            raise ValueError("the body ends before its encoding does")

    def _window_bits(self) -> int:
        if self._format is None:
            raise ValueError("the encoding is not one that was asked for")
        is_raw = self._format == zlib.MAX_WBITS and self._waiting[0] & 0x0F != 8
        return RAW if is_raw else self._format
