"""What a servicer sees of its call."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from grpc import StatusCode

from gateway_core.inprocess.metadata import Received, Texts, received

Request = TypeVar("Request")
Response = TypeVar("Response")

SentMetadata: TypeAlias = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]

ABORTED = "Locally aborted."


class Context(grpc.aio.ServicerContext[Request, Response]):
    """The servicer's side of a call; it outlives the caller's side until the servicer has ended."""

    # Class attributes are the state of a call whose servicer asked for nothing: most calls, and nothing to set up.
    status_code: StatusCode | None = None
    """Code that the servicer chose."""
    status_details = ""
    initial: Received | None = None
    """Initial metadata, once they were sent."""
    trailing: Received = ()
    is_aborted = False
    """Whether abort has ended the call, whatever the servicer does after it."""
    invalid = False
    """Whether the servicer sent metadata that no transport would take."""
    ended: StatusCode | None = None
    """Status of the call, once it is decided."""
    invocation: Received = ()
    """The caller's metadata."""
    deadline: float | None = None
    """Time of the loop's clock, in seconds, until which the caller waits. None: for ever."""
    callbacks: tuple[Callable[[Any], None], ...] = ()
    """Who hears that the servicer has ended."""
    _sent: SentMetadata | None = None
    """What the servicer gave for initial metadata."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the loop that the call belongs to."""
        self._loop = loop

    def finish(self) -> None:
        """Tells the servicer's callbacks that the servicer has ended."""
        if self.callbacks and not self._loop.is_closed():
            for callback in self.callbacks:
                self._loop.call_soon(callback, self)
            self.callbacks = ()

    async def send_initial_metadata(self, initial_metadata: SentMetadata) -> None:
        """Sends the initial metadata; raises UsageError the second time."""
        if self.is_aborted:
            raise grpc.aio.AbortError(ABORTED)
        if self.initial is not None:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        try:
            self.initial = received(initial_metadata)
            self._sent = initial_metadata
        except grpc.aio.InternalError:
            self.invalid = True
            raise

    async def abort(self, code: StatusCode, details: str = "", trailing_metadata: SentMetadata = ()) -> NoReturn:
        """Ends the call with a status other than OK, by raising AbortError."""
        if self.is_aborted:
            raise grpc.aio.UsageError("Abort already called!")
        if code is StatusCode.OK or not isinstance(code, StatusCode):
            raise ValueError(f"a call cannot be aborted with {code}")
        # On a socket another sequence is a TypeError; what passes here must pass there.
        if not isinstance(trailing_metadata, tuple):
            raise TypeError(f"Expected tuple, got {type(trailing_metadata)}")
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self.status_code = code
        self.status_details = details or self.status_details
        self.is_aborted = True
        raise grpc.aio.AbortError(ABORTED)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call with a rich status, by raising AbortError."""
        await self.abort(status.code, status.details or "", status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: SentMetadata) -> None:
        """Sets the metadata that the call ends with, in place of any set before."""
        if type(trailing_metadata) is not Texts:
            if trailing_metadata is self._sent and type(trailing_metadata) is tuple:
                self.trailing = self.initial or ()  # the same again, which was looked at
                return
            _check_pairs(trailing_metadata)
        try:
            self.trailing = received(trailing_metadata)
        except grpc.aio.InternalError:
            # A socket finds out when it sends them, at the end.
            self.invalid = True

    def trailing_metadata(self) -> grpc.aio.Metadata:
        """The metadata that were set; a plain tuple, as on a socket, whatever the type stubs say."""
        return cast(grpc.aio.Metadata, self.trailing)

    def invocation_metadata(self) -> grpc.aio.Metadata | None:
        """The caller's metadata; a plain tuple of pairs, as on a socket, whatever the type stubs say."""
        return self.invocation  # type: ignore[return-value]  # cast() would be a call

    def set_code(self, code: StatusCode) -> None:
        """Sets the status that the call ends with."""
        self.status_code = code if isinstance(code, StatusCode) else StatusCode.UNKNOWN

    def code(self) -> StatusCode:
        """The status that was set; None where none was, as on a socket."""
        return cast(StatusCode, self.status_code)

    def set_details(self, details: str) -> None:
        """Sets the sentence that the call ends with."""
        self.status_details = details

    def details(self) -> str:
        """The sentence that was set."""
        return self.status_details

    def time_remaining(self) -> float:
        """Seconds until the deadline; None where there is none, as on a socket."""
        if self.deadline is None:
            return None  # type: ignore[return-value]
        return max(0.0, self.deadline - self._loop.time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has the callback called with this context when the servicer has ended."""
        self.callbacks = (*self.callbacks, callback)

    def done(self) -> bool:
        """Whether the status is decided."""
        return self.ended is not None

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self.ended is StatusCode.CANCELLED

    def peer(self) -> str:
        """The caller: this process."""
        return "inprocess:"

    def peer_identities(self) -> Iterable[bytes] | None:
        """None: nobody authenticated the caller."""
        return None

    def peer_identity_key(self) -> str | None:
        """None: nobody authenticated the caller."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Empty: nobody authenticated the caller."""
        return {}

    def set_compression(self, compression: grpc.Compression) -> None:
        """Does nothing: messages are handed over as they are."""

    def disable_next_message_compression(self) -> None:
        """Does nothing: messages are handed over as they are."""

    async def read(self) -> Request:
        """Raises NotImplementedError: the contract has no streamed requests."""
        raise NotImplementedError("the in-process channel has no streamed requests")

    async def write(self, message: Response) -> None:
        """Raises NotImplementedError: a servicer yields its events."""
        raise NotImplementedError("a servicer on the in-process channel yields its events")


def _check_pairs(metadata: SentMetadata) -> None:
    """Raises TypeError where metadata are no sequence of pairs."""
    if type(metadata) is tuple or not isinstance(metadata, Mapping):
        for item in metadata:
            if not isinstance(item, tuple) or len(item) != 2:
                break
        else:
            return
    raise TypeError(f"Invalid trailing metadata type, expected tuples of two: {type(metadata)}")
