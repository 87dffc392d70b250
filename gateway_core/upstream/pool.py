"""Connections to one provider: pooled, verified, through the proxy that the environment names."""

import asyncio
import os
import ssl
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway_core import errors

# Shorter than the idle limit of the usual load balancers (60 s), so that it is mostly we who close.
KEEP_ALIVE_SECONDS = 50

# A host that closes an idle connection has done so before the request reaches it, so it shows within a round trip. One
# that closes later may have worked on the request.
STALE_SECONDS = 1

# Most bytes of one read from a connection. The loops' own reads take up to 256 KiB, however little is wanted, so that a
# thousand answers that nobody reads would be held with a quarter of a gigabyte.
READ_BYTES = 16 * 1024


class Attempt:
    """One way of a request to the provider, as far as it got."""

    __slots__ = ("connected_at", "protocol", "reused", "transport")

    def __init__(self) -> None:
        """Starts without a connection."""
        self.transport: asyncio.Transport | None = None
        self.protocol: ResponseHandler | None = None
        self.reused = False
        self.connected_at = 0.0

    def was_stale(self, error: aiohttp.ClientError) -> bool:
        """Whether it failed because the host had closed a pooled connection, so that nothing was asked of it."""
        answered = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
        late = asyncio.get_running_loop().time() - self.connected_at > STALE_SECONDS
        return self.transport is not None and self.reused and not answered and not late

    def abort(self) -> None:
        """Closes the connection without sending what still waits to be sent."""
        if self.transport is not None:
            self.transport.abort()


# The library has no other way from a request to its connection before the answer's headers are there.
ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")


class BoundedReads(asyncio.BufferedProtocol):
    """Stands before the library's protocol, and reads no more at once than is wanted."""

    def __init__(self, protocol: ResponseHandler) -> None:
        """Takes the protocol that gets what is read."""
        self._protocol = protocol
        self._room = bytearray()
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, _: int) -> bytearray:
        """Room for one read, whatever size the loop hints at."""
        self._room = bytearray(READ_BYTES)
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Hands on what was read."""
        room, self._room = self._room, bytearray()
        self._protocol.data_received(bytes(memoryview(room)[:nbytes]))


class Pool(aiohttp.TCPConnector):
    """Connections that tell the attempt of the running task what they are."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection of the pool, or a new one."""
        attempt = ATTEMPT.get()
        attempt.reused = True
        connection = await super().connect(req, traces, timeout)
        attempt.transport = connection.transport
        attempt.protocol = connection.protocol
        attempt.connected_at = self._loop.time()
        if not attempt.reused and connection.protocol is not None and connection.protocol.closed is not None:
            # Without this the loop would log that nobody asked why a connection ended.
            connection.protocol.closed.add_done_callback(asyncio.Future.exception)
        return connection

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        ATTEMPT.get().reused = False
        protocol = await super()._create_connection(req, traces, timeout)
        if protocol.transport is not None:
            protocol.transport.set_protocol(BoundedReads(protocol))
        return protocol


def tls() -> ssl.SSLContext:
    """What verifies providers: the roots of SSL_CERT_FILE and SSL_CERT_DIR, else the system's, else Mozilla's."""
    return _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls(*_: str | None) -> ssl.SSLContext:
    # Loading the roots takes tens of milliseconds: providers share them.
    paths = ssl.get_default_verify_paths()
    has_roots = paths.cafile is not None or (paths.capath is not None and bool(os.listdir(paths.capath)))
    context = ssl.create_default_context(cafile=None if has_roots else certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy(provider: str, url: URL) -> URL | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a URL; this machine needs none.

    Raises ProviderUnreachable where it speaks anything but HTTP.
    """
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or _is_loopback(url.host) or proxy_bypass(f"{url.host_subcomponent}:{url.port}"):
        return None
    chosen = URL(address if "://" in address else f"http://{address}")
    if chosen.scheme not in ("http", "https"):
        message = f"Provider {provider} is behind a proxy that speaks {chosen.scheme}; only http and https are spoken."
        raise errors.ProviderUnreachable(message, provider=provider)
    return chosen


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
