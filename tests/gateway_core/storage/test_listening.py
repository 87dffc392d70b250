"""Changes of others that cannot be heard, and of which nobody says that they cannot."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.storage import listening
from gateway_core.storage.listening import Listening
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

    async def connect(self) -> Any:
        await self.gives.wait()
        self.connections.append(Connection())
        return self.connections[-1]

    def miss(self) -> None:
        self.missed += 1

    def listening(self) -> Listening:
        return Listening("channel", self.connect, print, self.miss)


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
