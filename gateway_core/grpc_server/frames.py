"""The frames of HTTP/2 (RFC 9113): their layout, and what is wrong with some."""

import struct
from typing import Final

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
FRAME_BYTES: Final = 16_384
"""Payload of a frame, at most: the least that is allowed, which is what this side asks for."""
WINDOW_BYTES: Final = 65_535
WINDOW_AT_MOST: Final = 2**31 - 1

HEAD = struct.Struct(">IBI")
"""Length in the upper 24 bits of the first and kind in the rest, flags, stream."""
MESSAGE = struct.Struct(">IBIBI")
"""The same, and what gRPC has before a message: whether it is compressed, and its length."""
PREFIX = struct.Struct(">BI")
"""What gRPC has before a message alone."""
SETTING = struct.Struct(">HI")
NUMBER = struct.Struct(">I")
TWO_NUMBERS = struct.Struct(">II")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB


class ConnectionFault(Exception):
    """The client broke a rule: the connection ends, with a GOAWAY that says which."""

    def __init__(self, code: int, words: str) -> None:
        """Takes the error code and what it is about."""
        super().__init__(words)
        self.code = code
        self.words = words


class StreamFault(Exception):
    """The client broke a rule: one stream ends, with an RST_STREAM."""

    def __init__(self, number: int, code: int) -> None:
        """Takes the stream and the error code."""
        super().__init__(number, code)
        self.number = number
        self.code = code


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, number) + payload


def goaway(last: int, code: int, words: str = "") -> bytes:
    """The frame that takes leave, with the last stream that is answered."""
    return frame(GOAWAY, 0, 0, TWO_NUMBERS.pack(last, code) + words.encode())


def header_frames(number: int, block: bytes, *, is_last: bool) -> bytes:
    """A block, in as many frames as it takes."""
    flags = END_STREAM if is_last else 0
    if len(block) <= FRAME_BYTES:
        return HEAD.pack(len(block) << 8 | HEADERS, flags | END_HEADERS, number) + block
    pieces = [block[start : start + FRAME_BYTES] for start in range(0, len(block), FRAME_BYTES)]
    frames = [frame(CONTINUATION, 0, number, piece) for piece in pieces[1:-1]]
    return b"".join(
        (frame(HEADERS, flags, number, pieces[0]), *frames, frame(CONTINUATION, END_HEADERS, number, pieces[-1]))
    )
