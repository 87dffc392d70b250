"""What changed: published in a transaction, told to this process right after it, and to all others within a second."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.backend import Backend
from gateway_core.storage.outage import Outage

KEY_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed."""

    topic: str
    key: str | None
    """What of the topic; None: anything may have changed."""


Callback = Callable[[Change], None]


class Changes:
    """Tells subscribers what changed.

    A callback is called in the event loop, must not wait, and may be told more than what changed, never less. While
    PostgreSQL's notifications cannot be heard it is told every half second, and once they are heard again, that
    anything may have changed; but not during an outage in which what is remembered is believed. Publish what is changed
    by hand, never what is changed by every call: PostgreSQL commits transactions that notify one after the other.
    """

    def __init__(self, backend: Backend) -> None:
        """Takes the database."""
        self._backend = backend
        self.outage = Outage(backend.answers, lambda: self._tell(None, None))
        self._watcher = backend.watcher(self._tell, self.outage)
        self._subscribers: dict[str, list[Callback]] = {}
        self._published: dict[AsyncConnection, list[Change]] = {}

    def subscribe(self, topic: str, callback: Callback) -> Callable[[], None]:
        """Calls back with every change of the topic, until what is returned is called."""
        self._subscribers.setdefault(topic, []).append(callback)
        return lambda: self._subscribers[topic].remove(callback)

    async def publish(self, connection: AsyncConnection, topic: str, key: str | None = None) -> None:
        """Says that something changes with the transaction of a connection, which `Database.transaction` gave.

        The key is an id, at most KEY_LENGTH characters; None: anything of the topic.
        """
        if len(topic) > KEY_LENGTH or (key is not None and not 0 < len(key) <= KEY_LENGTH):
            raise ValueError(f"the topic and the key of a change have 1 to {KEY_LENGTH} characters")
        if connection not in self._published:
            raise RuntimeError("a change is published outside a transaction that writes")
        self._published[connection].append(Change(topic, key))
        await self._backend.mark(connection, topic, key)

    async def start(self) -> None:
        """Begins to learn what others change; raises CannotOpen."""
        await self._watcher.start()

    async def close(self) -> None:
        """Ends learning."""
        await self._watcher.close()

    def begin(self, connection: AsyncConnection) -> None:
        """Begins to gather what is published with a connection."""
        self._published[connection] = []

    def forget(self, connection: AsyncConnection) -> list[Change]:
        """Ends gathering; what was gathered."""
        return self._published.pop(connection, [])

    def tell(self, changes: list[Change]) -> None:
        """Tells the subscribers in this process."""
        for change in changes:
            self._tell(change.topic, change.key)

    def _tell(self, topic: str | None, key: str | None) -> None:
        for name in (topic,) if topic is not None else tuple(self._subscribers):
            for callback in tuple(self._subscribers.get(name, ())):
                try:
                    callback(Change(name, key))
                except Exception as error:
                    # The others must be told, and who published has done nothing wrong: the loop reports it.
                    report = {"message": f"a subscriber of {name!r} failed", "exception": error}
                    asyncio.get_running_loop().call_exception_handler(report)
