"""One connection of HTTP/2: frames in, calls made of them, and what the rules ask of the server."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from grpc import StatusCode

from gateway_core.grpc_server import frames
from gateway_core.grpc_server.frames import HEAD, HEAD_BYTES, ConnectionFault, StreamFault, frame
from gateway_core.grpc_server.head import Head, Malformed, check_trailers, head
from gateway_core.grpc_server.hpack_decoder import Decoder, TooLarge, Undecodable
from gateway_core.grpc_server.hpack_encoder import Encoder
from gateway_core.grpc_server.limits import Limits
from gateway_core.grpc_server.message import Unacceptable
from gateway_core.grpc_server.method import Methods
from gateway_core.grpc_server.outlet import Outlet
from gateway_core.grpc_server.stream import Stream

STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 1024 * 1024
HEADS_AT_MOST = 64
HEAD_CACHED_BYTES = 1024
CLOSED_AT_MOST = 256


class Connection(asyncio.Protocol):
    """Serves the calls of one client."""

    transport: asyncio.Transport
    write: Callable[[bytes], None]

    def __init__(self, loop: asyncio.AbstractEventLoop, methods: Methods, limits: Limits) -> None:
        """Takes what it serves, and within which bounds."""
        self.loop = loop
        self.limits = limits
        self._methods = methods
        self.encoder = Encoder()
        self._decoder = Decoder(limits.header_bytes)
        self._heads: dict[bytes, Head] = {}
        self.streams: dict[int, Stream] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[Outlet, None] = {}
        self.send_window = self._initial_window = frames.WINDOW_BYTES
        self._room = CONNECTION_WINDOW
        self._held = 0
        self.is_paused = False
        self._rest = bytearray()
        self._is_begun = False
        self._block: tuple[int, int, bytearray] | None = None
        self._last = 0
        self._closed: deque[int] = deque(maxlen=CLOSED_AT_MOST)
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.peer_name = ""
        self.authentication: Mapping[str, Iterable[bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or True
        self.transport = transport  # type: ignore[assignment]
        self.write = self.transport.write
        name = transport.get_extra_info("peername")
        self.peer_name = f"ipv4:{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix:"
        settings = {
            frames.MAX_CONCURRENT_STREAMS: self.limits.streams,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
        }
        payload = b"".join(frames.SETTING.pack(key, value) for key, value in settings.items())
        room = frames.NUMBER.pack(CONNECTION_WINDOW - frames.WINDOW_BYTES)
        self.write(frame(frames.SETTINGS, 0, 0, payload) + frame(frames.WINDOW_UPDATE, 0, 0, room))

    def connection_lost(self, exc: Exception | None) -> None:
        for stream in tuple(self.streams.values()):
            stream.lose()
        self.streams.clear()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._send_more()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            data = bytes(self._rest)
            self._rest.clear()
        position, end = 0, len(data)
        if not self._is_begun:
            if end < len(frames.PREFACE):
                self._rest += data
                return
            if not data.startswith(frames.PREFACE):
                self.transport.abort()
                return
            self._is_begun = True
            position = len(frames.PREFACE)
        unpack = HEAD.unpack_from
        while end - position >= HEAD_BYTES:
            word, flags, number = unpack(data, position)
            start = position + HEAD_BYTES
            stop = start + (word >> 8)
            if stop > end:
                break
            position = stop
            kind = word & 0xFF
            try:
                if kind < len(self.READERS):
                    self.READERS[kind](self, flags, number & 0x7FFFFFFF, data[start:stop])
            except StreamFault as fault:
                self._reset(fault.number, fault.code)
        if position < end:
            self._rest += data[position:]

    def _read_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if flags & frames.PRIORITIZED:
            payload = payload[5:]
        if not flags & frames.END_HEADERS:
            self._block = (number, flags, bytearray(payload))
            return
        self._begin(number, flags, payload)

    def _read_continuation(self, flags: int, number: int, payload: bytes) -> None:
        assert self._block
        self._block[2].extend(payload)
        if flags & frames.END_HEADERS:
            self._begin(number, self._block[1], bytes(self._block[2]))

    def _begin(self, number: int, flags: int, block: bytes) -> None:
        found = self._heads.get(block) or self._head(block)
        self._last = number
        stream = Stream(self, number, found, self._initial_window)
        self.streams[number] = stream
        if found.timeout is not None:
            stream.deadline = deadline = self.loop.time() + found.timeout
            if self._deadline is None or deadline < self._deadline:
                self._set_deadline(deadline)
        if found.method is None:
            stream.end(StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        if found.method.takes_stream:
            stream.begin()

    def _head(self, block: bytes) -> Head:
        version = self._decoder.table.version
        found = head(self._decoder.fields(block), self._methods)
        if self._decoder.table.version != version:
            self._heads.clear()
        elif len(block) <= HEAD_CACHED_BYTES and len(self._heads) < HEADS_AT_MOST:
            self._heads[block] = found
        return found

    def _set_deadline(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = deadline
        self._timer = self.loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self.loop.time()
        self._deadline = self._timer = None
        for stream in tuple(self.streams.values()):
            if stream.deadline is not None and stream.deadline <= now:
                stream.break_off(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        left = [stream.deadline for stream in self.streams.values() if stream.deadline is not None]
        if left:
            self._set_deadline(min(left))

    def _read_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._room -= size
        if self._room < CONNECTION_WINDOW // 2:
            self.write(frame(frames.WINDOW_UPDATE, 0, 0, frames.NUMBER.pack(CONNECTION_WINDOW - self._room)))
            self._room = CONNECTION_WINDOW
        stream = self.streams.get(number)
        if stream is None:
            return
        if flags & frames.PADDED:
            payload = payload[1 : size - payload[0]]
        try:
            stream.receive(payload, size, flags & frames.END_STREAM)
        except Unacceptable as error:
            stream.break_off(error.code, error.words)

    def _read_reset(self, flags: int, number: int, payload: bytes) -> None:
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.lose()

    def _read_settings(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        for key, value in frames.SETTING.iter_unpack(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.send_window += value - self._initial_window
                self._initial_window = value
            elif key == frames.HEADER_TABLE_SIZE:
                self.encoder.resize(value)
        self.write(frame(frames.SETTINGS, frames.ACK, 0))

    def _read_ping(self, flags: int, number: int, payload: bytes) -> None:
        if not flags & frames.ACK:
            self.write(frame(frames.PING, frames.ACK, 0, payload))

    def _read_window_update(self, flags: int, number: int, payload: bytes) -> None:
        (more,) = frames.NUMBER.unpack(payload)
        if not number:
            self.send_window += more
            self._send_more()
            return
        stream = self.streams.get(number)
        if stream is not None:
            stream.send_window += more
            self._send_more()

    def _ignore(self, flags: int, number: int, payload: bytes) -> None:
        pass

    READERS: ClassVar[tuple[Callable[[Any, int, int, bytes], None], ...]] = (
        _read_data, _read_headers, _ignore, _read_reset, _read_settings, _ignore, _read_ping, _ignore, _read_window_update, _read_continuation
    )

    def wait(self, outlet: Outlet) -> None:
        self._waiting[outlet] = None

    def _send_more(self) -> None:
        waiting = list(self._waiting)
        while waiting:
            waiting = [outlet for outlet in waiting if outlet.send_more()]
        for outlet in [outlet for outlet in self._waiting if not outlet.waits]:
            del self._waiting[outlet]

    def ended(self, outlet: Outlet) -> None:
        self.streams.pop(outlet.number, None)
        if not outlet.is_half_closed:
            self.write(frame(frames.RST_STREAM, 0, outlet.number, frames.NUMBER.pack(frames.NO_ERROR)))

    def give_back(self, stream: Stream, size: int) -> None:
        self.write(frame(frames.WINDOW_UPDATE, 0, stream.number, frames.NUMBER.pack(size)))

    def hold(self, size: int) -> None:
        self._held += size

    def _reset(self, number: int, code: int) -> None:
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.lose()
        self.write(frame(frames.RST_STREAM, 0, number, frames.NUMBER.pack(code)))


_ = (ConnectionFault, Malformed, check_trailers, TooLarge, Undecodable)
