"""Frames out of octets as they come: their layout is checked here, and header blocks are put together."""

from typing import Protocol

from gateway_core.grpc_server import frames
from gateway_core.grpc_server.frames import (
    FRAME_SIZE_ERROR,
    HEAD,
    HEAD_BYTES,
    NUMBER,
    PREFACE,
    PROTOCOL_ERROR,
    ConnectionFault,
    StreamFault,
)
from gateway_core.grpc_server.http1 import SpokeHttp1, is_http1, may_be_http1

NUMBER_MASK = 0x7FFFFFFF
PRIORITY_BYTES = 5
# Of frames whose length is fixed: what each must have, and whether another ends the connection or the stream.
LENGTHS = {frames.PRIORITY: 5, frames.RST_STREAM: 4, frames.PING: 8, frames.WINDOW_UPDATE: 4}
ON_STREAMS = frozenset({frames.DATA, frames.HEADERS, frames.PRIORITY, frames.RST_STREAM, frames.CONTINUATION})
ON_CONNECTIONS = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})


class Receiver(Protocol):
    """Who hears of frames; may raise ConnectionFault and StreamFault."""

    def preface_came(self) -> None:
        """The client speaks HTTP/2; told more than once where it comes in pieces."""

    def headers_came(self, number: int, block: bytes, *, is_last: bool) -> None:
        """A whole block of header fields."""

    def data_came(self, number: int, data: bytes, size: int, *, is_last: bool) -> None:
        """A piece of a body, which counts so many bytes with its padding."""

    def reset_came(self, number: int) -> None:
        """The client wants no more of a stream."""

    def settings_came(self, settings: list[tuple[int, int]]) -> None:
        """The client says what it takes."""

    def ping_came(self, payload: bytes, *, is_answer: bool) -> None:
        """A ping, or the answer to one."""

    def window_came(self, number: int, more: int) -> None:
        """The client takes more, on a stream or (0) on all together."""

    def idle_came(self, number: int) -> None:
        """A frame that says nothing that matters here."""

    def stream_broken(self, fault: StreamFault) -> None:
        """A frame broke a rule that concerns its stream only."""


class FrameReader:
    """What one client sends."""

    def __init__(self, receiver: Receiver, block_bytes: int) -> None:
        """Takes who hears of frames, and how long a header block may be."""
        self._receiver = receiver
        self._block_bytes = block_bytes
        self._held = bytearray()
        self._needed = len(PREFACE)
        """Octets that must be there before there is anything to do."""
        self._block: bytearray | None = None
        self._block_head = (0, False)
        self.has_begun = False
        """Whether the preface is there, and the settings that must follow it."""

    def feed(self, data: bytes) -> None:
        """Takes a piece; raises ConnectionFault, after which nothing may be fed any more."""
        held = self._held
        if held:
            held += data
            if len(held) < self._needed:
                return
            data = bytes(held)
            held.clear()
        if not self.has_begun:
            data = self._begun(data)
        position, end = 0, len(data)
        unpack = HEAD.unpack_from
        while end - position >= HEAD_BYTES:
            word, flags, number = unpack(data, position)
            start = position + HEAD_BYTES
            position = start + (word >> 8)
            if position > end:
                position = start - HEAD_BYTES
                self._check_length(word >> 8)
                self._needed = word >> 8
                break
            try:
                self._read(word & 0xFF, flags, number & NUMBER_MASK, data[start:position])
            except StreamFault as fault:
                self._receiver.stream_broken(fault)
        else:
            self._needed = 0
        if position < end:
            self._needed += HEAD_BYTES
            held += data[position:]

    def _begun(self, data: bytes) -> bytes:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            if is_http1(data):
                raise SpokeHttp1(data)
            if may_be_http1(data):
                self._held += data
                self._needed = len(data) + 1
                return b""
            raise ConnectionFault(PROTOCOL_ERROR, "The client does not begin as HTTP/2 does.")
        if len(data) >= len(PREFACE):
            self._receiver.preface_came()
        if len(data) < len(PREFACE) + HEAD_BYTES:
            self._held += data
            self._needed = len(PREFACE) + HEAD_BYTES
            return b""
        word, flags, _ = HEAD.unpack_from(data, len(PREFACE))
        if word & 0xFF != frames.SETTINGS or flags & frames.ACK:
            raise ConnectionFault(PROTOCOL_ERROR, "The first frame is no SETTINGS.")
        self.has_begun = True
        return data[len(PREFACE) :]

    def _check_length(self, length: int) -> None:
        if length > frames.FRAME_BYTES:
            raise ConnectionFault(FRAME_SIZE_ERROR, f"A frame of {length} bytes.")

    def _read(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if len(payload) > frames.FRAME_BYTES:
            self._check_length(len(payload))
        if self._block is not None:
            self._read_continuation(kind, flags, number, payload)
        elif kind == frames.DATA and number:
            data = unpadded(payload) if flags & frames.PADDED else payload
            is_last = bool(flags & frames.END_STREAM)
            self._receiver.data_came(number, data, len(payload), is_last=is_last)
        elif kind == frames.HEADERS and number:
            self._read_headers(flags, number, payload)
        else:
            self._read_other(kind, flags, number, payload)

    def _read_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = unpadded(payload)
        depends = -1
        if flags & frames.PRIORITIZED:
            if len(payload) < PRIORITY_BYTES:
                raise ConnectionFault(FRAME_SIZE_ERROR, "A HEADERS frame without its priority.")
            depends = NUMBER.unpack_from(payload)[0] & NUMBER_MASK
            payload = payload[PRIORITY_BYTES:]
        is_last = bool(flags & frames.END_STREAM)
        if not flags & frames.END_HEADERS:
            self._block = bytearray(payload)
            self._block_head = (number, is_last)
            return
        self._receiver.headers_came(number, payload, is_last=is_last)
        if depends == number:
            raise StreamFault(number, PROTOCOL_ERROR)

    def _read_continuation(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        begun, is_last = self._block_head
        block = self._block
        if block is None or kind != frames.CONTINUATION or number != begun:
            raise ConnectionFault(PROTOCOL_ERROR, "A frame between those of a header block.")
        block += payload
        # Each of a flood of empty frames counts too.
        self._receiver.idle_came(number)
        if len(block) > self._block_bytes:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "A header block that is too long.")
        if flags & frames.END_HEADERS:
            self._block = None
            self._receiver.headers_came(number, bytes(block), is_last=is_last)

    def _read_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        check_place(kind, number)
        if kind in LENGTHS and len(payload) != LENGTHS[kind]:
            if kind == frames.PRIORITY:
                raise StreamFault(number, FRAME_SIZE_ERROR)
            raise ConnectionFault(FRAME_SIZE_ERROR, "A frame whose length is not that of its kind.")
        receiver = self._receiver
        if kind == frames.RST_STREAM:
            receiver.reset_came(number)
        elif kind == frames.SETTINGS:
            self._read_settings(flags, payload)
        elif kind == frames.PING:
            receiver.ping_came(payload, is_answer=bool(flags & frames.ACK))
        elif kind == frames.WINDOW_UPDATE:
            receiver.window_came(number, NUMBER.unpack(payload)[0] & NUMBER_MASK)
        elif kind == frames.PRIORITY and NUMBER.unpack_from(payload)[0] & NUMBER_MASK == number:
            raise StreamFault(number, PROTOCOL_ERROR)
        else:
            receiver.idle_came(number)

    def _read_settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % frames.SETTING.size or (flags & frames.ACK and payload):
            raise ConnectionFault(FRAME_SIZE_ERROR, "A SETTINGS frame whose length is none.")
        if flags & frames.ACK:
            self._receiver.idle_came(0)
        else:
            self._receiver.settings_came(list(frames.SETTING.iter_unpack(payload)))


def check_place(kind: int, number: int) -> None:
    """Raises ConnectionFault for a frame that belongs on a stream and is on none, or the other way round."""
    if kind in ON_STREAMS and not number:
        raise ConnectionFault(PROTOCOL_ERROR, "A frame on stream 0 that belongs to another.")
    if kind in ON_CONNECTIONS and number:
        raise ConnectionFault(PROTOCOL_ERROR, "A frame on a stream that belongs to the connection.")
    if kind in (frames.PUSH_PROMISE, frames.CONTINUATION):
        raise ConnectionFault(PROTOCOL_ERROR, "A frame that cannot come here.")


def unpadded(payload: bytes) -> bytes:
    """What a frame's padding surrounds."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "A frame whose padding is longer than itself.")
    return payload[1 : len(payload) - payload[0]]
