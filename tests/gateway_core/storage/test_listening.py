"""Changes of others that cannot be heard, and of which nobody says that they cannot."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.storage import listening, outage
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.listening import Listening
from gateway_core.storage.outage import Outage
from tests.support.upstream import reached

SHIPPED_SECONDS = listening.HEARTBEAT_SECONDS + listening.DISTRUST_SECONDS


class Connection:
    """Listens, and answers questions while it is asked to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.end: Callable[[object], None] = print

    def add_termination_listener(self, end: Callable[[object], None]) -> None:
        self.end = end

    async def add_listener(self, channel: str, heard: object) -> None:
        pass

    async def fetchval(self, question: str, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await self.answers.wait()

    def terminate(self) -> None:
        pass


class Server:
    """Gives connections while it is asked to; counts how often it was said that changes may be missed."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.gives = asyncio.Event()
        self.gives.set()
        self.missed = 0
        self.is_there = True
        self.asked = 0
        self.outage = Outage(self.answers, self.miss)

    async def connect(self) -> Any:
        await self.gives.wait()
        self.connections.append(Connection())
        return self.connections[-1]

    async def answers(self) -> bool:
        self.asked += 1
        return self.is_there

    def miss(self) -> None:
        self.missed += 1

    def listening(self) -> Listening:
        return Listening("channel", self.connect, print, self.outage)


def test_what_cannot_be_heard_is_distrusted_within_a_second() -> None:
    assert SHIPPED_SECONDS < 1


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(listening, "DISTRUST_SECONDS", 0.02)


async def test_without_an_answer_changes_may_be_missed_until_one_comes() -> None:
    server = Server()
    ear = server.listening()
    await ear.start()
    (connection,) = server.connections
    connection.answers.clear()
    await reached(lambda: server.missed >= 3)
    connection.answers.set()
    missed = server.missed
    await reached(lambda: server.missed > missed)  # what came in between was not heard
    assert len(server.connections) == 1
    await ear.close()


async def test_while_there_is_no_connection_changes_may_be_missed() -> None:
    server = Server()
    ear = server.listening()
    await ear.start()
    server.gives.clear()
    server.connections[0].end(None)
    await reached(lambda: server.missed >= 3)
    server.gives.set()
    await reached(lambda: len(server.connections) == 2)
    await ear.close()


async def test_a_connection_that_never_answers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "LOST_SECONDS", 0.05)
    server = Server()
    ear = server.listening()
    await ear.start()
    server.connections[0].answers.clear()
    await reached(lambda: len(server.connections) == 2)
    await ear.close()


async def heard_by_an_outage(server: Server, believed_seconds: float) -> Listening:
    server.outage.believed_seconds = believed_seconds
    ear = server.listening()
    await ear.start()
    server.gives.clear()
    server.is_there = False
    server.connections[0].end(None)
    await reached(lambda: server.outage.is_on)
    return ear


async def test_while_nobody_can_be_asked_what_is_remembered_is_believed_until_changes_are_heard_again() -> None:
    server = Server()
    ear = await heard_by_an_outage(server, 60.0)
    asked = server.asked
    await reached(lambda: server.asked > asked + 3)
    assert server.missed == 0
    server.gives.set()
    await reached(lambda: server.missed == 1)
    assert not server.outage.is_on
    await ear.close()


async def test_what_is_remembered_is_not_believed_for_ever() -> None:
    server = Server()
    ear = await heard_by_an_outage(server, 0.1)
    await reached(lambda: server.missed >= 3)
    assert server.outage.is_on
    await ear.close()


async def test_where_the_database_answers_though_changes_are_not_heard_they_may_be_missed() -> None:
    server = Server()
    ear = await heard_by_an_outage(server, 60.0)
    server.is_there = True
    await reached(lambda: server.missed >= 3)
    assert not server.outage.is_on
    await ear.close()


async def test_who_asks_a_database_that_is_away_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "GIVEN_UP_SECONDS", 0.05)
    server = Server()
    waiting = asyncio.create_task(swallowed(server.outage))
    ear = await heard_by_an_outage(server, 60.0)
    with pytest.raises(TimeoutError):
        await waiting
    with pytest.raises(StorageUnavailable):
        await swallowed(server.outage)
    server.gives.set()
    await reached(lambda: not server.outage.is_on)
    async with server.outage.watched():
        pass
    await ear.close()


async def swallowed(of: Outage) -> None:
    """Waits for a database that never answers."""
    async with of.watched():
        await asyncio.Event().wait()
