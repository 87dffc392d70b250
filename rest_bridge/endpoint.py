"""The ASGI callable of an endpoint: one place for what every endpoint does with failures and callers that leave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from grpc import aio

from rest_bridge.body import InvalidBody
from rest_bridge.config import BridgeConfig
from rest_bridge.connection import Headers, Lines, Receive, Scope, Send
from rest_bridge.cors import answer_fields, preflight_fields
from rest_bridge.errors import Failure, Refused, challenge, log_refusal
from rest_bridge.exchange import JSON, Exchange
from rest_bridge.told import Told

log = structlog.get_logger("headgate.bridge")


class Endpoint:
    """An ASGI callable: does the work of one endpoint, and answers its failures.

    `work` answers the exchange; it may raise InvalidBody, Refused and AioRpcError until the answer starts. `document`
    is the dialect's error document. Once the answer has started, failures are the work's own business: what escapes
    breaks the connection off. But the server's end, which may come at any time, is told here.
    """

    framed: Callable[[bytes], bytes] | None = None
    """What a stream of the work's carries a document in. None: it does not stream."""

    def __init__(
        self,
        config: BridgeConfig,
        dialect: str,
        methods: Sequence[str],
        work: Callable[[Exchange], Awaitable[None]],
        document: Callable[[Failure], bytes],
    ) -> None:
        """Takes the dialect's name, the methods allowed (other ones get 405), the work and the error document."""
        self._config = config
        self._dialect = dialect
        self._methods = tuple(methods)
        self._work = work
        self._document = document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; a caller that left is nobody's error."""
        exchange = Exchange(scope, receive, send, self._config, self._dialect)
        try:
            exchange.start()
            if exchange.method in self._methods:
                await self._work(exchange)
            elif exchange.method != "OPTIONS" or not await self._allow_page(exchange):
                raise Refused(Failure.method_not_allowed(exchange.method, self._methods))
        except asyncio.CancelledError:
            if not exchange.left:
                await self._part(exchange)
                raise
        except Exception as error:
            if exchange.started and not exchange.left:
                raise  # here: raised by another frame that has its name, it would know itself
            await self._fail(exchange, error)
        finally:
            exchange.close()
        if exchange.left:
            self._record_leaving(exchange)

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        """Answers what failed before the answer has begun, where somebody is there."""
        if exchange.left:
            return
        failure, told = self._failure(exchange, error)
        headers = [*JSON, *failure.headers, *challenge(failure, has_key=exchange.has_key)]
        try:
            await exchange.respond(failure.http_status, self._document(failure), headers, told)
        except asyncio.CancelledError:
            if not exchange.left:
                raise

    async def _part(self, exchange: Exchange) -> None:
        """Tells the caller that the server ends, which has cancelled the work, where the answer is not complete."""
        failure = Failure.shutting_down(is_partial=exchange.started)
        if exchange.reading:
            log_refusal(failure, **exchange.where)
        exchange.ask_no_more()
        if not exchange.started:
            await exchange.respond(failure.http_status, self._document(failure), [*JSON, *failure.headers])
        elif self.framed is not None and not exchange.ended:
            await exchange.end(self.framed(self._document(failure)))

    async def _allow_page(self, exchange: Exchange) -> bool:
        """Answers a browser that asks whether a page may call; False where it does not ask, or the page may not."""
        fields = preflight_fields(self._config.allowed_origins, exchange.headers, self._methods)
        if fields is not None:
            await exchange.respond(200, b"", fields)
        return fields is not None

    def refusal(self, failure: Failure, *, has_key: bool, origin: str) -> tuple[Headers, bytes]:
        """Header fields and body of the answer that a failure is, where it is given in the place of this endpoint.

        Takes whether the request has a key, and the origin that it names ("": none). The length of the body, and the
        request's id, are left out.
        """
        fields = [*JSON, *failure.headers, *challenge(failure, has_key=has_key)]
        if self._config.allowed_origins:
            given = {b"origin": origin.encode("latin-1", "replace")} if origin else {}
            fields += answer_fields(self._config.allowed_origins, given)
        return fields, self._document(failure)

    def _failure(self, exchange: Exchange, error: Exception) -> tuple[Failure, Lines]:
        """What failed, and what the RPC told of it, said to the log where the core cannot have said it."""
        if isinstance(error, aio.AioRpcError):
            failure = Failure.of(error)
            if not failure.reason:
                log_refusal(failure, **exchange.where)
            return failure, Told(error.trailing_metadata()).lines()
        if isinstance(error, Refused):
            failure = error.failure
        elif isinstance(error, InvalidBody):
            failure = Failure.invalid(error.message, error.param or None)
        else:
            log.error("internal_error", exc_info=error, **exchange.where)
            return Failure.internal(), b""
        log_refusal(failure, **exchange.where)
        return failure, b""

    def _record_leaving(self, exchange: Exchange) -> None:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            task.uncancel()
        if not exchange.started:
            exchange.status = 499
            if exchange.reading:
                log_refusal(Failure.client_left(), **exchange.where)
