"""How a process on PostgreSQL learns what others changed: a connection that listens, and is made anew when it dies."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.outage import Outage

HEARTBEAT_SECONDS = 0.4
DISTRUST_SECONDS = 0.5
"""Without an answer for so long, what is remembered may be wrong."""
LOST_SECONDS = 5.0
"""Without an answer for so long, the connection is given up."""
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, StorageUnavailable)

log = structlog.get_logger("headgate.storage")


class Listening:
    """Hears the notifications of a channel."""

    def __init__(
        self,
        channel: str,
        connect: Callable[[], Awaitable[Any]],
        heard: Callable[[str], None],
        outage: Outage,
    ) -> None:
        """Takes the channel, how to connect, what to call with each payload, and what is told that it is deaf."""
        self._channel = channel
        self._connect = connect
        self._heard = heard
        self._outage = outage
        self._connection: Any = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen: what is committed after this returns is heard. Raises CannotOpen."""
        await self._listen()
        self._task = asyncio.create_task(self._listen_on(), name="changes of other processes")

    async def close(self) -> None:
        """Ends listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._drop()

    async def _listen_on(self) -> None:
        while True:
            await self._until_lost()
            self._drop()
            log.warning("changes_unheard", message="The connection that hears what other processes change is lost.")
            await self._outage.look()
            listening = asyncio.create_task(self._listen_again(), name="listening again")
            await self._distrusting(listening)
            log.info("changes_heard_again")
            self._outage.end()

    async def _listen_again(self) -> None:
        attempt = 0
        while True:
            try:
                await self._listen()
            except LOST:
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            else:
                return

    async def _listen(self) -> None:
        self._lost = lost = asyncio.Event()
        self._connection = await self._connect()
        self._connection.add_termination_listener(lambda _: lost.set())
        try:
            await self._connection.add_listener(self._channel, lambda _c, _p, _channel, payload: self._heard(payload))
        except BaseException:
            self._drop()
            raise

    async def _until_lost(self) -> None:
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                # A network that swallows packets closes nothing: only a question finds out.
                if not await self._answers():
                    return

    async def _answers(self) -> bool:
        question = asyncio.ensure_future(self._connection.fetchval("SELECT 1", timeout=LOST_SECONDS))
        try:
            was_late = await self._distrusting(question)
        except LOST:
            return False
        if was_late:
            self._outage.end()
        return True

    async def _distrusting(self, task: asyncio.Future[Any]) -> bool:
        """Waits for a task, and says again and again that changes may be missed while it lasts; whether it lasted."""
        is_late = False
        try:
            while not (await asyncio.wait({task}, timeout=DISTRUST_SECONDS))[0]:
                is_late = True
                await self._outage.doubt()
        finally:
            task.cancel()
        await task
        return is_late

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
