"""The body of a streamed answer, until its end, or until nothing is to be expected of it any more."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from gateway_core.errors import GatewayError
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.upstream.http import Answer
from gateway_core.upstream.sse import Event, EventReader


class Body:
    """The events of a body, in lists of those that arrived together.

    A fault of the connection after the end of every answer is no fault of the answers.
    """

    def __init__(
        self, answer: Answer, pieces: AsyncGenerator[bytes, None], reader: EventReader, decoder: Decoder
    ) -> None:
        """Takes the answer and its pieces, what finds the events in them, and what has decoded these so far."""
        self._answer = answer
        self._pieces = pieces
        self._reader = reader
        self._decoder = decoder
        self._seconds: float | None = None
        self._ends_at: float | None = None
        self._ended = False

    async def next(self) -> Sequence[Event] | None:
        """The next events, at times none; None at the end."""
        if self._ended:
            return None
        piece = await self._piece()
        if piece:
            return self._reader.feed(piece)
        self._ended = True
        return None if self._decoder.is_done else self._reader.finish()

    async def _piece(self) -> bytes:
        seconds = self._decoder.patience_seconds
        if seconds is None:
            return await self._received()
        loop = asyncio.get_running_loop()
        if seconds != self._seconds or self._ends_at is None:
            self._seconds = seconds
            self._ends_at = loop.time() + seconds
        # No asyncio.timeout: it would cancel whatever the task awaits, and a read may be suspended while the task works
        # on what was read before. A read that waits ends with its connection.
        timer = loop.call_at(self._ends_at, self._answer.abort)
        try:
            return await self._received()
        finally:
            timer.cancel()

    async def _received(self) -> bytes:
        """The next piece; empty at the end."""
        try:
            return await anext(self._pieces, b"")
        except GatewayError:
            if self._decoder.is_done or self._decoder.is_whole:
                return b""
            raise
