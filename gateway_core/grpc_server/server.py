"""A server of gRPC on the event loop itself: it listens, and ends its connections as the program ends."""

import asyncio
import socket
import ssl

from gateway_core.grpc_server.connection import Connection
from gateway_core.grpc_server.limits import Limits, Parting
from gateway_core.grpc_server.method import Methods

BACKLOG = 4096
HANDSHAKE_SECONDS = 15.0
"""Until TLS must be agreed on."""
LEAVE_SECONDS = 1.0
"""Until clients have gone whose calls were ended."""


class GrpcServer(Methods):
    """Serves the methods that are registered, on any number of sockets."""

    def __init__(self, limits: Limits | None = None, parting: Parting | None = None) -> None:
        """Takes the bounds for each connection, and what calls are told that the end of the server cuts."""
        super().__init__()
        self._parting = parting or Parting()
        self._limits = limits or Limits()
        self._listening: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._emptied = asyncio.Event()
        self._is_ending = False

    async def listen(self, address: str, *, shares_port: bool = False, tls: ssl.SSLContext | None = None) -> int:
        """Serves at "host:port" or "unix:path"; returns the port. Raises OSError where the address is taken."""
        loop = asyncio.get_running_loop()
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            self._listening.append(await loop.create_unix_server(self._connection, path, backlog=BACKLOG, ssl=tls))
            return 0
        host, _, port = address.rpartition(":")
        sockets = await bound(host.strip("[]"), int(port), shares_port=shares_port)
        for each in sockets:
            patience = None if tls is None else HANDSHAKE_SECONDS
            server = await loop.create_server(
                self._connection, sock=each, backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=patience
            )
            self._listening.append(server)
        return int(sockets[0].getsockname()[1])

    async def stop(self, grace: float | None) -> None:
        """Listens no more, waits so many seconds for the calls under way, and ends what is left of them.

        A connection whose handshake ends only then is left at once.
        """
        self._is_ending = True
        for server in self._listening:
            server.close()
        self._listening.clear()
        if grace:
            for connection in tuple(self._connections):
                connection.drain()
            await self._gone(grace)
        tasks = [task for connection in self._connections for task in connection.calls.tasks]
        for connection in tuple(self._connections):
            connection.cancel(self._parting)
        await self._gone(LEAVE_SECONDS)
        for connection in tuple(self._connections):
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_SECONDS)

    async def _gone(self, seconds: float) -> None:
        """Waits until there are no connections any more, at most so long."""
        if self._connections:
            self._emptied.clear()
            try:
                await asyncio.wait_for(self._emptied.wait(), seconds)
            except TimeoutError:
                return

    def _connection(self) -> Connection:
        return Connection(self, self._limits, self)

    def made(self, connection: Connection) -> bool:
        """Takes note of a connection that stands; whether it may."""
        self._connections.add(connection)
        return not self._is_ending

    def lost(self, connection: Connection) -> None:
        """Takes note of its end."""
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()


async def bound(host: str, port: int, *, shares_port: bool) -> list[socket.socket]:
    """A socket for each address of a host, all at one port; raises OSError. "::" is every address, of IPv4 too."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, *_, address in dict.fromkeys(found):
            dual = host == "::" and socket.has_dualstack_ipv6()
            at = (address[0], port)
            sockets.append(
                socket.create_server(at, family=family, backlog=BACKLOG, reuse_port=shares_port, dualstack_ipv6=dual)
            )
            # Connections inherit it; asyncio sees to it only where a socket says that it is TCP's.
            sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = sockets[0].getsockname()[1]
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets
