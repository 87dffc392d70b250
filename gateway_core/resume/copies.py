"""Copies of streams by Redis: those that this process keeps of its own, and those of others that it reads.

Two tasks do it all, beside the streams: one writes, in batches, and one waits for what others write. A server that does
not answer holds nothing up here; when it is back, what it has forgotten is written anew.
"""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from gateway_core.errors import GatewayError, Unavailable
from gateway_core.redis_store.link import Away
from gateway_core.redis_store.stream_copies import Ask, CopyStore
from gateway_core.redis_store.unending import unending
from gateway_core.resume.copying import LISTENER_SECONDS, Copy, RemoteListener, Trailing, status_of
from gateway_core.resume.sealed import News, Seal, Unreadable, key_of
from gateway_core.resume.stream import ResumableStream
from gateway_core.resume.tail import Tail
from gateway_core.storage.secret_box import SecretBox

BATCH_SECONDS = 0.02
BEAT_SECONDS = 1.0
AGAIN_SECONDS = 0.25
AGAIN_AT_MOST = 2.0
"""Between two attempts while the server is away: twice as long each time, up to so long."""
LAST_SECONDS = 2.0
"""For what is still to be written when this process ends."""
COPIES_AT_ONCE = 16
FORGOTTEN_AT_ONCE = 100
UNSAID_AT_MOST = 10_000
LEAVE = "leave"
ASK = b"a"
FIRST_ASK = "0-0"


class Copies:
    """Owns the two tasks. Belongs to one event loop, between `start` and `close`."""

    def __init__(self, store: CopyStore, box: SecretBox, trailing: Trailing, tails: int) -> None:
        """Takes where copies are, their seal, what tells of the end of a call, and how many of others' may be read."""
        self.store = store
        self._box = box
        self._trailing = trailing
        self._tails_at_most = tails
        self.owner = secrets.token_hex(8)
        """The name of this process, which no other had or will have."""
        self._copies: dict[str, Copy] = {}
        self._behind: dict[str, Copy] = {}
        self._forgotten: list[str] = []
        self._tails: set[Tail] = set()
        self._asks: dict[tuple[str, str, str], Ask] = {}
        self._wake = asyncio.Event()
        self._is_busy = asyncio.Event()
        self._asked_from = FIRST_ASK
        self._has_beaten = False
        self._beat_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins."""
        tasks = (("writing copies of streams", self._write), ("reading copies of streams", self._read))
        self._tasks = [asyncio.create_task(unending(work, name), name=name) for name, work in tasks]

    async def close(self) -> None:
        """Writes what is left, for as long as that may take, and ends. Copies of what was cut off stay for others."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            with suppress(Away, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    while self._behind:
                        await self._add()
                    if self._has_beaten:
                        await self.store.end(self.owner)
        await self.store.close()

    def seal(self, identity: str) -> Seal:
        """That of the stream with this id."""
        return Seal(self._box, identity)

    def keep(self, stream: ResumableStream) -> None:
        """Begins to copy a stream, once its id is known to its caller."""
        copy = Copy(stream, self.seal(stream.id), self.owner, self._trailing)
        self._copies[copy.seal.key] = copy
        stream.watch = partial(self._hear, copy)
        self._is_busy.set()

    def forget(self, stream: ResumableStream) -> None:
        """Deletes the copy of a stream that can no longer be continued."""
        key = key_of(stream.id)
        copy = self._copies.pop(key, None)
        stream.watch = None
        if copy is not None:
            self._behind.pop(key, None)
            if stream.is_told:
                self._forgotten.append(key)
                self._wake.set()

    def attach(self, tail: Tail) -> None:
        """Begins to read another process's copy; raises Unavailable where too many are read."""
        if len(self._tails) >= self._tails_at_most:
            raise Unavailable("As many streams of other processes as may be are continued here: try again.")
        self._tails.add(tail)
        self._is_busy.set()
        self.wake_reading()

    def detach(self, tail: Tail) -> None:
        """Reads it no more, and says so."""
        self._tails.discard(tail)
        for op in ("claim", "took"):
            # What has not been said yet would come too late: another may have the stream by then.
            self._asks.pop((tail.seal.key, tail.token, op), None)
        self.ask(tail, LEAVE)

    def ask(self, tail: Tail, op: str, **document: Any) -> None:
        """Has something said to the process that runs a stream, soon."""
        sealed = tail.seal.sealed_document({"op": op, "token": tail.token, **document}, ASK)
        self._asks[tail.seal.key, tail.token, op] = Ask(tail.owner, tail.seal.key, sealed)
        self._wake.set()

    def wake_reading(self) -> None:
        """Has what is read chosen anew."""
        self._asks["", "", ""] = Ask(self.owner, "", b"")
        self._wake.set()

    def _hear(self, copy: Copy) -> None:
        if copy.is_behind:
            self._behind[copy.seal.key] = copy
            self._wake.set()

    async def _write(self) -> None:
        again = AGAIN_SECONDS
        self._wake.set()
        while True:
            has_work = bool(self._copies or self._tails or self._forgotten)
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS if has_work else None):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._beat()
                await self._say()
                # What comes meanwhile waits for the next batch.
                for _ in range(0, len(self._behind), COPIES_AT_ONCE):
                    await self._add()
            except Away:
                await asyncio.sleep(again)
                again = min(2 * again, AGAIN_AT_MOST)
                self._wake.set()
            else:
                again = AGAIN_SECONDS
                if self._behind:
                    self._wake.set()
                await asyncio.sleep(BATCH_SECONDS)

    async def _beat(self) -> None:
        """Says from time to time that this process is there, and finds out whether the server has forgotten it."""
        now = asyncio.get_running_loop().time()
        if now - self._beat_at < BEAT_SECONDS:
            return
        for tail in self._tails:
            tail.news.set()
        self._leave_the_silent(now)
        if not (self._copies or self._tails):
            self._has_beaten = False
            return
        was_known = await self.store.beat(self.owner)
        if self._has_beaten and not was_known:
            for copy in self._copies.values():
                copy.added(False)
        self._has_beaten, self._beat_at = True, now
        for copy in self._copies.values():
            if copy.is_behind or copy.is_stale:
                self._behind[copy.seal.key] = copy
        if self._tails:
            alive = await self.store.alive(sorted({tail.owner for tail in self._tails}))
            for tail in self._tails:
                tail.hear_owner(alive.get(tail.owner, False), now)

    async def _say(self) -> None:
        asks, self._asks = self._asks, {}
        if asks:
            try:
                await self.store.ask(list(asks.values()))
            except BaseException:
                # They are said once the server is back; what has been asked meanwhile is newer.
                self._asks = {**self._of_use(asks), **self._asks}
                raise
        while self._forgotten:
            await self.store.forget(self._forgotten[:FORGOTTEN_AT_ONCE])
            del self._forgotten[:FORGOTTEN_AT_ONCE]

    def _of_use(self, asks: dict[tuple[str, str, str], Ask]) -> dict[tuple[str, str, str], Ask]:
        """Of what was not said, what it is not too late for: a caller who has left the stream asks for nothing more."""
        here = {tail.token for tail in self._tails}
        kept = [key for key in asks if key[2] == LEAVE or key[1] in here]
        return {key: asks[key] for key in kept[-UNSAID_AT_MOST:]}

    async def _add(self) -> None:
        """Writes a part of what is behind."""
        copies = [self._behind.pop(key) for key in list(self._behind)[:COPIES_AT_ONCE]]
        copies = [copy for copy in copies if copy.is_behind or copy.is_stale]
        found = [False] * len(copies)
        try:
            found = await self.store.add([copy.addition() for copy in copies]) if copies else []
        finally:
            for copy, was_there in zip(copies, found, strict=True):
                copy.added(was_there)
                # It may have ended meanwhile.
                if copy.is_behind and copy.seal.key in self._copies:
                    self._behind[copy.seal.key] = copy

    async def _read(self) -> None:
        while True:
            if not (self._copies or self._tails):
                self._is_busy.clear()
                await self._is_busy.wait()
            tails = [tail for tail in self._tails if tail.wants_more]
            positions: dict[str, str] = {}
            for tail in tails:
                if tail.seal.key not in positions or tail.is_before(positions[tail.seal.key]):
                    positions[tail.seal.key] = tail.place
            try:
                read, self._asked_from = await self.store.read(self.owner, self._asked_from, positions)
            except Away:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for tail in tails:
                tail.take(read.entries.get(tail.seal.key, ()))
            for key, sealed in read.asks:
                self._answer(key, sealed)

    def _answer(self, key: str, sealed: bytes) -> None:
        """Does what a reader of a stream of this process asks."""
        copy = self._copies.get(key)
        if copy is None:
            return
        try:
            document = copy.seal.document(sealed, ASK)
        except Unreadable:
            return
        token, position, op = document["token"], document.get("position", 0), document["op"]
        listener = copy.stream.listener
        is_its = isinstance(listener, RemoteListener) and listener.token == token
        if op == "claim" and copy.answers(token):
            give(copy, token, position, document["seconds"])
            self._hear(copy)
        elif isinstance(listener, RemoteListener) and is_its and op == "took":
            listener.took(position)
        elif isinstance(listener, RemoteListener) and is_its and op == LEAVE:
            copy.stream.leave(listener)

    def _leave_the_silent(self, now: float) -> None:
        for copy, listener in list(self._remote()):
            if now - listener.heard_at > LISTENER_SECONDS:
                copy.stream.leave(listener)

    def _remote(self) -> Iterator[tuple[Copy, RemoteListener]]:
        for copy in self._copies.values():
            if isinstance(copy.stream.listener, RemoteListener):
                yield copy, copy.stream.listener


def give(copy: Copy, token: str, after: int, seconds: float | None) -> None:
    """Gives a stream to a caller at another process, or says why not."""
    listener = RemoteListener(copy, token, after)
    try:
        copy.stream.give(listener, after, seconds)
    except GatewayError as error:
        copy.say(News(token, status_of(error)))
        return
    copy.say(News(token))
    listener.hear()
    copy.stream.wants_more()
