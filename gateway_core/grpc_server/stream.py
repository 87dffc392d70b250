"""One call: what its servicer sees of it, and what becomes of it."""

import asyncio
import base64
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol
from urllib.parse import quote

import grpc.aio
from grpc import StatusCode

from gateway_core.grpc_server.caller import Caller
from gateway_core.grpc_server.frames import FLOW_CONTROL_ERROR, PROTOCOL_ERROR, StreamFault
from gateway_core.grpc_server.head import Head
from gateway_core.grpc_server.hpack_table import Field
from gateway_core.grpc_server.limits import Limits
from gateway_core.grpc_server.message import PREFIX_BYTES, MessageReader, Unacceptable
from gateway_core.grpc_server.method import Method
from gateway_core.grpc_server.outlet import Outlet
from gateway_core.grpc_server.wire import Wire
from gateway_core.inprocess.context import Context, SentMetadata
from gateway_core.inprocess.metadata import Metadatum

logger = logging.getLogger(__name__)

# What quote leaves as it is, of printable ASCII all but the percent sign (gRPC over HTTP/2, "Status-Message").
UNQUOTED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
ANSWER: tuple[Field, ...] = ((":status", "200"), ("content-type", "application/grpc"))
OK_FIELD = ("grpc-status", "0")
STREAM_WINDOW = 256 * 1024
"""Bytes that a client may send of one request before the server has read any."""
QUEUED_AT_MOST = 16
"""Messages of a streamed request that wait for the servicer; the client may send no more than a window beyond."""


class Owner(Protocol):
    """The calls of a connection, as each sees the others."""

    limits: Limits
    loop: asyncio.AbstractEventLoop
    caller: Caller
    tasks: set[asyncio.Task[None]]

    def give_back(self, stream: "Stream", size: int) -> None:
        """Lets the client send so many bytes more on the stream."""

    def hold(self, size: int) -> None:
        """Counts bytes of unfinished messages, or (negative) that they are no more; raises Unacceptable."""

    def ended(self, stream: "Stream") -> None:
        """Learns that the last frame of an answer has been written."""


class Stream(Outlet, Context[Any, Any]):
    """A call, as its servicer's context."""

    # Class attributes are the state of a call with one request in one frame: most, and nothing to set up.
    is_half_closed = False
    """Whether the client sends nothing more."""
    task: asyncio.Task[None] | None = None
    """What runs the servicer."""
    _reader: MessageReader | None = None
    _requests: "deque[bytes] | None" = None
    _arrival: asyncio.Future[None] | None = None
    _room = STREAM_WINDOW
    """Bytes that the client may send."""
    _received = 0

    def __init__(self, calls: Owner, wire: Wire, number: int, head: Head) -> None:
        """Takes the calls of the connection, where answers go, the stream's number, and the request's head."""
        self.calls = calls
        self.wire = wire
        self.number = number
        self.head = head
        self.send_window = wire.stream_window
        self.invocation = head.metadata
        self._loop = calls.loop

    # ---- what comes ----

    def begin(self, *, is_last: bool) -> None:
        """Answers a call that needs no request, or cannot be answered; raises Unacceptable."""
        self.is_half_closed = is_last
        refusal = self.head.refusal
        if refusal is not None:
            if refusal.http_status == 200:
                self.end(refusal.code, refusal.words)
        elif self._method.takes_stream:
            self._requests = deque()
            self._start(self._answer_stream())
        if is_last and self.ended is None:
            self.receive_end()

    def receive(self, data: bytes, size: int, *, is_last: bool) -> None:
        """Takes a piece of the request, which was so many bytes with its padding.

        Raises Unacceptable, or StreamFault where a rule of HTTP/2 is broken.
        """
        if is_last:
            self.is_half_closed = True
            if self._reader is None and self.head.content_length is None and data[:1] == b"\0":
                length = len(data) - PREFIX_BYTES
                if length == int.from_bytes(data[1:PREFIX_BYTES], "big") and not (self.task or self.head.refusal or self.ended):
                    self._start(self._answer_one(data[PREFIX_BYTES:]))
                    return
        self._receive_piece(data, size)
        if is_last:
            self.receive_end()

    def receive_end(self) -> None:
        """Learns that the request is over; raises Unacceptable where something is missing, and StreamFault."""
        self.is_half_closed = True
        if self.head.content_length not in (None, self._received):
            raise StreamFault(self.number, PROTOCOL_ERROR)
        if self.ended is not None:
            return
        refusal = self.head.refusal
        if refusal is not None:
            self._say(refusal.http_status, refusal.words)
            return
        if self._reader is not None and self._reader.held_bytes:
            raise Unacceptable(StatusCode.INTERNAL, "The request ends within a message.")
        if self._requests is not None:
            self._arrived()
        elif self.task is None:
            raise Unacceptable(StatusCode.UNIMPLEMENTED, "The request has no message.")

    def _receive_piece(self, data: bytes, size: int) -> None:
        self._received += len(data)
        self._room -= size
        if self._room < 0:
            raise StreamFault(self.number, FLOW_CONTROL_ERROR)
        if self.ended is not None or self.head.refusal is not None:
            self._give_back()
            return
        if self._reader is None:
            self._reader = MessageReader(self.head.encoding, self.calls.limits.message_bytes)
        reader = self._reader
        before = reader.held_bytes
        try:
            for message in reader.feed(data):
                self._take(message)
        finally:
            self.calls.hold(reader.held_bytes - before)
        self._give_back()

    def _take(self, message: bytes) -> None:
        if self._requests is not None:
            self._requests.append(message)
            self._arrived()
        elif self.task is not None:
            raise Unacceptable(StatusCode.UNIMPLEMENTED, "The request has more than one message.")
        else:
            self._start(self._answer_one(message))

    def _give_back(self) -> None:
        is_wanted = not self.is_half_closed and (self._requests is None or len(self._requests) < QUEUED_AT_MOST)
        if self._room < STREAM_WINDOW // 2 and is_wanted and not self.is_over:
            self.calls.give_back(self, STREAM_WINDOW - self._room)
            self._room = STREAM_WINDOW

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # ---- the servicer ----

    @property
    def _method(self) -> Method:
        assert self.head.method is not None
        return self.head.method

    def _start(self, answering: Any) -> None:
        self.task = task = self._loop.create_task(answering)
        tasks = self.calls.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _answer_one(self, message: bytes) -> None:
        """Runs the servicer of a method that takes one request."""
        method = self._method
        try:
            request = method.deserialize(message)
            if method.gives_stream:
                await self._give_stream(method.answer(request, self))
            else:
                answer = method.answer(request, self)
                # A servicer that implements nothing inherits plain functions.
                self._give(await answer if hasattr(answer, "__await__") else answer)
        except Exception as error:
            self._fail(error)
        except BaseException:
            self.end(StatusCode.CANCELLED, "Cancelled by the servicer.")
            raise
        finally:
            self.finish()

    async def _answer_stream(self) -> None:
        """Runs the servicer of a method that takes a stream."""
        method = self._method
        try:
            answer = method.answer(self._messages(), self)
            if method.gives_stream:
                await self._give_stream(answer)
            else:
                self._give(await answer)
        except Exception as error:
            self._fail(error)
        except BaseException:
            self.end(StatusCode.CANCELLED, "Cancelled by the servicer.")
            raise
        finally:
            self.finish()

    async def _messages(self) -> AsyncIterator[Any]:
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    async def read(self) -> Any:
        """The next message of a streamed request, or grpc.aio.EOF."""
        requests = self._requests
        if requests is None:
            raise grpc.aio.UsageError("The request is not streamed.")
        while not requests:
            if self.is_half_closed or self.ended is not None:
                return grpc.aio.EOF
            self._arrival = self._loop.create_future()
            await self._arrival
        message = requests.popleft()
        self._give_back()
        return self._method.deserialize(message)

    async def _give_stream(self, answer: Any) -> None:
        if isinstance(answer, AsyncGenerator):
            serialize = self._method.serialize
            async with aclosing(answer) as events:
                async for event in events:
                    if self.ended is not None or self.is_aborted:
                        break
                    if not self._send(serialize(event)):
                        await self.sent()
        elif hasattr(answer, "__await__"):
            await answer
        self.end(self.status_code or StatusCode.OK, self.status_details, self.trailing)

    def _give(self, answer: Any) -> None:
        if self.ended is not None:
            return
        if self.is_aborted:
            self.end(self.status_code or StatusCode.UNKNOWN, self.status_details, self.trailing)
            return
        message = self._method.serialize(answer)
        if self.status_code is not None or self.initial is not None or self.invalid:
            self._send(message)
            self.end(self.status_code or StatusCode.OK, self.status_details, self.trailing)
            return
        self._check_length(message)
        self.ended = StatusCode.OK
        self.send_whole(ANSWER, message, trailer_fields(OK_FIELD, self.status_details, self.trailing))

    def _fail(self, error: Exception) -> None:
        """Ends the call as its servicer has ended: with an error."""
        if self.is_aborted and isinstance(error, grpc.aio.AbortError):
            self.end(self.status_code or StatusCode.UNKNOWN, self.status_details, self.trailing)
        elif isinstance(error, TooLong):
            self.end(StatusCode.RESOURCE_EXHAUSTED, str(error))
        elif self.ended is None or not isinstance(error, grpc.aio.BaseError):
            # Its words are for the log only: they may tell of what no caller should know.
            name = type(error).__name__
            logger.error("Unexpected [%s] raised by servicer method [%s]", name, self.head.path, exc_info=error)
            code = self.status_code or StatusCode.UNKNOWN
            self.end(StatusCode.UNKNOWN if code is StatusCode.OK else code, self.status_details, self.trailing)

    # ---- what leaves ----

    async def write(self, message: Any) -> None:
        """Sends a message of a streamed answer; waits while the caller reads slowly. Raises UsageError at the end."""
        if self.ended is not None:
            raise grpc.aio.UsageError("RPC already finished.")
        if not self._send(self._method.serialize(message)):
            await self.sent()

    async def send_initial_metadata(self, initial_metadata: SentMetadata) -> None:
        """Sends the initial metadata; raises UsageError the second time."""
        if self.ended is not None:
            raise grpc.aio.UsageError("RPC already finished.")
        await super().send_initial_metadata(initial_metadata)
        self.send_fields((*ANSWER, *texts(self.initial or ())))

    def _send(self, message: bytes) -> bool:
        self._check_length(message)
        if self.initial is None:
            self.initial = ()
            self.send_fields(ANSWER)
        return self.send_message(message)

    def _check_length(self, message: bytes) -> None:
        most = self.calls.limits.message_bytes
        if len(message) > most:
            raise TooLong(f"Sent message larger than max ({len(message)} vs. {most})")

    def end(self, code: StatusCode, details: str = "", trailing: Sequence[Metadatum] = ()) -> None:
        """Tells the client how the call has ended, behind what is still to be sent; does nothing the second time."""
        if self.ended is not None:
            return
        if self.invalid:
            code, details, trailing = StatusCode.INTERNAL, "Invalid metadata", ()
        self.ended = code
        fields = trailer_fields(("grpc-status", str(code.value[0])), details, trailing)
        self.send_fields(fields if self.initial is not None else [*ANSWER, *fields], is_last=True)

    def _say(self, status: int, words: str) -> None:
        """Answers what is no call of gRPC."""
        self.ended = StatusCode.INTERNAL
        self.send_fields(((":status", str(status)), ("content-type", "text/plain")))
        self.send_data(words.encode())
        self.send_fields((), is_last=True)

    def close(self) -> None:
        """Hears that the last frame has been written."""
        self.calls.ended(self)

    def break_off(self, code: StatusCode, details: str) -> None:
        """Ends the call from outside of its servicer, which is cancelled."""
        if self.ended is None:
            if self.waits:
                self._unsent = None
            self.end(code, details)
        if self.task is not None:
            self.task.cancel()

    def lose(self) -> None:
        """Ends the call of a client that has left."""
        if self.ended is None:
            self.ended = StatusCode.CANCELLED
        self.drop()
        if self._reader is not None:
            self.calls.hold(-self._reader.held_bytes)
            self._reader = None
        if self.task is not None:
            self.task.cancel()

    # ---- who calls ----

    def peer(self) -> str:
        """The caller's address, in gRPC's words."""
        return self.calls.caller.name

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Who the caller is, by its certificate."""
        return self.calls.caller.authentication


class TooLong(Exception):
    """The servicer's message is longer than allowed."""


def trailer_fields(status: Field, details: str, trailing: Sequence[Metadatum]) -> Sequence[Field]:
    """The fields that a call ends with."""
    words = (("grpc-message", quote(details, safe=UNQUOTED)),) if details else ()
    return (status, *words, *texts(trailing))


def texts(metadata: Sequence[Metadatum]) -> Sequence[Field]:
    """Metadata as header fields."""
    for _, value in metadata:
        if type(value) is not str:
            break
    else:
        return metadata  # type: ignore[return-value]
    return [(key, value if isinstance(value, str) else text_of(value)) for key, value in metadata]


def text_of(value: bytes) -> str:
    """Octets in Base64, without padding."""
    return base64.b64encode(value).rstrip(b"=").decode("ascii")
