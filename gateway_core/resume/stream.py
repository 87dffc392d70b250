"""A stream that outlives the loss of its caller: it is read by a task of its own, and listened to by one caller."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import ResumedStream
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Events, Next
from gateway_core.errors import ChunksGone, InvalidRequest, ShuttingDown, StreamTakenOver
from gateway_core.resume.buffer import Buffer

# The loop's timers and gRPC's do not tick together: who is lost so little before the deadline has reached it.
DEADLINE_SLACK_SECONDS = 0.05


class ResumableStream:
    """A call, its chunks, and who listens.

    While somebody listens, the provider is read when the listener has taken all there is, as in any other call. While
    nobody does, it is read until the buffer is full; then it waits, and so does the provider.
    """

    def __init__(
        self, identity: str, call: Call[Any], seconds: float, size: int, over: Callable[["ResumableStream"], None]
    ) -> None:
        """Takes the id, the call, how long it goes on without a listener, how much is kept, and who hears of its end.

        `over` is called once: when the stream can no longer be continued.
        """
        self.id = identity
        self.call = call
        self.asked = ResumedStream(model=call.model)
        """What the caller asked for, before any stage has changed it."""
        if call.request.HasField("stream_options"):
            self.asked.stream_options.CopyFrom(call.request.stream_options)
        self.seconds = seconds
        self.buffer = Buffer()
        self.listener: StreamListener | None = None
        self.is_told = False
        """Whether anybody can know the id. Before, a lost caller ends the call: nobody could continue it."""
        self.is_open = False
        """Whether the provider has accepted."""
        self.is_over = False
        """Whether there are no more chunks to come."""
        self.error: BaseException | None = None
        """Why it has ended so, where it did not end well."""
        self.opening: tuple[tuple[str, str], ...] = ()
        """What its caller was told when the provider had accepted."""
        self.watch: Callable[[], None] | None = None
        """Who hears of each chunk, of the end, and that the id is known. None: nobody."""
        self.is_closing = False
        """Whether it ends with its listener, whatever was asked."""
        self._is_ending = False
        self.size = size
        """Bytes that its buffer may have."""
        self._over = over
        self._read_on = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, pipeline: Next[Any]) -> "asyncio.Task[None]":
        """Begins the call, in the task returned, which belongs to whoever starts it."""
        self._task = asyncio.create_task(self._run(pipeline), name=f"the stream {self.call.request_id}")
        return self._task

    def listen(self, after: int, seconds: float | None = None) -> "Listener":
        """A context in which its caller has the stream, behind the position `after`; who had it before loses it.

        `seconds`: how long the stream goes on without a listener from now on. None: as before. Raises ChunksGone,
        InvalidRequest.
        """
        listener = Listener(self, after)
        self.give(listener, after, seconds)
        return listener

    def give(self, listener: "StreamListener", after: int, seconds: float | None = None) -> None:
        """Gives the stream to a listener; as `listen` says."""
        if not 0 <= after <= self.buffer.last:
            message = f"after_sequence must be between 0 and {self.buffer.last}, the last chunk that there is."
            raise InvalidRequest(message, param="after_sequence")
        first = self.buffer.first
        if after < first - 1:
            message = f"The chunks up to {first - 1} are no longer kept; those behind are."
            raise ChunksGone(message, id=self.id, first_sequence=str(first))
        if seconds is not None:
            self.seconds = seconds
        self._set_expiry(None)
        before, self.listener = self.listener, listener
        if before is not None:
            before.hear()

    def tell_id(self, opening: tuple[tuple[str, str], ...]) -> None:
        """Hears that its caller is being told the id, and what else."""
        self.opening, self.is_told = opening, True
        if self.watch is not None:
            self.watch()

    def leave(self, listener: "StreamListener") -> None:
        """Hears that a listener is gone."""
        if self.listener is not listener:
            return
        self.listener = None
        left_seconds = self._left_seconds()
        if self.is_over and (not self.is_told or self.is_closing or not self.seconds):
            self._over(self)
        elif self.is_over:
            self._set_expiry(self.seconds)
        elif not self.is_told or self.is_closing or not self.seconds or left_seconds <= DEADLINE_SLACK_SECONDS:
            self.end()
        else:
            self._read_on.set()
            self._set_expiry(min(self.seconds, left_seconds))

    def wants_more(self) -> None:
        """Hears that the listener has taken all there is."""
        self._read_on.set()

    def forget(self, sent: int) -> None:
        """Lets go of what was sent long ago, in chunks up to the position `sent`."""
        self.buffer.forget(sent, self.size // 2)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the call, if it has not ended: the provider's connection closes. Listeners get the error."""
        self._set_expiry(None)
        if self._task is None or self._task.done():
            self._over(self)
        elif not self._is_ending:
            self._is_ending = True
            self.error = error
            self._task.cancel()

    async def _run(self, pipeline: Next[Any]) -> None:
        try:
            events = await pipeline(self.call)
            try:
                self.is_open = True
                self._tell()
                await self._read(events)
            finally:
                await events.aclose()
        except Exception as error:
            self.error = error.with_traceback(None)
        except BaseException:
            self.error = self.error or ShuttingDown("The call was ended by the server.")
            raise
        finally:
            self.is_over = True
            # What was asked can be large, and is of no use any more while the answer is kept. At the next turn of the
            # loop: the telemetry tells of the call at the end of this one.
            asyncio.get_running_loop().call_soon(self._forget)
            self._tell()
            if self.listener is None and self._expiry is None:
                self._over(self)

    def _forget(self) -> None:
        self.call.request = ChatCompletionSpec()
        self.call.record = self.call.route = None
        # One that was cancelled knows by what, and that knows all that the call held: the collector would have to free
        # it.
        self._task = None

    async def _read(self, events: Events) -> None:
        while True:
            while not self._may_read():
                self._read_on.clear()
                await self._read_on.wait()
            try:
                chunk = await anext(events)
            except StopAsyncIteration:
                return
            self.buffer.append(chunk)
            self._tell()

    def _may_read(self) -> bool:
        return self.buffer.size < self.size if self.listener is None else self.listener.may_read

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener.hear()
        if self.watch is not None:
            self.watch()

    def _left_seconds(self) -> float:
        """Until the caller's deadline."""
        deadline = self.call.deadline
        if deadline is None:
            return float("inf")
        return deadline - asyncio.get_running_loop().time()

    def _set_expiry(self, seconds: float | None) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.end)


class StreamListener(Protocol):
    """Who has a stream."""

    @property
    def may_read(self) -> bool:
        """Whether more may be read from the provider."""

    def hear(self) -> None:
        """Hears that there is more, that the stream is over, or that another one has it."""


class Listener:
    """A caller that reads a stream: positions and chunks, the first behind where it listens from.

    Reading raises what the call has failed with, and StreamTakenOver once another one listens.
    """

    def __init__(self, stream: ResumableStream, after: int) -> None:
        """Takes the stream, and the position of the chunk before the first that is read."""
        self._stream = stream
        self._position = after
        self.may_read = False
        """Whether it has taken all there is."""
        self.news = asyncio.Event()
        """Set when it may have something to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.leave(self)

    def hear(self) -> None:
        """Wakes its reader."""
        # That may be long in coming, since whoever reads may have begun to, and be writing what it has read before.
        self.may_read = False
        self.news.set()

    async def opened(self) -> None:
        """Waits until the provider has accepted; raises what the call has failed with."""
        while not self._stream.is_open:
            self._raise_end()
            self.news.clear()
            await self.news.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, ChatCompletionChunk]:
        """The next chunk and its position."""
        stream = self._stream
        while True:
            self._check_is_current()
            if self._position < stream.buffer.last:
                self._position += 1
                chunk = stream.buffer.chunk(self._position)
                stream.forget(self._position)
                return self._position, chunk
            self._raise_end()
            await self._wait()

    async def _wait(self) -> None:
        self.may_read = True
        self._stream.wants_more()
        self.news.clear()
        try:
            await self.news.wait()
        finally:
            self.may_read = False

    def _check_is_current(self) -> None:
        if self._stream.listener is not self:
            raise StreamTakenOver("Another caller continues this stream now.")

    def _raise_end(self) -> None:
        self._check_is_current()
        if self._stream.is_over:
            raise self._stream.error or StopAsyncIteration
