"""What leaves on one stream: frames, as far as the windows and the socket let them."""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence

from gateway_core.grpc_server.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEAD,
    HEADERS,
    MESSAGE,
    frame,
    header_frames,
)
from gateway_core.grpc_server.hpack_table import Field
from gateway_core.grpc_server.message import PREFIX_BYTES
from gateway_core.grpc_server.wire import Wire


class Outlet:
    """The sending half of a stream."""

    wire: Wire
    number: int
    # Class attributes are the state of a stream that never waits: most, and nothing to set up.
    send_credit = 0
    """Bytes that the client takes on this stream beyond those that it takes on each, less those that it was sent."""
    _unsent: bytearray | None = None
    _last: Sequence[Field] | None = None
    """Trailers, while they wait for what is unsent."""
    _waiter: asyncio.Future[None] | None = None
    is_over = False
    """Whether nothing more is to be sent."""

    def send_fields(self, fields: Sequence[Field], *, is_last: bool = False) -> None:
        """Sends header fields, which no window bounds; the last, which may be none, wait for what is unsent."""
        if is_last and self._unsent:
            self._last = fields
            return
        wire = self.wire
        wire.sent_count += 1
        if fields:
            wire.write(header_frames(self.number, wire.encoder.block(fields), is_last=is_last))
        else:
            wire.write(frame(DATA, END_STREAM if is_last else 0, self.number))
        if is_last:
            self._end()

    def send_message(self, message: bytes) -> bool:
        """Sends a message; False: it waits for the client to take it."""
        size = len(message) + PREFIX_BYTES
        wire = self.wire
        if self._unsent or self._has_no_room(size):
            return self.send_data(bytes((0,)) + len(message).to_bytes(4, "big") + message)
        self.send_credit -= size
        wire.send_window -= size
        wire.sent_count += 1
        wire.write_message(self.number, message)
        return True

    @property
    def send_window(self) -> int:
        """Bytes that the client takes on this stream."""
        return self.wire.stream_window + self.send_credit

    def _has_no_room(self, size: int) -> bool:
        """Whether so many octets cannot be sent in one frame now."""
        wire = self.wire
        own = wire.stream_window + self.send_credit
        return size > FRAME_BYTES or size > own or size > wire.send_window or wire.is_paused

    def send_whole(self, first: Sequence[Field], message: bytes, last: Sequence[Field]) -> None:
        """Sends a whole answer, in one write where it can be."""
        size = len(message) + PREFIX_BYTES
        wire = self.wire
        if self._has_no_room(size):
            self.send_fields(first)
            self.send_message(message)
            self.send_fields(last, is_last=True)
            return
        wire.send_window -= size
        wire.sent_count += 1
        block, trailers = wire.encoder.block(first), wire.encoder.block(last)
        number = self.number
        if len(block) > FRAME_BYTES or len(trailers) > FRAME_BYTES:
            block, trailers = header_frames(number, block, is_last=False), header_frames(number, trailers, is_last=True)
            wire.write(block + MESSAGE.pack(size << 8, 0, number, 0, size - PREFIX_BYTES) + message + trailers)
        else:
            wire.write(
                b"".join(
                    (
                        HEAD.pack(len(block) << 8 | HEADERS, END_HEADERS, number),
                        block,
                        MESSAGE.pack(size << 8 | DATA, 0, number, 0, size - PREFIX_BYTES),
                        message,
                        HEAD.pack(len(trailers) << 8 | HEADERS, END_HEADERS | END_STREAM, number),
                        trailers,
                    )
                )
            )
        self._end()

    def send_data(self, data: bytes) -> bool:
        """Sends octets; False: some wait for the client to take them."""
        if self._unsent is None:
            self._unsent = bytearray()
        self._unsent += data
        while self.send_more():
            pass
        if self._unsent:
            self.wire.wait(self)
            return False
        return True

    def send_more(self) -> bool:
        """Sends one frame of what waits; whether there is more that can be sent now."""
        unsent, wire = self._unsent, self.wire
        if not unsent:
            return False
        size = min(len(unsent), FRAME_BYTES, self.send_window, wire.send_window)
        if size <= 0 or wire.is_paused:
            return False
        self.send_credit -= size
        wire.send_window -= size
        wire.sent_count += 1
        wire.write(HEAD.pack(size << 8 | DATA, 0, self.number) + unsent[:size])
        del unsent[:size]
        if unsent:
            return True
        self._flushed()
        return False

    async def sent(self) -> None:
        """Waits until nothing is unsent, or the stream is over."""
        if self._unsent and not self.is_over:
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            # Several may wait; a cancelled one must not take the others along.
            await asyncio.shield(self._waiter)

    @property
    def waits(self) -> bool:
        """Whether something is unsent."""
        return bool(self._unsent)

    def drop(self) -> None:
        """Forgets what is unsent: the client does not want it any more, or shall not have it."""
        self._unsent = self._last = None
        self.is_over = True
        self.wire.forget(self)
        self._wake()

    def _flushed(self) -> None:
        self._unsent = None
        self._wake()
        if self._last is not None:
            last, self._last = self._last, None
            self.send_fields(last, is_last=True)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end(self) -> None:
        self.is_over = True
        self.wire.forget(self)
        self.wire.flush()
        self._wake()
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Hears that the last frame has been written."""
