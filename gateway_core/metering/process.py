"""Which processes are alive: each tells so in the database, and whoever finds one dead closes what it left open."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gateway_core.storage.identifier import now_us
from gateway_core.storage.ledger import ProcessRow

HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""After which a process of another machine is taken for dead. One of this machine is asked for at once."""

BORN_US = now_us()
"""When this process began, nearly: no ledger was started before."""


def host() -> str:
    """The machine in which a process id means something: its name, its start, and the namespace of its ids."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


class Watch:
    """The other processes, as long as they give signs of life. What they tell is compared with nobody's clock."""

    def __init__(self, own_host: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes this machine, and a clock that never goes back, in seconds."""
        self._host = own_host
        self._clock = clock
        self._signs: dict[str, tuple[int, float]] = {}
        """By process: its last sign of life, and when this process saw it first."""
        self._looked = clock()

    def dead(self, others: Sequence[ProcessRow]) -> list[ProcessRow]:
        """Those of all others that have ended without telling.

        Where its id was given to another process it is dead only after its silence, and so is one of another machine.
        """
        now = self._clock()
        before, self._signs = self._signs, {}
        # Who could not look for long has seen no sign of anybody.
        if now - self._looked > SILENCE_SECONDS / 2:
            before = {}
        self._looked = now
        dead = []
        for process in others:
            seen_us, since = before.get(process.id, (None, now))
            if seen_us != process.seen_us:
                since = now
            self._signs[process.id] = process.seen_us, since
            is_gone = process.host == self._host and not is_there(process)
            if is_gone or now - since > SILENCE_SECONDS:
                dead.append(process)
        return dead


def is_there(process: ProcessRow) -> bool:
    """Whether a process of this machine has its id. Where the id is that of this process, a row of now is its own."""
    if process.pid == os.getpid():
        return process.started_us >= BORN_US
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
