"""Opens connections to one server: finds its addresses, tries them, agrees on TLS, goes through a proxy."""

import asyncio
import re
import socket
import ssl
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any, cast

from gateway_core.upstream.connection import Connection
from gateway_core.upstream.faults import ProxyFault
from gateway_core.upstream.origin import Origin, Proxy
from gateway_core.upstream.reach import OutOfReach, Reach

# How long one address is tried before the next is tried beside it (RFC 8305, 8).
ATTEMPT_SECONDS = 0.25

# A crowd of new connections asks once where the host is.
ADDRESSES_SECONDS = 10

PROXY_HEAD_BYTES = 16 * 1024
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")

Address = tuple[socket.AddressFamily, Any]


class Dial:
    """The way to one server."""

    def __init__(
        self, origin: Origin, proxy: Proxy | None, tls: ssl.SSLContext | None, reach: Reach | None = None
    ) -> None:
        """`tls` is given where the server or the proxy speaks it, `reach` where not every address may be dialled."""
        self._reach = reach
        self._origin = origin
        self._proxy = proxy
        self._tls = tls
        self._lookup: asyncio.Task[list[Address]] | None = None
        self._looked_up_at = 0.0

    async def connect(self, connection: Connection) -> None:
        """Makes the connection stand; raises one of faults.DIAL_ERRORS."""
        if self._proxy is None:
            await self._open(connection, self._origin)
        elif self._origin.scheme == "http":
            await self._reach_proxy(connection, self._proxy)
        else:
            await self._tunnel(connection, self._proxy)

    def close(self) -> None:
        """Asks nobody any more."""
        if self._lookup is not None:
            self._lookup.cancel()

    async def _open(self, protocol: asyncio.BaseProtocol, origin: Origin) -> None:
        try:
            connected = await first_connected(self._reachable(await self._addresses(origin)))
        except OSError:
            self._lookup = None  # the host may have moved
            raise
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: protocol,
                sock=connected,
                ssl=self._tls if origin.scheme == "https" else None,
                server_hostname=origin.host if origin.scheme == "https" else None,
            )
        except BaseException:
            connected.close()
            raise

    async def _reach_proxy(self, protocol: asyncio.BaseProtocol, proxy: Proxy) -> None:
        try:
            await self._open(protocol, proxy.origin)
        except (OSError, UnicodeError):
            raise ProxyFault("accepts no connection") from None

    async def _tunnel(self, connection: Connection, proxy: Proxy) -> None:
        tunnel = Tunnel()
        await self._reach_proxy(tunnel, proxy)
        try:
            await tunnel.ask(self._origin, proxy)
            transport = await asyncio.get_running_loop().start_tls(
                tunnel.transport, connection, cast(ssl.SSLContext, self._tls), server_hostname=self._origin.host
            )
        except BaseException:
            tunnel.transport.abort()
            raise
        assert transport is not None  # only server sides get none
        connection.connection_made(transport)

    def _reachable(self, addresses: list[Address]) -> list[Address]:
        if self._reach is None:
            return addresses
        reachable = [address for address in addresses if self._reach.has(address[1][0])]
        if not reachable:
            raise OutOfReach("no address may be dialled")
        return reachable

    async def _addresses(self, origin: Origin) -> list[Address]:
        if (address := literal(origin)) is not None:
            return [address]
        now = asyncio.get_running_loop().time()
        lookup = self._lookup
        if lookup is None or (lookup.done() and now - self._looked_up_at > ADDRESSES_SECONDS):
            self._looked_up_at = now
            self._lookup = lookup = asyncio.ensure_future(looked_up(origin))
            lookup.add_done_callback(_retrieve)
        return await asyncio.shield(lookup)


class Tunnel(asyncio.Protocol):
    """Asks a proxy for a way to a server, and reads what it says."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        """Before a connection stands."""
        self._head = b""
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, origin: Origin, proxy: Proxy) -> None:
        """Raises ProxyFault where the proxy has no way."""
        lines = [f"CONNECT {origin.authority} HTTP/1.1", f"Host: {origin.authority}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode())
        await self._answered
        status = STATUS.match(self._head)
        # The server says nothing before it is greeted: what follows the head would not be its own.
        is_open = status is not None and status[1].startswith(b"2") and self._head.endswith(b"\r\n\r\n")
        if not is_open:
            raise ProxyFault("refused to connect to it")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The proxy is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Gathers the answer's head."""
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > PROXY_HEAD_BYTES or not b"HTTP/".startswith(self._head[:5]):
            self._answer()

    def connection_lost(self, _: Exception | None) -> None:
        """The proxy has closed."""
        self._answer()

    def _answer(self) -> None:
        if not self._answered.done():
            self._answered.set_result(None)


def literal(origin: Origin) -> Address | None:
    """The address of a host whose name is one."""
    try:
        version = ip_address(origin.host).version
    except ValueError:
        return None
    if version == 4:
        return socket.AF_INET, (origin.host, origin.port)
    # One with a zone has to be looked up.
    return None if "%" in origin.host else (socket.AF_INET6, (origin.host, origin.port, 0, 0))


async def looked_up(origin: Origin) -> list[Address]:
    """The addresses of a host, in the order in which to try them."""
    found = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return by_turns([(family, address) for family, _, _, _, address in found])


def by_turns(addresses: list[Address]) -> list[Address]:
    """Addresses of which the families take turns (RFC 8305, 4), each in the order of the system's preference."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


async def first_connected(addresses: list[Address]) -> socket.socket:
    """The socket that was connected first, each address begun a little after the one before (RFC 8305, 5)."""
    if len(addresses) == 1:
        return await _connected(addresses[0])
    waiting = list(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: BaseException | None = None
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.ensure_future(_connected(waiting.pop(0))))
            done, attempts = await asyncio.wait(
                attempts, timeout=ATTEMPT_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winners = [task.result() for task in done if task.exception() is None]
            for late in winners[1:]:
                late.close()
            if winners:
                return winners[0]
            failure = next((task.exception() for task in done), failure)
    finally:
        for task in attempts:
            task.add_done_callback(_discard)
            task.cancel()
    raise failure or OSError("there is no address")


async def _connected(address: Address) -> socket.socket:
    family, where = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, where)
    except BaseException:
        opened.close()
        raise
    return opened


def _discard(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _retrieve(lookup: "asyncio.Task[list[Address]]") -> None:
    # Whoever asked may have left: without this the loop would log that nobody looked at a failure.
    if not lookup.cancelled():
        lookup.exception()
