"""`headgate serve --workers N`: a process that serves nobody, and watches over N that do."""

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import structlog

from gateway_core.config import Config
from gateway_core.telemetry.log import LogWorker, configure_log
from headgate_cli.address import Address, address_of, bound, in_use, made_shareable
from headgate_cli.assignment import log_lock
from headgate_cli.claims import Claims
from headgate_cli.open_files import allow_open_files
from headgate_cli.serve_options import ServeOptions
from headgate_cli.slot import Slot, seen_off
from headgate_cli.worker_process import Plan, WorkerProcess

log = structlog.get_logger("headgate.supervisor")

PLACE_BYTES_AT_MOST = 70


def run(options: ServeOptions, config: Config, count: int) -> int:
    """Serves until a signal; returns 0 once the workers have drained. Takes what the supervisor reads of the config."""
    allow_open_files()
    directory = tempfile.mkdtemp(prefix="headgate-", dir=place_of_sockets(tempfile.gettempdir()))
    try:
        configure_log(config.log, worker=LogWorker(None, log_lock(Path(directory))))
        with Reservation(options, config) as reserved:
            plan = Plan(
                options=options,
                count=count,
                process=config.detach.process or secrets.token_hex(4),
                directory=directory,
                grpc=reserved.grpc_address,
                notes=reserved.notes,
            )
            return asyncio.run(Supervisor(plan, reserved.http_address).run())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def place_of_sockets(temporary: str) -> str:
    """Where the workers' sockets for each other may be: the path of one has 108 bytes at most (unix(7))."""
    return temporary if len(os.fsencode(temporary)) <= PLACE_BYTES_AT_MOST else "/tmp"


class Reservation:
    """Holds the addresses, so that nobody else takes them while workers come and go.

    Its sockets do not listen: one that listened and never accepted would swallow its share of the connections.
    """

    def __init__(self, options: ServeOptions, config: Config) -> None:
        """Takes the addresses; raises CommandFailed where they are in use."""
        claims = Claims.made(options, config)
        self.notes = claims.notes
        self._sockets: list[socket.socket] = []
        self.http_address = None if claims.http is None else self._held(claims.http)
        self.grpc_address = None
        if claims.grpc is not None:
            held = self._held(reserved(claims.grpc))
            self.grpc_address = Address(claims.grpc.host, held.port)

    def _held(self, claim: socket.socket) -> Address:
        made_shareable(claim)
        self._sockets.append(claim)
        return address_of(claim)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._sockets:
            held.close()


def reserved(address: Address) -> socket.socket:
    """A socket with an address that was free a moment ago; raises CommandFailed."""
    try:
        return bound(address)
    except OSError:
        raise in_use(address, "gRPC") from None


class Supervisor:
    """Starts workers, replaces those that die, restarts them one after another, and ends them."""

    def __init__(self, plan: Plan, http: Address | None) -> None:
        """Takes what the workers have in common, and the address for HTTP."""
        self._plan = plan
        self._numbers = itertools.count(1)
        self._workers: set[WorkerProcess] = set()
        self._slots = [Slot(self._spawn, http) for _ in range(plan.count)]
        self._stop = asyncio.Event()
        self._restart = asyncio.Event()

    async def run(self) -> int:
        """Serves until a signal; raises WorkerFailed where no worker can be started at first."""
        self._heed_signals()
        serving = asyncio.create_task(self._serve(), name="serving")
        stopping = asyncio.create_task(self._stop.wait(), name="waiting for a signal")
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving  # raises what has ended it
        finally:
            serving.cancel()
            stopping.cancel()
            await asyncio.wait((serving, stopping))
            await self._end()
        return 0

    async def _serve(self) -> None:
        told = await self._slots[0].fill()  # alone: it brings the database up to date, and makes the operator's key
        try:
            async with asyncio.TaskGroup() as filling:
                for slot in self._slots[1:]:
                    filling.create_task(slot.fill())
        except BaseException as error:
            if told.root_key is not None:
                print(told.root_key, flush=True)  # it would never be told again
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        print("\n".join(told.lines), flush=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._restart_when_told())
            for slot in self._slots:
                group.create_task(slot.keep())

    async def _restart_when_told(self) -> None:
        while True:
            await self._restart.wait()
            self._restart.clear()
            log.info("restart_began")
            for slot in self._slots:
                if not await slot.renew():
                    message = "A worker did not start: those that run stay as they are. What is wrong stands above."
                    log.error("restart_failed", message=message)
                    break
            else:
                log.info("restart_ended")

    async def _spawn(self, http: socket.socket | None) -> WorkerProcess:
        ended = {worker for worker in self._workers if worker.has_ended}
        self._workers -= ended
        worker = await WorkerProcess.spawned(self._plan, next(self._numbers), http)
        self._workers.add(worker)
        log.info("worker_started", worker=worker.number, pid=worker.pid)
        return worker

    async def _end(self) -> None:
        for slot in self._slots:
            slot.close()
        running = [worker for worker in self._workers if not worker.has_ended]
        for worker in running:
            worker.drain()
        await asyncio.gather(*(seen_off(worker) for worker in running))

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._restart.set)

    def _signalled(self, number: int) -> None:
        if self._stop.is_set():
            for worker in self._workers:
                worker.kill()
            shutil.rmtree(self._plan.directory, ignore_errors=True)
            os._exit(128 + number)
        print("draining: open calls have their time (a second signal ends at once)", flush=True)
        self._stop.set()
