"""What a process that serves is told: to drain, or, where others go on in its place, to retire."""

import asyncio
import os
import signal
import socket
import sys

from headgate_cli.assignment import Ready

RETIRE = b"retire\n"


class Orders:
    """The signals of a process and, of a worker, the words of its supervisor."""

    def __init__(self) -> None:
        """Begins to listen for signals."""
        self.stop = first_signal()
        """Set by SIGTERM and SIGINT, and once there is no supervisor any more."""
        self.retire = asyncio.Event()
        self.is_orphan = False
        """Whether there was a supervisor, and is none any more."""
        self._listening: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def obey(self, control: int) -> None:
        """Begins to listen to a supervisor, by the descriptor of a socket."""
        if sys.platform != "win32":
            # A terminal that is closed tells everybody: here the supervisor decides.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        reader, self._writer = await asyncio.open_connection(sock=socket.socket(fileno=control))
        self._listening = asyncio.create_task(self._listen(reader), name="listening to the supervisor")

    def tell(self, ready: Ready) -> None:
        """Tells the supervisor that the worker serves."""
        assert self._writer is not None, "obey comes first"
        self._writer.write(ready.text().encode())

    async def come(self) -> None:
        """Waits for the first."""
        waits = [asyncio.create_task(event.wait()) for event in (self.stop, self.retire)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        """Listens no more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._writer is not None:
            self._writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                if line == RETIRE:
                    self.retire.set()
        except OSError:
            pass
        self.is_orphan = True
        self.stop.set()


def first_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()

    def signalled(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda caught, _: loop.call_soon_threadsafe(signalled, caught))
        else:
            loop.add_signal_handler(number, signalled, number)
    return stop
