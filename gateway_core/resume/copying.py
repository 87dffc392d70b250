"""The copy of one stream that its process keeps outside, for others to go on with: what is to be added to it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway_core.call import Call
from gateway_core.errors import GatewayError, Internal
from gateway_core.redis_store.stream_copies import Addition
from gateway_core.resume.sealed import News, Seal, text_of
from gateway_core.resume.stream import ResumableStream

ENTRY_BYTES = 64 * 1024
ADDITION_BYTES = 256 * 1024
NEWS_AT_MOST = 64
CLAIMS_AT_MOST = 64
"""So many of the last are known, so that whoever repeats one takes the stream from nobody who came later."""
MARGIN_SECONDS = 60.0
"""So much longer than a stream is kept by its process its copy is."""
REFRESH_SECONDS = 20.0
WINDOW_BYTES = 256 * 1024
"""So far, and half a buffer at most, the provider is read ahead of a caller at another process."""
LISTENER_SECONDS = 10.0
"""Without a word from it, the process of a caller counts as gone."""
HEAD, BEGUN = b"head", b"begun"

Trailing = Callable[[Call[Any]], tuple[tuple[str, str], ...]]
"""What is told at the end of a call."""


class Copy:
    """What was copied of a stream, and what is to be. Nothing is held twice: chunks are taken from the stream's buffer.

    Where the server has forgotten what was copied, or chunks were let go before they were, the copy begins anew.
    """

    def __init__(self, stream: ResumableStream, seal: Seal, owner: str, trailing: Trailing) -> None:
        """Takes the stream, its seal, the name of this process, and what tells of the call's end."""
        self.stream = stream
        self.seal = seal
        self.is_new = True
        """Whether nothing of it is outside, as far as is known."""
        self._owner = owner
        self._trailing = trailing
        self._last = 0
        """Position of the last chunk that was copied."""
        self._count = 0
        """Of all entries, so that ids rise and none comes twice."""
        self._entries: deque[tuple[int, str, int]] = deque()
        """Those outside: position of the last chunk, id, size."""
        self._news: deque[News] = deque()
        self._is_end_told = False
        self._added_at = 0.0
        self._answered: deque[str] = deque(maxlen=CLAIMS_AT_MOST)

    @property
    def is_behind(self) -> bool:
        """Whether there is something to copy."""
        stream = self.stream
        if not stream.is_told:
            return False
        ends = stream.is_over and not self._is_end_told
        return self.is_new or bool(self._news) or self._last < stream.buffer.last or ends

    @property
    def is_stale(self) -> bool:
        """Whether it would soon expire."""
        return self.stream.is_told and asyncio.get_running_loop().time() - self._added_at >= REFRESH_SECONDS

    def say(self, news: News) -> None:
        """Adds news."""
        if len(self._news) >= NEWS_AT_MOST:
            self._news.popleft()
        self._news.append(news)

    def answers(self, token: str) -> bool:
        """Whether a claim is to be answered: not one that was, and is repeated because the answer was not yet read."""
        if token in self._answered:
            return False
        self._answered.append(token)
        return True

    def addition(self) -> Addition:
        """The next of what is to be added; `added` must hear of it."""
        stream, buffer = self.stream, self.stream.buffer
        if self._last < buffer.first - 1 and not self.is_new:
            self.is_new = True
        before = str(self._count)
        head: dict[str, bytes] = {}
        if self.is_new:
            before = ""
            self._entries.clear()
            self._last = buffer.first - 1
            self._is_end_told = False
            head = {"owner": self._owner.encode(), "head": self._head(), **self._beginning()}
        entries: list[tuple[str, bytes]] = []
        self._add_chunks(entries)
        while self._news:
            entries.append((self._next_id(0), self.seal.news(self._news.popleft())))
        if stream.is_over and self._last == buffer.last and not self._is_end_told:
            self._is_end_told = True
            entries.append((self._next_id(0), self.seal.news(self._end())))
        first = self._trimmed()
        if first and not self.is_new:
            head = self._beginning()
        keep_seconds = stream.seconds + MARGIN_SECONDS
        if not entries:
            self._count += 1
        return Addition(self.seal.key, before, str(self._count), keep_seconds, first, head, entries)

    def added(self, was_there: bool) -> None:
        """Hears whether the server had what was there before; where it had not, all is added anew."""
        self.is_new = not was_there
        if was_there:
            self._added_at = asyncio.get_running_loop().time()
            return
        listener = self.stream.listener
        news = News(listener.token if isinstance(listener, RemoteListener) else "")
        if listener is not None and news not in self._news:
            self.say(news)

    def _add_chunks(self, entries: list[tuple[str, bytes]]) -> None:
        buffer, total = self.stream.buffer, 0
        while self._last < buffer.last and total < ADDITION_BYTES:
            first, size = self._last + 1, 0
            chunks: list[bytes] = []
            while self._last < buffer.last and (not chunks or size < ENTRY_BYTES):
                self._last += 1
                chunks.append(buffer.data(self._last))
                size += len(chunks[-1])
            entries.append((self._next_id(size), self.seal.chunks(first, chunks)))
            total += size

    def _next_id(self, size: int) -> str:
        self._count += 1
        identity = f"{self._last}-{self._count}"
        self._entries.append((self._last, identity, size))
        return identity

    def _trimmed(self) -> str:
        """The id of the first entry that must stay, where enough others need not. Empty: all stay."""
        first = self.stream.buffer.first
        size, count = 0, 0
        for last, _, each in self._entries:
            if last >= first:
                break
            size, count = size + each, count + 1
        if size < ENTRY_BYTES and size < self.stream.size // 8:
            return ""
        for _ in range(count):
            self._entries.popleft()
        return self._entries[0][1] if self._entries else ""

    def _beginning(self) -> dict[str, bytes]:
        buffer = self.stream.buffer
        begun = buffer.begun(buffer.first - 1).SerializeToString()
        first = buffer.first.to_bytes(8, "big")
        return {"begun": self.seal.seal(first + begun, BEGUN)}

    def _head(self) -> bytes:
        stream = self.stream
        caller = stream.call.caller
        document = {
            "account": caller.account_id,
            "key": caller.key_id,
            "asked": text_of(stream.asked.SerializeToString()),
            "opening": stream.opening,
        }
        return self.seal.sealed_document(document, HEAD)

    def _end(self) -> News:
        error = self.stream.error
        return News("", b"" if error is None else status_of(error), True, self._trailing(self.stream.call))


class RemoteListener:
    """A caller at another process, as the stream's own process knows it: by what is heard of it."""

    def __init__(self, copy: Copy, token: str, after: int) -> None:
        """Takes the copy that it reads, its name, and the position behind which it begins."""
        self.token = token
        self.heard_at = asyncio.get_running_loop().time()
        self._copy = copy
        self._stream = copy.stream
        self._position = self._counted = after
        self._ahead = 0
        self._window = min(WINDOW_BYTES, copy.stream.size // 2)

    @property
    def may_read(self) -> bool:
        """Whether what it has not yet taken is little enough."""
        return self._ahead < self._window

    def hear(self) -> None:
        """Counts what is new; where another one has the stream, its reader is told."""
        if self._stream.listener is not self:
            other = self._stream.listener
            self._copy.say(News(other.token if isinstance(other, RemoteListener) else ""))
            return
        buffer = self._stream.buffer
        while self._counted < buffer.last:
            self._counted += 1
            self._ahead += buffer.size_of(self._counted)

    def took(self, position: int) -> None:
        """Hears up to which position it has taken chunks, or that it is still there."""
        self.heard_at = asyncio.get_running_loop().time()
        buffer = self._stream.buffer
        position = min(position, self._counted)
        while self._position < position:
            self._position += 1
            self._ahead -= buffer.size_of(self._position)
        self._stream.forget(self._position)
        if self.may_read:
            self._stream.wants_more()


def status_of(error: BaseException) -> bytes:
    """What callers are told of a failure: a google.rpc.Status."""
    told = error if isinstance(error, GatewayError) else Internal("Headgate failed; the log tells why.")
    status: bytes = told.to_status().SerializeToString()
    return status
