"""One request and its answer: the connection fills it, the caller takes from it, one of the times ends it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from gateway_core import errors
from gateway_core.upstream import faults

Default = TypeVar("Default")
Failure = Callable[[], errors.GatewayError]

NO_FIELDS: Mapping[bytes, bytes] = MappingProxyType({})


class Bounds(NamedTuple):
    """What bounds every exchange with one provider."""

    provider: str
    first_byte_seconds: float
    idle_seconds: float
    total_seconds: float
    answer_bytes: int


class Carrier(Protocol):
    """The connection, as its exchange sees it."""

    def watch(self, when: float) -> None:
        """Looks at the exchange's times no later than then."""

    def resume(self) -> None:
        """Reads on."""

    def abort(self) -> None:
        """Closes at once."""


class Headers(Mapping[str, str]):
    """Headers of an answer; names are found in any case, and the first of a name's values counts."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        """Takes values by names in lower case."""
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        """Raises KeyError where there is none."""
        return self._fields[name.lower().encode()].decode("utf-8", "replace")

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: Default) -> str | Default: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """As of every mapping, without the error that a missing name costs there."""
        value = self._fields.get(name.lower().encode())
        return default if value is None else value.decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        """The names, in lower case."""
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._fields)


class Exchange:
    """What is known of an answer so far."""

    __slots__ = (
        "began_at", "bounds", "carrier", "ends_at", "failure", "fields", "first_byte_at", "is_complete", "is_head",
        "is_paused", "is_unanswered", "is_whole", "loop", "phase", "pieces", "size", "status", "waiter",
        "waiting_since",
    )  # fmt: skip

    def __init__(self, bounds: Bounds, loop: asyncio.AbstractEventLoop, deadline: float | None, is_head: bool) -> None:
        """Begins now; the deadline is of the loop's clock."""
        self.began_at = now = loop.time()
        self.loop = loop
        self.bounds = bounds
        self.first_byte_at = now + bounds.first_byte_seconds
        self.ends_at = now + bounds.total_seconds
        self.phase: faults.Phase | None = "total"
        if deadline is not None and deadline <= self.ends_at:
            self.ends_at = deadline
            self.phase = None
        self.is_head = is_head
        """Whether the answer has no body, whatever its headers say."""
        self.status = 0
        self.fields: Mapping[bytes, bytes] = NO_FIELDS
        """The headers, by their names in lower case."""
        self.pieces: list[bytes] = []
        self.size = 0
        self.carrier: Carrier | None = None
        """None: before the request is sent, and once the answer has ended."""
        self.is_complete = self.is_paused = False
        self.is_whole = False
        """Whether the reader waits for the end, not for the next piece."""
        self.is_unanswered = False
        """Whether the connection ended before a byte of an answer."""
        self.failure: Failure | None = None
        """Makes the error anew each time: one that is raised keeps its frames, and so the exchange that would keep it.
        """
        self.waiter: asyncio.Future[None] | None = None
        self.waiting_since: float | None = None

    def again(self) -> None:
        """Forgets that the connection ended before an answer; the times go on."""
        self.is_unanswered = False
        self.failure = self.waiting_since = None

    def due(self) -> float:
        """When it fails if nothing happens."""
        if not self.status:  # `min` would cost more than all the rest
            return self.first_byte_at if self.first_byte_at < self.ends_at else self.ends_at
        if self.waiting_since is None:
            return self.ends_at
        return min(self.ends_at, self.waiting_since + self.bounds.idle_seconds)

    def overdue(self, now: float) -> Failure | None:
        """What it fails with where nothing has happened until now."""
        if now < self.due():
            return None
        if not self.status:
            return self.unopened()
        return self._out_of_time() if now >= self.ends_at else partial(faults.timeout, self.bounds.provider, "idle")

    def unopened(self) -> Failure:
        """What it fails with where the time for the beginning of an answer has passed."""
        if self.first_byte_at < self.ends_at:
            return partial(faults.timeout, self.bounds.provider, "first_byte")
        return self._out_of_time()

    def wake(self) -> None:
        """Tells the caller, if one waits, that there is something."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def abort(self) -> None:
        """Closes the connection at once, unless the answer has ended."""
        if self.carrier is not None:
            self.carrier.abort()

    def change(self) -> asyncio.Future[None] | None:
        """What is done at the next change. None: there will be none. Who leaves meanwhile has to `abort`, as in `wait`.

        The waiter is resolved by the connection and by its timer, never by cancelling a task: who awaits it may be
        suspended in one task and resumed in another place of it.
        """
        carrier = self.carrier
        if carrier is None:
            return None
        if self.status:  # until then it is not the host's silence that counts
            self.waiting_since = self.loop.time()
        carrier.watch(self.due())
        self.waiter = self.loop.create_future()
        return self.waiter

    async def wait(self) -> None:
        """Waits for the next change; a caller who leaves meanwhile closes the connection."""
        change = self.change()
        if change is None:
            return
        try:
            await change
        except BaseException:
            self.abort()
            raise
        self.waiting_since = None

    def taken(self) -> bytes | None:
        """What has arrived and was not taken; empty at the end. None: nothing yet, and `wait` waits for it."""
        if self.pieces:
            self._check_time()
            return self._taken()
        if self.failure is not None:
            raise self.failure()
        if self.is_complete:
            return b""
        self._check_time()
        return None

    async def whole(self) -> bytes:
        """All that was not taken, once the answer has ended; raises ProviderBroken beyond the bound."""
        limit = self.bounds.answer_bytes
        if not self.is_complete:
            self.is_whole = True
            if self.is_paused and self.size <= limit:
                self._resume()
            while not self.is_complete and self.failure is None and self.size <= limit:
                self._check_time()
                await self.wait()
        return self.all()

    def all(self) -> bytes:
        """The same, of an answer that has ended."""
        limit = self.bounds.answer_bytes
        if self.failure is not None:
            raise self.failure()
        if self.size > limit:
            self.failure = partial(faults.oversized, self.bounds.provider, limit)
            self.abort()
            raise self.failure()
        if self.pieces and self.loop.time() >= self.ends_at:
            self._check_time()
        data = b"".join(self.pieces)  # of one piece, that piece itself
        self.pieces.clear()
        return data

    def _check_time(self) -> None:
        # The timer may be late, and it does not see an answer that has ended and waits for its reader.
        if self.loop.time() >= self.ends_at and self.failure is None:
            self.failure = self._out_of_time()
            self.pieces.clear()
            self.abort()
            raise self.failure()

    def _out_of_time(self) -> Failure:
        provider = self.bounds.provider
        return partial(faults.timeout, provider, self.phase) if self.phase else partial(faults.late, provider)

    def _taken(self) -> bytes:
        pieces = self.pieces
        data = b"".join(pieces)
        pieces.clear()
        self.size = 0
        if self.is_paused:
            self._resume()
        return data

    def _resume(self) -> None:
        self.is_paused = False
        if self.carrier is not None:
            self.carrier.resume()
