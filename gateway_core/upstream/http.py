"""Requests to one provider over HTTP: pooled, bounded in time, their failures named."""

import asyncio
import io
from collections.abc import Mapping

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway_core import errors
from gateway_core.config import ProviderConfig
from gateway_core.upstream import faults
from gateway_core.upstream.answer import Answer, Limits
from gateway_core.upstream.encoding import ACCEPTED
from gateway_core.upstream.pool import ATTEMPT, KEEP_ALIVE_SECONDS, Attempt, Pool, proxy, tls

__all__ = ["Answer", "Upstream"]

# An answer is read no further than twice this beyond what its reader has taken.
READ_BUFFER_BYTES = 8 * 1024

# The library wants longer bodies as a file, which it sends in pieces.
WHOLE_BODY_BYTES = 1024 * 1024

HEADERS = {"user-agent": "headgate", "content-type": "application/json", "accept-encoding": ACCEPTED}


class Upstream:
    """One provider's host."""

    def __init__(self, provider: str, config: ProviderConfig, headers: Mapping[str, str]) -> None:
        """Takes the headers of every request; raises ValueError where they or the URL cannot be sent."""
        url = URL(config.base_url or "")
        if not url.host or url.user or url.password:
            raise ValueError(f"providers.{provider}.base_url must have a host, and no user name or password")
        for name, value in headers.items():
            if not value.isprintable():
                raise ValueError(f"providers.{provider}: the header {name} has a line break or a control character")
        self._provider = provider
        self._config = config
        self._base_url = url
        self._headers = CIMultiDict({**HEADERS, **{name.lower(): value for name, value in headers.items()}})
        self._timeout = aiohttp.ClientTimeout(total=None, connect=config.timeouts.connect_seconds)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False

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
        now = asyncio.get_running_loop().time()
        limits = self._limits(now, deadline)
        opening = limits
        if now + self._config.timeouts.first_byte_seconds < limits.ends_at:
            ends_at = now + self._config.timeouts.first_byte_seconds
            opening = limits._replace(ends_at=ends_at, phase="first_byte")
        if opening.ends_at <= now:
            raise opening.error()
        try:
            async with asyncio.timeout_at(opening.ends_at):
                response, attempt = await self._send(method, path, body, headers)
        except TimeoutError:
            raise opening.error() from None
        answer = Answer(response, attempt, limits)
        if answer.status < 200 or 300 <= answer.status < 400:
            answer.abort()
            message = f"Provider {self._provider} answered with status {answer.status}, which is not followed."
            raise errors.ProviderBroken(message, provider=self._provider)
        return answer

    async def close(self) -> None:
        """Closes the connections; answers that are still being read must have been closed before."""
        self._closed = True
        while self._sessions:
            await self._sessions.popitem()[1].close()

    def _limits(self, now: float, deadline: float | None) -> Limits:
        ends_at, phase = now + self._config.timeouts.total_seconds, "total"
        limits = Limits(self._provider, ends_at, phase, self._config.timeouts.idle_seconds, self._config.answer_bytes)
        return limits if deadline is None or deadline > ends_at else limits._replace(ends_at=deadline, phase=None)

    async def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> tuple[aiohttp.ClientResponse, Attempt]:
        attempt = Attempt()
        token = ATTEMPT.set(attempt)
        try:
            try:
                return await self._request(True, method, path, body, headers), attempt
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if not attempt.was_stale(error):
                    raise
                return await self._request(False, method, path, body, headers), attempt
        except BaseException as error:
            attempt.abort()
            if isinstance(error, faults.LIBRARY_ERRORS):
                raise faults.fault(self._provider, error) from None
            raise
        finally:
            ATTEMPT.reset(token)

    async def _request(
        self, pooled: bool, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        session = self._sessions.get(pooled) or self._open_session(pooled)
        fields = self._headers
        if headers:
            fields = fields.copy()
            fields.update(headers)
        return await session.request(
            method,
            URL(f"{self._base_url}{path}", encoded=True),
            data=body if body is None or len(body) <= WHOLE_BODY_BYTES else io.BytesIO(body),
            headers=fields,
            allow_redirects=False,
        )

    def _open_session(self, pooled: bool) -> aiohttp.ClientSession:
        if self._closed:
            raise errors.ShuttingDown("The server is shutting down.")
        keep_alive = {"keepalive_timeout": KEEP_ALIVE_SECONDS} if pooled else {"force_close": True}
        session = aiohttp.ClientSession(
            connector=Pool(limit=self._config.max_connections, ssl=tls(), **keep_alive),
            # No headers here: the library would send a session's headers, the key among them, to the proxy too.
            proxy=proxy(self._provider, self._base_url),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
        )
        self._sessions[pooled] = session
        return session
