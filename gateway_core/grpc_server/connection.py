"""One connection of HTTP/2 (RFC 9113): settings, pings, its age and its end; the calls on it are told what comes."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from grpc import StatusCode

from gateway_core.grpc_server import frames
from gateway_core.grpc_server.allowance import IDLE_FRAMES, Allowance, PingAllowance
from gateway_core.grpc_server.caller import caller
from gateway_core.grpc_server.calls import CONNECTION_WINDOW, Calls
from gateway_core.grpc_server.frame_reader import FrameReader
from gateway_core.grpc_server.frames import (
    FLOW_CONTROL_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    WINDOW_AT_MOST,
    ConnectionFault,
    StreamFault,
    frame,
    goaway,
)
from gateway_core.grpc_server.http1 import SpokeHttp1
from gateway_core.grpc_server.inlet import STREAM_WINDOW
from gateway_core.grpc_server.limits import Limits, Parting
from gateway_core.grpc_server.method import Methods
from gateway_core.grpc_server.wire import Wire

logger = logging.getLogger(__name__)

BLOCKS_OF_LIST = 2
"""How much longer a header block may be than its fields: the rest is refused call by call."""
CALLS_PER_FRAME = 50
"""That are looked at for as much as a frame that says nothing."""
LITTLE_GROWTH = 1024
"""A window that grows by less is as good as one that does not."""
BEGIN_SECONDS = 20.0
"""Until the client has said that it speaks HTTP/2."""
DRAIN_PING = b"draining"
DRAIN_SECONDS = 5.0
"""Until the client has answered that ping."""
GOING_SECONDS = 30.0
"""Until a client must have gone that was told to, and has its answers: it may read slowly."""
LINGER_SECONDS = 1.0
"""Until a client that was told to go must have done so."""
WRITE_BUFFER_BYTES = 64 * 1024
AGE_SPREAD = 0.1
"""So that connections made together are not renewed together."""


class Owner(Protocol):
    """Who keeps connections."""

    def made(self, connection: "Connection") -> bool:
        """Takes note of one that stands; whether it may."""

    def lost(self, connection: "Connection") -> None:
        """Takes note of its end."""


class Connection(asyncio.Protocol):
    """Serves one client."""

    calls: Calls
    _wire: Wire

    def __init__(self, methods: Methods, limits: Limits, owner: Owner) -> None:
        """Takes what it serves, within which bounds, and whose it is."""
        self._loop = asyncio.get_running_loop()
        self._methods = methods
        self._limits = limits
        self._owner = owner
        self._reader = FrameReader(self, BLOCKS_OF_LIST * limits.header_bytes)
        self._pings = PingAllowance(self._loop.time, limits.ping_seconds)
        self._idle = Allowance(self._loop.time, IDLE_FRAMES, "too many frames that say nothing")
        self._has_heard = False
        self._is_agreed = True
        """Whether HTTP/2 may be spoken: over TLS it is agreed on (ALPN)."""
        self._has_greeted = False
        self._is_ending = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._transport: asyncio.Transport | None = None

    # ---- the connection ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the client to begin: one that speaks HTTP/1 must not be sent a frame before its answer."""
        self._transport = connected = cast(asyncio.Transport, transport)
        self._wire = Wire(connected)
        found = caller(transport)
        self.calls = Calls(self._wire, found, self._methods, self._limits, self.close_if_idle)
        handshake = transport.get_extra_info("ssl_object")
        self._is_agreed = handshake is None or handshake.selected_alpn_protocol() == "h2"
        # Without a name it is gone already.
        if not self._owner.made(self) or not found.name:
            connected.abort()
            return
        connected.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._after("keepalive", BEGIN_SECONDS, self._keep_alive)
        if self._limits.age_seconds is not None:
            seconds = self._limits.age_seconds * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)
            self._after("age", seconds, self.drain)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends everything."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.calls.leave()
        del self._reader
        self._transport = None
        self._owner.lost(self)

    def eof_received(self) -> bool:
        """Closes: what has not been answered yet nobody waits for."""
        return False

    def pause_writing(self) -> None:
        """Hears that the client reads slowly."""
        self._wire.pause()

    def resume_writing(self) -> None:
        """Hears that the client has read."""
        self._wire.resume()

    def data_received(self, data: bytes) -> None:
        """Reads frames."""
        if self._is_ending:
            return
        self._has_heard = True
        try:
            self._reader.feed(data)
        except SpokeHttp1 as fault:
            self._answer_http1(fault)
        except ConnectionFault as fault:
            logger.info("a connection from %s ended: %s", self.calls.caller.name, fault.words)
            self._end(fault.code, fault.words)
        except Exception:
            logger.exception("a connection from %s ended by a fault of the server", self.calls.caller.name)
            self._end(INTERNAL_ERROR, "")

    def drain(self) -> None:
        """Tells the client to make no more calls here, and closes when those under way have ended."""
        if self._transport is None or self._is_ending or self.calls.last_taken is not None:
            return
        if not self._is_agreed:
            self.abort()
            return
        self._greet()
        # Calls may be on their way: the client answers the ping when it has read this (RFC 9113, 6.8).
        self._wire.control(goaway(WINDOW_AT_MOST, NO_ERROR) + frame(frames.PING, 0, 0, DRAIN_PING))
        self._after("drain", DRAIN_SECONDS, self._take_no_more)

    def cancel(self, parting: Parting) -> None:
        """Ends the calls, and the connection."""
        self.calls.cancel(StatusCode.UNAVAILABLE, parting)
        if not self._is_ending:
            self._end(NO_ERROR, "")

    def close_if_idle(self) -> None:
        """Closes where nothing is under way."""
        if not self.calls.streams and not self._is_ending and self._transport is not None:
            self._is_ending = True
            self._take_leave(GOING_SECONDS)

    def _take_no_more(self) -> None:
        if self.calls.last_taken is None:
            self.calls.last_taken = self.calls.last
            self._wire.control(goaway(self.calls.last, NO_ERROR))
            self.close_if_idle()

    def _greet(self) -> None:
        """Says what this side takes: the first that a client of HTTP/2 is sent (RFC 9113, 3.4)."""
        if self._has_greeted:
            return
        self._has_greeted = True
        settings = (
            (frames.MAX_CONCURRENT_STREAMS, self._limits.streams),
            (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frames.MAX_HEADER_LIST_SIZE, self._limits.header_bytes),
        )
        self._wire.write(frame(frames.SETTINGS, 0, 0, b"".join(frames.SETTING.pack(*each) for each in settings)))
        self._wire.allow(0, CONNECTION_WINDOW - frames.WINDOW_BYTES)

    def _answer_http1(self, fault: SpokeHttp1) -> None:
        """Tells a client that speaks HTTP/1 where it is, unless it was sent frames already."""
        if self._has_greeted:
            self._end(fault.code, fault.words)
            return
        logger.info("a connection from %s ended: %s", self.calls.caller.name, fault.words)
        self._is_ending = True
        self._wire.write(fault.answer)
        self._take_leave(LINGER_SECONDS)

    def _end(self, code: int, words: str) -> None:
        self._is_ending = True
        if not self._is_agreed:
            self.abort()
        elif self._transport is not None:
            self._greet()
            self.calls.lose()
            self._wire.control(goaway(self.calls.last, code, words))
            self._take_leave(LINGER_SECONDS)

    def _take_leave(self, seconds: float) -> None:
        """Closes behind what was written; the client has so long to read it."""
        transport = self._transport
        self._wire.end()
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            # Closing while more comes could make either system drop what the client has not read.
            with suppress(OSError):  # it has left already
                transport.write_eof()
            self._after("end", seconds, self.abort)
        else:
            transport.close()

    # ---- time ----

    def _after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._loop.call_later(seconds, act)

    def _keep_alive(self) -> None:
        if not self._reader.has_begun:
            self.abort()
        elif self._has_heard:
            self._has_heard = False
            self._after("keepalive", self._limits.keepalive_seconds, self._keep_alive)
        else:
            self._wire.control(frame(frames.PING, 0, 0, bytes(8)))
            self._after("keepalive", self._limits.keepalive_answer_seconds, self._judge)

    def _judge(self) -> None:
        if self._has_heard:
            self._keep_alive()
        else:
            self.abort()

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- what comes ----

    def preface_came(self) -> None:
        """Greets; raises ConnectionFault where HTTP/2 was not agreed on."""
        if not self._is_agreed:
            raise ConnectionFault(PROTOCOL_ERROR, "HTTP/2 was not agreed on (ALPN).")
        self._greet()

    def headers_came(self, number: int, block: bytes, *, is_last: bool) -> None:
        """Begins a call, or ends its request."""
        self.calls.headers_came(number, block, is_last=is_last)

    def data_came(self, number: int, data: bytes, size: int, *, is_last: bool) -> None:
        """Feeds a call."""
        if not data and not is_last:
            self._idle.spend(self._wire.sent_count)
        self.calls.data_came(number, data, size, is_last=is_last)

    def reset_came(self, number: int) -> None:
        """Cancels a call."""
        self._idle.spend(self._wire.sent_count)
        self.calls.reset_came(number)

    def settings_came(self, settings: list[tuple[int, int]]) -> None:
        """Does as the client says (RFC 9113, 6.5.2)."""
        self._idle.spend(self._wire.sent_count)
        window = None
        for key, value in settings:
            if key == frames.HEADER_TABLE_SIZE:
                self._wire.encoder.resize(value)
            elif key == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1.")
            elif key == frames.MAX_FRAME_SIZE and not frames.FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFault(PROTOCOL_ERROR, "MAX_FRAME_SIZE is none.")
            elif key == frames.INITIAL_WINDOW_SIZE:
                window = value
                if value > WINDOW_AT_MOST:
                    raise ConnectionFault(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large.")
        self._wire.control(frame(frames.SETTINGS, frames.ACK, 0))
        if window is not None:
            self._resize_windows(window)

    def ping_came(self, payload: bytes, *, is_answer: bool) -> None:
        """Answers a ping."""
        self._idle.spend(self._wire.sent_count)
        if is_answer:
            if payload == DRAIN_PING and "drain" in self._timers:
                self._take_no_more()
            return
        self._pings.spend(self._wire.sent_count)
        self._wire.control(frame(frames.PING, frames.ACK, 0, payload))

    def window_came(self, number: int, more: int) -> None:
        """Sends on."""
        if more < LITTLE_GROWTH:
            self._idle.spend(self._wire.sent_count)
        if number:
            self.calls.window_came(number, more)
        else:
            self._wire.grow(more)

    def idle_came(self, number: int) -> None:
        """Counts it."""
        self._idle.spend(self._wire.sent_count)

    def stream_broken(self, fault: StreamFault) -> None:
        """Ends one call."""
        self.calls.stream_broken(fault)

    def _resize_windows(self, size: int) -> None:
        is_larger = size > self._wire.stream_window
        self._wire.stream_window = size
        if is_larger:
            # Looking at all calls costs more than the frame that asks for it.
            self._idle.spend(self._wire.sent_count, 1 + len(self.calls.streams) // CALLS_PER_FRAME)
            for stream in tuple(self.calls.streams.values()):
                if stream.waits:
                    self._wire.go_on(stream)
