"""A streamed answer of a provider: its events until its end, or until nothing is to be expected of it any more."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Events
from gateway_core.errors import GatewayError, ProviderError
from gateway_core.upstream.http import Answer
from gateway_core.upstream.refusal import Refusals

Item = TypeVar("Item")
Out = TypeVar("Out", covariant=True)
In = TypeVar("In", contravariant=True)

OPENED = ChatCompletionChunk()
"""What `streamed` yields first, once the answer has begun: until then another target may be tried."""

HELD_AT_MOST = 100
"""Events that say nothing of an answer before it counts as begun: hosts may tell how far they are with the prompt."""


class Reader(Protocol[Out]):
    """Finds what a body is made of: the events of SSE, the lines of NDJSON."""

    def feed(self, piece: bytes, /) -> Sequence[Out]:
        """What ends in this piece."""
        ...

    def finish(self) -> Sequence[Out]:
        """What the end of the body cut off."""
        ...


class Decoder(Protocol[In]):
    """What a wire format makes of an answer, and how far that is."""

    @property
    def is_done(self) -> bool:
        """Whether the host said that nothing more comes."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for is there, said or not."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether no answer has begun."""
        ...

    @property
    def patience_seconds(self) -> float | None:
        """For how long, from now, something more is worth waiting for; None: for as long as the answer takes."""
        ...

    def together(self, events: Sequence[In], /) -> Iterator[ChatCompletionChunk]:
        """What events say that arrived together, up to the one that says that nothing more comes.

        Pieces of a text may be put together. Raises ProviderError behind what was said before it.
        """
        ...


class OneByOne(Generic[Item]):
    """A decoder that reads events one by one."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether the host said that nothing more comes."""

    @abstractmethod
    def event(self, event: Item, /) -> ChatCompletionChunk | None:
        """What an event says; None where that is nothing. Raises ProviderError."""

    def together(self, events: Sequence[Item], /) -> Iterator[ChatCompletionChunk]:
        """What events say that arrived together, up to the one that says that nothing more comes."""
        for event in events:
            if self.is_done:
                return
            said = self.event(event)
            if said is not None:
                yield said


class Body(Generic[Item]):
    """The events of a body, in lists of those that arrived together.

    A fault of the connection after the end of every answer is no fault of the answers.
    """

    def __init__(self, answer: Answer, reader: Reader[Item], decoder: Decoder[Item]) -> None:
        """Takes the answer, what finds the events in it, and what has decoded these so far."""
        self._answer = answer
        self._reader = reader
        self._decoder = decoder
        self._seconds: float | None = None
        self._ends_at: float | None = None
        self._ended = False

    async def next(self) -> Sequence[Item] | None:
        """The next events, at times none; None at the end."""
        if self._ended:
            return None
        answer, decoder = self._answer, self._decoder
        try:
            while (piece := answer.taken()) is None:
                # Few frames are between the reader and what it waits for: each event goes through all of them twice.
                seconds = decoder.patience_seconds
                await (answer.wait() if seconds is None else self._wait(seconds))
        except GatewayError:
            if not (decoder.is_done or decoder.is_whole):
                raise
            piece = b""
        if piece:
            return self._reader.feed(piece)
        self._ended = True
        return None if decoder.is_done else self._reader.finish()

    async def _wait(self, seconds: float) -> None:
        """Waits for more, but no longer than so many seconds from when that was waited for first."""
        loop = asyncio.get_running_loop()
        if seconds != self._seconds or self._ends_at is None:
            self._seconds = seconds
            self._ends_at = loop.time() + seconds
        # No asyncio.timeout: it would cancel whatever the task awaits, and a read may be suspended while the task works
        # on what was read before. A read that waits ends with its connection.
        timer = loop.call_at(self._ends_at, self._answer.abort)
        try:
            await self._answer.wait()
        finally:
            timer.cancel()


async def streamed(
    answer: Answer,
    reader: Reader[Item],
    decoder: Decoder[Item],
    refusals: Refusals,
    begins: Callable[[ChatCompletionChunk], bool],
) -> Events:
    """First OPENED, once `begins` says of an event that the answer has begun, and then its events.

    Raises ProviderBroken where the answer has no end, or is none. Closing the generator closes the connection.
    """
    held: list[ChatCompletionChunk] | None = []
    try:
        body = Body(answer, reader, decoder)
        while (arrived := await body.next()) is not None:
            for event in decoder.together(arrived):
                if held is None:
                    yield event
                    continue
                held.append(event)
                if begins(event) or len(held) == HELD_AT_MOST:
                    yield OPENED
                    for first in held:
                        yield first
                    held = None
    finally:
        answer.abort()
    if not (decoder.is_done or decoder.is_whole):
        raise refusals.broken("broke its answer off before its end")
    if decoder.is_empty:
        raise refusals.broken("sent an answer without choices")


def as_sent(_: Mapping[str, str], body: bytes) -> bytes:
    """The body of a refusal that its headers do not add to."""
    return body


async def refused(
    answer: Answer, refusals: Refusals, explained: Callable[[Mapping[str, str], bytes], bytes] = as_sent
) -> ProviderError:
    """The error for an answer with a status of 400 or more, which is read and closed.

    `explained` makes of headers and body a body of a shape that Refusals knows.
    """
    try:
        body = await answer.read()
    except ProviderError:
        # The status tells more than the fault of the body that explains it.
        body = b""
    finally:
        answer.abort()
    return refusals.answer(answer.status, answer.headers, explained(answer.headers, body))
