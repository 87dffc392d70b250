"""Which processes are alive: each tells so in the database, and whoever finds one dead closes what it left open."""

import os
import socket
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


def is_dead(process: ProcessRow, own_host: str) -> bool:
    """Whether a process has ended without telling.

    Where its id was given to another process it is dead only after its silence, and so is one of another machine.
    """
    if process.host == own_host and not is_there(process):
        return True
    return now_us() - process.seen_us > SILENCE_SECONDS * 1e6


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
