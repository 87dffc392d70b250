"""Requests to one provider over HTTP: awaiting opens an answer, iterating reads it, closing closes the connection."""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple
from weakref import ref

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway_core import errors
from gateway_core.config import ProviderConfig
from gateway_core.upstream import faults
from gateway_core.upstream.pool import ATTEMPT, KEEP_ALIVE_SECONDS, Attempt, Pool, proxy, tls

# An answer is read no further than twice this beyond what its reader has taken.
READ_BUFFER_BYTES = 16 * 1024

# The library wants longer bodies as a file, which it sends in pieces.
WHOLE_BODY_BYTES = 1024 * 1024

HEADERS = {"user-agent": "headgate", "content-type": "application/json"}


class Limits(NamedTuple):
    """What bounds one answer; times are of the event loop's clock."""

    provider: str
    ends_at: float
    phase: str | None
    """Whose end that is: "first_byte", "total", or None for the caller's deadline."""
    idle_seconds: float
    answer_bytes: int

    def error(self) -> errors.GatewayError:
        """What the call ends with when the time has passed."""
        return faults.timeout(self.provider, self.phase) if self.phase else faults.late(self.provider)


class Answer:
    """An answer whose status and headers are there: read it to its end, or close it."""

    def __init__(self, response: aiohttp.ClientResponse, attempt: Attempt, limits: Limits) -> None:
        """Takes over the response and its connection."""
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        """Get and `in` take names in any case."""
        self._response = response
        self._content = response.content
        self._protocol = attempt.protocol
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._failure: errors.GatewayError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        if not self._content.is_eof():
            self._set_timer()

    def __del__(self) -> None:
        # A generator that was never begun closes nothing when it is closed; what it held ends here.
        if not self._ended and not self._loop.is_closed():
            self.abort()

    async def read(self) -> bytes:
        """The whole body, decoded; raises TooLarge beyond config.answer_bytes, and what `pieces` raises."""
        limit = self._limits.answer_bytes
        body: list[bytes] = []
        size = 0
        while piece := await self._piece():
            body.append(piece)
            size += len(piece)
            if size > limit:
                self.abort()
                message = f"The answer of provider {self._limits.provider} has more than {limit} bytes."
                raise errors.TooLarge(message, limit=str(limit))
        return b"".join(body)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, decoded; closing the generator early closes the connection.

        Raises ProviderBroken where the body breaks off, ProviderTimeout where the provider is silent for too long, and
        DeadlineExceeded. A reader that takes its time stops the provider, and is not taken for a provider's silence.
        The deadline closes the connection when it passes, even while nobody reads; the next read raises.
        """
        try:
            while piece := await self._piece():
                yield piece
        finally:
            self.abort()

    def abort(self) -> None:
        """Closes the connection at once, unless the answer was read to its end."""
        if not self._ended:
            self._end()
            connection = self._response.connection
            if connection is not None and connection.transport is not None:
                # The library's close would first send what is left of the request, and take leave in TLS.
                connection.transport.abort()
            self._response.close()

    async def close(self) -> None:
        """Does what `abort` does."""
        self.abort()

    async def _piece(self) -> bytes:
        """The next piece; empty at the end."""
        if self._failure is not None:
            raise self._failure
        self._waiting_since = self._loop.time()
        try:
            piece = await self._content.readany()
        except faults.LIBRARY_ERRORS as error:
            self.abort()
            raise faults.fault(self._limits.provider, error) from None
        except BaseException:
            self.abort()
            raise
        self._waiting_since = None
        if not piece:
            self._end()
            # A body that lasts until the connection ends: the library takes a reset for its end.
            broken = self._protocol.exception() if self._protocol is not None else None
            if isinstance(broken, OSError):
                raise faults.fault(self._limits.provider, broken)
        return piece

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        # One timer for a call: silence is measured only when it fires, so that a piece costs no timer of its own.
        since = self._loop.time() if self._waiting_since is None else self._waiting_since
        when = min(self._limits.ends_at, since + self._limits.idle_seconds)
        self._timer = self._loop.call_at(when, _check, ref(self))

    def _check_time(self) -> None:
        now = self._loop.time()
        if now >= self._limits.ends_at:
            self._fail(self._limits.error())
        elif self._waiting_since is not None and now >= self._waiting_since + self._limits.idle_seconds:
            self._fail(faults.timeout(self._limits.provider, "idle"))
        else:
            self._set_timer()

    def _fail(self, failure: errors.GatewayError) -> None:
        self._failure = failure
        self._content.set_exception(failure)
        self.abort()


def _check(answer: "ref[Answer]") -> None:
    # The loop holds the answer weakly, so that one that nobody reads any more is closed before its time.
    if (alive := answer()) is not None:
        alive._check_time()


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
        )
        self._sessions[pooled] = session
        return session
