import asyncio
import socket
from collections.abc import Sequence
from typing import Any, cast

import pytest

from headgate_cli import slot
from headgate_cli.address import Address
from headgate_cli.assignment import Assignment, Ready
from headgate_cli.slot import FIRST_TRIES, Slot, WorkerFailed, backoff_seconds
from tests.support.upstream import reached

READY = Ready(["Headgate"], None, 5)


class Worker:
    """A worker that is ready, or dies before, as a test says."""

    def __init__(self, number: int, code: int | None) -> None:
        self.number = self.pid = number
        self.age_seconds = 0.0
        self.grace_seconds = 5.0
        self.is_told_to_retire = False
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._dies = code is not None
        if code is not None:
            self._code.set_result(code)

    async def ready(self) -> Ready | None:
        return None if self._dies else READY

    async def ended(self) -> int:
        return await asyncio.shield(self._code)

    def end(self, code: int) -> None:
        self._code.set_result(code)

    def retire(self) -> None:
        self.is_told_to_retire = True
        self.end(0)

    def close(self) -> None:
        pass


class Workers:
    """Starts workers: the first ones with the exit statuses given, those behind them are ready."""

    def __init__(self, *codes: int | None) -> None:
        self._codes = list(codes)
        self.refusals: list[OSError] = []
        self.started: list[Worker] = []
        self.sockets: list[socket.socket | None] = []

    async def spawn(self, http: socket.socket | None) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        self.sockets.append(http)
        worker = Worker(len(self.started) + 1, self._codes.pop(0) if self._codes else None)
        self.started.append(worker)
        return worker


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "BACKOFF_SECONDS", 0.001)


def slot_of(workers: Workers, http: Address | None = None) -> Slot:
    return Slot(cast(Any, workers.spawn), http)


@pytest.mark.parametrize(("codes", "started", "status"), [([1], 1, 1), ([2], 1, 2), ([-9] * 9, FIRST_TRIES, 137)])
async def test_a_first_start_is_given_up(codes: Sequence[int], started: int, status: int) -> None:
    workers = Workers(*codes)
    with pytest.raises(WorkerFailed) as failed:
        await slot_of(workers).fill()
    assert len(workers.started) == started
    assert failed.value.exit_code == status


async def test_a_first_start_that_was_killed_is_tried_again() -> None:
    workers = Workers(-9, -11)
    assert await slot_of(workers).fill() == READY
    assert len(workers.started) == 3


async def test_a_worker_that_dies_is_replaced_however_often_the_next_ones_die_too() -> None:
    workers = Workers(None, -9, 1, 1)
    filled = slot_of(workers)
    await filled.fill()
    keeping = asyncio.create_task(filled.keep())
    try:
        workers.started[0].end(-9)
        await reached(lambda: len(workers.started) == 5)
        workers.started[4].end(1)
        await reached(lambda: len(workers.started) == 6)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def test_a_worker_that_cannot_be_started_leaves_the_one_before() -> None:
    workers = Workers(None, 1)
    filled = slot_of(workers)
    await filled.fill()
    assert not await filled.renew()
    assert not workers.started[0].is_told_to_retire
    assert await filled.renew()
    assert workers.started[0].is_told_to_retire
    assert not workers.started[2].is_told_to_retire


async def test_a_system_that_has_no_process_left_ends_nothing() -> None:
    workers = Workers()
    filled = slot_of(workers)
    await filled.fill()
    workers.refusals = [BlockingIOError(11, "Resource temporarily unavailable")]
    assert not await filled.renew()
    keeping = asyncio.create_task(filled.keep())
    try:
        workers.refusals = [BlockingIOError(11, "Resource temporarily unavailable")]
        workers.started[0].end(-9)
        await reached(lambda: len(workers.started) == 2)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def test_a_worker_that_was_renewed_is_not_replaced_when_it_ends() -> None:
    workers = Workers()
    filled = slot_of(workers)
    await filled.fill()
    keeping = asyncio.create_task(filled.keep())
    try:
        assert await filled.renew()
        assert await filled.renew()
        workers.started[2].end(-9)
        await reached(lambda: len(workers.started) == 4)
        assert [worker.is_told_to_retire for worker in workers.started] == [True, True, False, False]
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def test_workers_inherit_one_socket_and_get_a_new_one_after_a_quick_death() -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        workers = Workers()
        filled = slot_of(workers, Address(*held.getsockname()))
        await filled.fill()
        keeping = asyncio.create_task(filled.keep())
        try:
            await filled.renew()
            workers.started[1].age_seconds = slot.QUICK_SECONDS
            workers.started[1].end(-9)
            await reached(lambda: len(workers.started) == 3)
            workers.started[2].end(-9)
            await reached(lambda: len(workers.started) == 4)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            filled.close()
    assert workers.sockets[0] is workers.sockets[1] is workers.sockets[2]
    assert workers.sockets[3] is not workers.sockets[2]


def test_the_wait_doubles_up_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "BACKOFF_SECONDS", 0.5)
    assert [backoff_seconds(deaths) for deaths in (1, 2, 3, 7, 1000)] == [0.5, 1, 2, 30, 30]


def test_an_assignment_is_read_as_it_was_written() -> None:
    given = Assignment(3, 4, "lab", "directory", 7, None, "[::]:50051", ("port 8080 is taken: HTTP is on 8081",))
    assert Assignment.of(given.text()) == given
    assert Ready.of(READY.text()) == READY
