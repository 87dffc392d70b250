"""A stream of another process, continued here from its copy: as one of this process, as far as its caller can tell."""

import asyncio
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

from google.rpc.status_pb2 import Status
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import ResumedStream

from gateway_core.call import Caller
from gateway_core.errors import (
    ChunksGone,
    GatewayError,
    InvalidRequest,
    ProviderBroken,
    Relayed,
    StreamTakenOver,
    Unavailable,
)
from gateway_core.redis_store.link import Away
from gateway_core.resume.begun import Begun
from gateway_core.resume.copies import Copies
from gateway_core.resume.copying import BEGUN, HEAD
from gateway_core.resume.sealed import Chunks, News, Seal, Unreadable, bytes_of
from gateway_core.resume.tail import Tail

OPEN_SECONDS = 10.0
"""So long the process that runs a stream is waited for: longer than it takes to find out that it is dead."""
AWAY_SECONDS = 10.0
"""So long a caller waits for a server that does not answer."""
FORGOTTEN_SECONDS = 5.0
"""So long after the server has forgotten everything a stream that it does not know may still be written anew."""
COPY_SECONDS = 1.0
"""So long a copy is waited for: a stream may just have begun, and its process be busy."""
CLAIM_SECONDS = 1.0
"""So often a stream is claimed until it is granted."""
MUTE_SECONDS = 1.5
"""So long a server is waited for that takes nothing, as one without memory: more than it takes to start anew."""
UNREAD = "What other processes keep of streams cannot be read now: try again."
TOOK_BYTES = 32 * 1024
ATTEMPTS = 3
PROVIDER = "x-headgate-provider"


class Head(NamedTuple):
    """What is kept of a stream beside its chunks."""

    owner: str
    account_id: str
    key_id: str
    asked: ResumedStream
    opening: tuple[tuple[str, str], ...]
    first: int
    """Position of the first chunk that is kept."""
    begun: ChatCompletionChunk
    """What was begun before it."""


class Gap(Exception):
    """Chunks were let go while they were read."""


async def copied_stream(copies: Copies, identity: str, caller: Caller) -> "CopiedStream | None":
    """The copy of a stream, for the account that began it. None: there is none. Raises Unavailable."""
    seal = copies.seal(identity)
    head = await head_of(copies, seal)
    deadline = asyncio.get_running_loop().time() + COPY_SECONDS
    while head is None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(COPY_SECONDS / 10)
        head = await head_of(copies, seal)
    if head is None or head.account_id != caller.account_id:
        return None
    if caller.kind == "public" and head.key_id != caller.key_id:
        return None
    return CopiedStream(copies, seal, head)


async def head_of(copies: Copies, seal: Seal) -> Head | None:
    """What is kept of a stream beside its chunks. None: nothing. Raises Unavailable."""
    try:
        found = await copies.store.head(seal.key)
        is_known = bool(found) or not await copies.store.has_forgotten(FORGOTTEN_SECONDS)
    except Away:
        is_known = False
    if not is_known:
        raise Unavailable(UNREAD, retry_after_seconds=1.0)
    try:
        document = seal.document(found[b"head"], HEAD)
        beginning = seal.open(found[b"begun"], BEGUN)
        owner = found[b"owner"].decode()
    except (KeyError, Unreadable):
        return None
    asked = ResumedStream.FromString(bytes_of(document["asked"]))
    opening = tuple((key, value) for key, value in document["opening"])
    begun = ChatCompletionChunk.FromString(beginning[8:])
    first = int.from_bytes(beginning[:8], "big")
    return Head(owner, document["account"], document["key"], asked, opening, first, begun)


class CopiedStream:
    """For a caller: a context in which it has the stream. Iterating gives positions and chunks, as a Listener does."""

    def __init__(self, copies: Copies, seal: Seal, head: Head) -> None:
        """Takes the copies that this process reads, the stream's seal, and what is kept of it."""
        self._copies = copies
        self._seal = seal
        self._head = head
        self._tail = Tail(seal, head.owner)
        self._begin()
        self._ready: deque[tuple[int, ChatCompletionChunk, int]] = deque()
        self._after = 0
        self._is_granted = False
        self._end: News | None = None
        self._taken = 0
        """Position of the last chunk that the caller has."""
        self._untold = 0
        """Bytes of which the stream's process has not heard that they were taken."""
        self._away_since: float | None = None
        self.trailing: tuple[tuple[str, str], ...] = ()
        """What is told at the end of the call."""

    @property
    def opening(self) -> tuple[tuple[str, str], ...]:
        """What its first caller was told when the provider had accepted."""
        return self._head.opening

    @property
    def resumed(self) -> ResumedStream:
        """What is told first: what was asked, and what had been begun by the position behind which it goes on."""
        told = ResumedStream(begun=self._begun.chunk)
        told.MergeFrom(self._head.asked)
        return told

    def __enter__(self) -> Self:
        self._copies.attach(self._tail)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.detach(self._tail)

    async def open(self, after: int, seconds: float | None) -> None:
        """Takes the stream over behind a position; raises as `ResumableStream.listen`, and Unavailable."""
        self._after = self._taken = after
        self._check(after)
        now = asyncio.get_running_loop().time
        began, claim_at, attempts = now(), 0.0, 1
        while not self._is_open(now() - began):
            if not self._is_granted and now() >= claim_at:
                # A word may be lost, with the server that had it.
                self._copies.ask(self._tail, "claim", position=after, seconds=seconds)
                claim_at = now() + CLAIM_SECONDS
            try:
                if not self._absorb():
                    await self._wait()
            except Gap:
                attempts += 1
                if attempts > ATTEMPTS:
                    raise Unavailable("The chunks of the stream go faster than they are read: try again.") from None
                await self._begin_anew()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, ChatCompletionChunk]:
        """The next chunk and its position."""
        while not self._ready:
            try:
                if not self._absorb():
                    self._raise_end()
                    await self._wait()
            except Gap:
                raise ChunksGone("Chunks of the stream are no longer kept.") from None
        self._taken, chunk, size = self._ready.popleft()
        self._untold += size
        if self._untold >= TOOK_BYTES:
            self._tell()
        return self._taken, chunk

    def _begin(self) -> None:
        self._begun = Begun()
        self._begun.chunk.CopyFrom(self._head.begun)
        self._position = self._head.first - 1
        """Of the last chunk that was read."""

    async def _begin_anew(self) -> None:
        head = await head_of(self._copies, self._seal)
        if head is not None:
            self._head = head
        self._check(self._after)
        self._begin()
        self._ready.clear()
        self._tail.begin_anew()
        self._copies.wake_reading()

    def _check(self, after: int) -> None:
        if after < 0:
            raise InvalidRequest("after_sequence must not be negative.", param="after_sequence")
        first = self._head.first
        if after < first - 1:
            message = f"The chunks up to {first - 1} are no longer kept; those behind are."
            raise ChunksGone(message, first_sequence=str(first))

    def _is_open(self, waited: float) -> bool:
        """Whether there is nothing to wait for before the first response."""
        tail = self._tail
        is_all = tail.is_caught_up and (self._end is not None or tail.is_owner_dead)
        if self._position < self._after:
            if is_all:
                message = f"after_sequence must be between 0 and {self._position}, the last chunk that there is."
                raise InvalidRequest(message, param="after_sequence")
        elif self._is_granted or is_all:
            return True
        if waited >= MUTE_SECONDS and not self._copies.store.link.is_up:
            raise Unavailable(UNREAD, retry_after_seconds=1.0)
        if waited >= OPEN_SECONDS:
            raise Unavailable("The process that runs the stream does not answer: try again.")
        return False

    def _absorb(self) -> bool:
        """Takes the next entry that was read; whether there was one. Raises Gap, and what the stream ends with."""
        was_full = not self._tail.wants_more
        entry = self._tail.next()
        if entry is None:
            return False
        if was_full and self._tail.wants_more:
            self._copies.wake_reading()
        if isinstance(entry, Chunks):
            self._take(entry)
        else:
            self._hear(entry)
        return True

    def _take(self, entry: Chunks) -> None:
        for position, data in enumerate(entry.chunks, entry.first):
            if position <= self._position:
                continue
            if position != self._position + 1:
                raise Gap
            self._position = position
            chunk = ChatCompletionChunk.FromString(data)
            if position <= self._after:
                self._begun.add(chunk)
            else:
                self._ready.append((position, chunk, len(data)))

    def _hear(self, news: News) -> None:
        if news.is_over:
            self._end = news
            self.trailing = news.trailing
        elif news.listener == self._tail.token:
            if news.status:
                raise relayed(news.status)
            self._is_granted = True
        elif self._is_granted and not news.status:
            raise StreamTakenOver("Another caller continues this stream now.")

    def _raise_end(self) -> None:
        """Raises what the stream has ended with, where it has and all was read."""
        tail = self._tail
        if self._end is not None and tail.is_caught_up:
            raise relayed(self._end.status) if self._end.status else StopAsyncIteration
        if tail.is_owner_dead and tail.is_caught_up:
            provider = dict(self.opening).get(PROVIDER, "")
            message = (
                "The process that ran the stream has died, or lost Redis: what was kept is told, and it is not whole."
            )
            raise ProviderBroken(message, provider=provider)

    async def _wait(self) -> None:
        """Waits for news, a second or so; raises Unavailable where the server has been away for long."""
        self._tell()
        link, now = self._copies.store.reading, asyncio.get_running_loop().time()
        self._away_since = None if link.is_up else self._away_since or now
        if self._away_since is not None and now - self._away_since >= AWAY_SECONDS:
            raise Unavailable("What other processes keep of streams cannot be read now: go on later.")
        self._tail.news.clear()
        await self._tail.news.wait()

    def _tell(self) -> None:
        """Says what was taken: that more may be read of the provider, and that somebody is here."""
        self._untold = 0
        if self._is_granted:
            self._copies.ask(self._tail, "took", position=self._taken)


def relayed(status: bytes) -> GatewayError:
    """A failure as the process that met it tells it."""
    return Relayed(Status.FromString(status))
