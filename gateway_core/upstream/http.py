"""Requests to one provider over HTTP: pooled, bounded in time, their failures named."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from gateway_core import errors
from gateway_core.config import ProviderConfig
from gateway_core.upstream import faults
from gateway_core.upstream.answer import Answer
from gateway_core.upstream.connection import Connection
from gateway_core.upstream.dial import Dial
from gateway_core.upstream.exchange import Bounds, Exchange
from gateway_core.upstream.origin import PORTS, base, proxy, tls
from gateway_core.upstream.pool import Pool
from gateway_core.upstream.reach import Reach
from gateway_core.upstream.request import Heads, check

__all__ = ["Answer", "Upstream"]

BODILESS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS"})
"""Methods whose requests need not say that they have no body (RFC 9110, 8.6)."""


class Upstream:
    """One provider's host."""

    def __init__(self, provider: str, config: ProviderConfig, headers: Mapping[str, str]) -> None:
        """Takes the headers of every request; raises ValueError where they or the URL cannot be sent."""
        origin, path, query = base(provider, config.base_url or "")
        for name, value in headers.items():
            try:
                check(name, value)
            except ValueError as error:
                raise ValueError(f"providers.{provider}: {error}") from None
        reach = None if config.private_networks is None else Reach(config.private_networks)
        try:
            between = None if reach else proxy(origin)
        except ValueError:
            raise ValueError(f"providers.{provider}: the proxy that the environment names cannot be asked") from None
        self._provider = provider
        self._connect_seconds = config.timeouts.connect_seconds
        self._bounds = Bounds(
            provider,
            config.timeouts.first_byte_seconds,
            config.timeouts.idle_seconds,
            config.timeouts.total_seconds,
            config.answer_bytes,
        )
        self._unspoken = between.origin.scheme if between and between.origin.scheme not in PORTS else None
        self._heads = Heads(origin, (path, query), headers, between)
        needs_tls = "https" in (origin.scheme, between.origin.scheme if between else "")
        self._pool = Pool(provider, Dial(origin, between, tls() if needs_tls else None, reach), config.max_connections)

    async def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends a request, awaits status and headers; `path` follows the base URL, `deadline` is of the loop's clock.

        Raises ProviderUnreachable, ProviderTimeout, ProviderBroken (a redirect is one: keys go nowhere else) and
        DeadlineExceeded. Any other status is the caller's to judge.
        """
        head = self._heads.head(method, path, headers)
        if body is None and method not in BODILESS:
            body = b""
        exchange = Exchange(self._bounds, asyncio.get_running_loop(), deadline, method == "HEAD")
        if deadline is not None and deadline <= exchange.began_at:
            raise faults.late(self._provider)
        connection = self._pool.idle() or await self._connect(exchange)
        connection.send(exchange, head, body)
        # What `exchange.wait` does, without the coroutine by way of which the call would be resumed.
        if not exchange.status and (change := exchange.change()) is not None:
            try:
                await change
            except BaseException:
                exchange.abort()
                raise
        if not exchange.status:
            await self._ask_again(exchange, connection, head, body)
        status = exchange.status
        if status < 200 or 300 <= status < 400:
            exchange.abort()
            message = f"Provider {self._provider} answered with status {status}, which is not followed."
            raise errors.ProviderBroken(message, provider=self._provider)
        return Answer(exchange)

    async def _ask_again(self, exchange: Exchange, connection: Connection, head: bytes, body: bytes | None) -> None:
        """Asks by a new connection where the one that was kept had ended; raises what went wrong."""
        if self._pool.was_stale(connection, exchange):
            exchange.again()
            connection = await self._connect(exchange, may_be_used=False)
            connection.send(exchange, head, body)
            if not exchange.status:
                await exchange.wait()
        if not exchange.status:
            assert exchange.failure is not None  # nothing else ends the wait
            raise exchange.failure()

    async def close(self) -> None:
        """Closes the connections; answers that are still being read break off."""
        await self._pool.close()

    async def _connect(self, exchange: Exchange, *, may_be_used: bool = True) -> Connection:
        if self._unspoken:
            what = f"is behind a proxy that speaks {self._unspoken}; only http and https are spoken"
            message = f"Provider {self._provider} {what}."
            raise errors.ProviderUnreachable(message, provider=self._provider)
        until = asyncio.get_running_loop().time() + self._connect_seconds
        late: Callable[[], errors.GatewayError] = partial(faults.timeout, self._provider, "connect")
        if exchange.due() <= until:
            until, late = exchange.due(), exchange.unopened()
        return await self._pool.connect(until, late, may_be_used=may_be_used)
