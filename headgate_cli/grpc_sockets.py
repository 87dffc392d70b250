"""The sockets that gRPC has at a port, of which its server tells nothing: to stop listening without losing anybody.

gRPC can only end a server as a whole, which cancels the calls that are on their way, and resets the connections that
nobody has accepted. A worker that retires stops listening first, and ends its server when nobody is left.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

SETTLE_SECONDS = 0.2
"""How long connections that had begun may take to be complete and accepted."""

# asm-generic/socket.h: Python has no name for it.
ATTACH_FILTER = 26
# A classic BPF program over the TCP header (socket(7), SO_ATTACH_FILTER): drops what has SYN and not ACK. A client
# whose SYN is dropped sends it again after a second (RFC 6298), and meets the listener of another worker.
NO_NEW_CONNECTIONS = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte 13, the flags
        (0x54, 0, 0, 0x12),  # and 0x12, SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone: the next instruction; else the one behind
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # take
    )
)
INSTRUCTION_BYTES = 8


def connection_count(port: int) -> int:
    """The connections that this process has at a port."""
    return sum(not listens(held) for _, held in sockets_at(port))


async def stop_listening(port: int) -> None:
    """Has the process take no new connection at a port; those that had begun are accepted."""
    listeners = [descriptor for descriptor, held in sockets_at(port) if listens(held)]
    for descriptor in listeners:
        refuse_new(descriptor)
    await asyncio.sleep(SETTLE_SECONDS)
    with socket.socket() as nothing:
        for descriptor in listeners:
            # gRPC closes the descriptor with its server. Until then it is that of a socket which does nothing.
            os.dup2(nothing.fileno(), descriptor, inheritable=False)


def refuse_new(descriptor: int) -> None:
    """Drops what would begin a connection at a listening socket."""
    program = ctypes.create_string_buffer(NO_NEW_CONNECTIONS, len(NO_NEW_CONNECTIONS))
    count = len(NO_NEW_CONNECTIONS) // INSTRUCTION_BYTES
    with duplicate(descriptor) as held, contextlib.suppress(OSError):  # without it a connection may be reset, once
        held.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(program)))


def sockets_at(port: int) -> Iterator[tuple[int, socket.socket]]:
    """The descriptors of the process's TCP sockets at a port, and each held by another one until the next comes."""
    for path in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(path.name)
        try:
            held = duplicate(descriptor) if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else None
        except OSError as error:
            if error.errno != errno.EBADF:  # it is closed by now
                raise
            continue
        if held is None:
            continue
        with held:
            is_tcp = held.type == socket.SOCK_STREAM and held.family in (socket.AF_INET, socket.AF_INET6)
            if is_tcp and held.getsockname()[1] == port:
                yield descriptor, held


def duplicate(descriptor: int) -> socket.socket:
    """Another hold of a socket."""
    return socket.socket(fileno=os.dup(descriptor))


def listens(held: socket.socket) -> bool:
    """Whether a socket takes connections."""
    return bool(held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
