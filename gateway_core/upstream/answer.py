"""The answer of a provider: iterating reads it, closing it closes the connection, time ends it."""

from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any

from gateway_core import errors
from gateway_core.upstream import faults
from gateway_core.upstream.encoding import Decoder
from gateway_core.upstream.exchange import Exchange, Headers


class Answer:
    """An answer whose status and headers are there: read it to its end, or close it."""

    __slots__ = ("_decoder", "_exchange", "_fields", "status")

    def __init__(self, exchange: Exchange) -> None:
        """Takes over the exchange."""
        self.status = exchange.status
        self._exchange = exchange
        self._fields = exchange.fields
        is_plain = self._fields.get(b"content-encoding", b"identity") == b"identity"
        self._decoder = None if is_plain else Decoder(self.header(b"content-encoding"))

    def __del__(self) -> None:
        # A generator that was never begun closes nothing when it is closed; what it held ends here.
        exchange = self._exchange
        if exchange.carrier is not None and not exchange.loop.is_closed():
            exchange.abort()

    def header(self, name: bytes) -> str:
        """The first value of a header, by its name in lower case. Empty: there is none."""
        value = self._fields.get(name)
        return "" if value is None else value.decode("utf-8", "replace")

    @property
    def headers(self) -> Mapping[str, str]:
        """All of them. Get and `in` take names in any case."""
        return Headers(self._fields)

    def arrived(self) -> bytes | None:
        """The whole body, where it has come with its head, as most do that are not streamed. None: `read` it.

        Raises what that raises.
        """
        return self._exchange.all() if self._decoder is None and self._exchange.is_complete else None

    async def read(self) -> bytes:
        """The whole body, decoded; raises ProviderBroken beyond config.answer_bytes, and what `pieces` raises."""
        if self._decoder is None:
            return await self._exchange.whole()
        limit = self._exchange.bounds.answer_bytes
        body: list[bytes] = []
        size = 0
        while piece := await self._piece():
            body.append(piece)
            size += len(piece)
            if size > limit:
                self.abort()
                raise faults.oversized(self._exchange.bounds.provider, limit)
        return b"".join(body)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, decoded; closing the generator early closes the connection.

        Raises ProviderBroken where the body breaks off, ProviderTimeout where the provider is silent for too long, and
        DeadlineExceeded. A reader that takes its time stops the provider, and is not taken for a provider's silence.
        The deadline closes the connection when it passes, even while nobody reads; the next read raises.
        """
        try:
            while piece := await self._piece():
                yield piece
        finally:
            self.abort()

    def taken(self) -> bytes | None:
        """What has arrived of the body, decoded; empty at its end. None: nothing yet. Raises what `pieces` raises."""
        decoder = self._decoder
        if decoder is None:
            return self._exchange.taken()
        try:
            while not (piece := decoder.piece()):
                received = self._exchange.taken()
                if received is None:
                    return None
                if not received:
                    decoder.finish()
                    return b""
                decoder.feed(received)
        except ValueError:
            self.abort()
            raise self._broken() from None
        return piece

    def wait(self) -> Coroutine[Any, Any, None]:
        """Waits until there may be more to take, or something has gone wrong."""
        return self._exchange.wait()

    def abort(self) -> None:
        """Closes the connection at once, unless the answer has ended."""
        self._exchange.abort()

    async def close(self) -> None:
        """Does what `abort` does."""
        self.abort()

    async def _piece(self) -> bytes:
        """The next piece, decoded; empty at the end."""
        while (piece := self.taken()) is None:
            await self._exchange.wait()
        return piece

    def _broken(self) -> errors.ProviderBroken:
        return faults.broken(self._exchange.bounds.provider, "cut")
