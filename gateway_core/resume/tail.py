"""What of another process's stream has been read and not yet taken by the caller who continues it here."""

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence

from gateway_core.redis_store.stream_copies import ENTRIES_AT_ONCE
from gateway_core.resume.sealed import Chunks, News, Seal, Unreadable

QUEUED_BYTES = 256 * 1024
DEAD_SECONDS = 4.0
"""So long a process that runs streams must be missing, while the server answers, to count as dead: longer than it takes
to find out that a server is back."""


class Tail:
    """Entries in their order, from the first that is kept."""

    def __init__(self, seal: Seal, owner: str) -> None:
        """Takes the stream's seal, and the name of the process that runs it."""
        self.seal = seal
        self.owner = owner
        self.token = secrets.token_hex(8)
        """The name of this reader."""
        self.news = asyncio.Event()
        """Set when there may be something to do."""
        self.place = "0-0"
        """The id of the last entry that was read."""
        self.is_caught_up = False
        """Whether all there was has been read."""
        self.is_owner_dead = False
        self._missing_since: float | None = None
        self._entries: deque[tuple[Chunks | News, int]] = deque()
        self._size = 0

    @property
    def wants_more(self) -> bool:
        """Whether there is room."""
        return self._size < QUEUED_BYTES

    def is_before(self, place: str) -> bool:
        """Whether it has read less than up to a place."""
        return order(self.place) < order(place)

    def begin_anew(self) -> None:
        """Reads from the first entry again."""
        self.place, self.is_caught_up, self._size = "0-0", False, 0
        self._entries.clear()

    def take(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Takes what was read."""
        self.is_caught_up = len(entries) < ENTRIES_AT_ONCE
        for identity, data in entries:
            if order(identity) <= order(self.place):
                continue
            self.place = identity
            try:
                entry = self.seal.entry(data)
            except Unreadable:
                continue
            self._entries.append((entry, len(data)))
            self._size += len(data)
        self.news.set()

    def next(self) -> Chunks | News | None:
        """The next entry. None: there is none yet."""
        if not self._entries:
            return None
        entry, size = self._entries.popleft()
        self._size -= size
        return entry

    def hear_owner(self, is_alive: bool, now: float) -> None:
        """Hears whether the process that runs the stream is there, as the server says."""
        if is_alive:
            self._missing_since = None
            self.is_owner_dead = False
        elif self._missing_since is None:
            self._missing_since = now
        else:
            self.is_owner_dead = now - self._missing_since >= DEAD_SECONDS


def order(identity: str) -> tuple[int, int]:
    """What ids of entries are compared by."""
    first, _, second = identity.partition("-")
    return int(first), int(second or 0)
