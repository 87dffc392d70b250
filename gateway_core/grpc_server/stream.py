"""One call: what its servicer sees of it, and what becomes of it."""

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import grpc.aio
from grpc import StatusCode

from gateway_core.grpc_server.head import Head, Refusal
from gateway_core.grpc_server.hpack_table import Field
from gateway_core.grpc_server.inlet import Inlet, Owner
from gateway_core.grpc_server.message import ENCODINGS, Unacceptable
from gateway_core.grpc_server.method import Method, request_of
from gateway_core.grpc_server.outlet import Outlet
from gateway_core.grpc_server.wire import Wire
from gateway_core.inprocess.call import OK
from gateway_core.inprocess.context import Context, SentMetadata
from gateway_core.inprocess.metadata import Metadatum, Texts

logger = logging.getLogger(__name__)

# What quote leaves as it is, of printable ASCII all but the percent sign (gRPC over HTTP/2, "Status-Message").
UNQUOTED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
ANSWER: tuple[Field, ...] = (
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-accept-encoding", ENCODINGS.replace(" ", "")),
)
OK_FIELD = ("grpc-status", "0")


class Stream(Inlet, Outlet, Context[Any, Any]):
    """A call, as its servicer's context."""

    task: asyncio.Task[None] | None = None
    """What runs the servicer."""

    def __init__(self, calls: Owner, wire: Wire, number: int, head: Head) -> None:
        """Takes the calls of the connection, where answers go, the stream's number, and the request's head."""
        self.calls = calls
        self.wire = wire
        self.number = number
        self.head = head
        self.invocation = head.metadata
        self._loop = calls.loop

    # ---- the servicer ----

    @property
    def _method(self) -> Method:
        assert self.head.method is not None
        return self.head.method

    def answer_one(self, message: bytes) -> None:
        """Runs the servicer of a method that takes one request."""
        self._start(self._answer(message))

    def answer_stream(self) -> None:
        """Runs the servicer of a method that takes a stream."""
        self._start(self._answer(None))

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        self.task = task = self._loop.create_task(answering)
        self.calls.tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.calls.tasks.discard(task)
        # What a task was cancelled with leads to the call, by its frames: only the collector of cycles would free both.
        self.task = None

    async def _answer(self, message: bytes | None) -> None:
        method = self._method
        try:
            request = self.messages() if message is None else request_of(method, message)
            answer = method.answer(request, self)
            if method.gives_stream:
                await self._give_stream(answer)
            else:
                # A servicer that implements nothing inherits plain functions.
                self._give(await answer if hasattr(answer, "__await__") else answer)
        except Exception as error:
            self._fail(error)
        except BaseException:
            self.end(StatusCode.CANCELLED, "Cancelled by the servicer.")
            raise
        finally:
            self.finish()

    async def _give_stream(self, answer: Any) -> None:
        if isinstance(answer, AsyncGenerator):
            serialize = self._method.serialize
            async with aclosing(answer) as events:
                async for event in events:
                    if self.ended is not None or self.is_aborted:
                        break
                    if not self._send(serialize(event)):
                        await self.sent()
        else:
            await answer
        self.end(self.status_code or OK, self.status_details, self.trailing)

    def _give(self, answer: Any) -> None:
        if self.ended is not None:
            return
        if self.is_aborted:
            self.end(self.status_code or StatusCode.UNKNOWN, self.status_details, self.trailing)
            return
        message = self._method.serialize(answer)
        if self.status_code is not None or self.initial is not None or self.invalid:
            self._send(message)
            self.end(self.status_code or OK, self.status_details, self.trailing)
            return
        self._check_length(message)
        self.ended = OK
        self.send_whole(ANSWER, message, trailer_fields(OK_FIELD, self.status_details, self.trailing))

    def _fail(self, error: Exception) -> None:
        """Ends the call as its servicer has ended: with an error."""
        if self.is_aborted and isinstance(error, grpc.aio.AbortError):
            self.end(self.status_code or StatusCode.UNKNOWN, self.status_details, self.trailing)
        elif isinstance(error, TooLong):
            self.end(StatusCode.RESOURCE_EXHAUSTED, str(error))
        elif isinstance(error, Unacceptable):
            self.end(error.code, error.words)
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

    def refuse(self, refusal: Refusal) -> None:
        """Answers without a servicer: what is no call of gRPC, in plain HTTP."""
        if refusal.http_status == 200:
            self.end(refusal.code, refusal.words)
            return
        self.ended = refusal.code
        self.send_fields(((":status", str(refusal.http_status)), ("content-type", "text/plain"), ("allow", "POST")))
        self.send_data(refusal.words.encode())
        self.send_fields((), is_last=True)

    def close(self) -> None:
        """Hears that the last frame has been written."""
        self.drop_request()
        self.calls.ended(self.number, is_whole=self.is_half_closed)

    def break_off(self, code: StatusCode, details: str, trailing: Sequence[Metadatum] = ()) -> None:
        """Ends the call from outside of its servicer, which is cancelled."""
        if self.ended is None:
            if self.waits:
                self._unsent = None
            self.end(code, details, trailing)
        if self.task is not None:
            self.task.cancel()

    def lose(self) -> None:
        """Ends the call of a client that has left."""
        if self.ended is None:
            self.ended = StatusCode.CANCELLED
        self.drop()
        self.drop_request()
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
    words = (("grpc-message", quote(details, safe=UNQUOTED, errors="replace")),) if details else ()
    return (status, *words, *texts(trailing))


def texts(metadata: Sequence[Metadatum]) -> Sequence[Field]:
    """Metadata as header fields."""
    if type(metadata) is Texts:
        return metadata
    for _, value in metadata:
        if type(value) is not str:
            break
    else:
        return metadata  # type: ignore[return-value]
    return [(key, value if isinstance(value, str) else text_of(value)) for key, value in metadata]


def text_of(value: bytes) -> str:
    """Octets in Base64, without padding."""
    return base64.b64encode(value).rstrip(b"=").decode("ascii")
