"""The root of the bridge: channel → dialects → ASGI app → HTTP server."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
import uvicorn
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from starlette.routing import BaseRoute, Match, Route, Router

from rest_bridge import dialects
from rest_bridge.config import BridgeConfig
from rest_bridge.connection import Receive, Scope, Send
from rest_bridge.endpoint import Endpoint
from rest_bridge.errors import Failure, Refused
from rest_bridge.exchange import Exchange
from rest_bridge.protocol import limited_protocol

Exposition = Callable[[str], tuple[bytes, str]]
"""The metrics and their content type, for an Accept header."""

App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

HEALTH_SECONDS = 2.0

CHANNEL_OPTIONS = (("grpc.http2.bdp_probe", 0),)
"""What a channel over a socket must be opened with, beside its limits (grpc/impl/channel_arg_names.h).

Left alone, gRPC reads megabytes of a stream ahead where the line is fast. So it reads 64 KiB: the core, and with it the
provider, is read no faster than the bridge's own callers read.
"""


def create(
    channel: aio.Channel,
    config: BridgeConfig,
    *,
    exposition: Exposition | None = None,
    names: Sequence[str] = dialects.NAMES,
    leaving: asyncio.Event | None = None,
) -> "Directory":
    """The ASGI app whose calls go over a channel, in the dialects named; GET /healthz is always there.

    It answers GET /metrics where there is an exposition. Once `leaving` is set, GET /healthz says so.
    """
    health = Health(channel, leaving or asyncio.Event())
    routes = [route for name in names for route in dialects.load(name, channel, config)]
    routes.append(Route("/healthz", Endpoint(config, "http", ["GET", "HEAD"], health.check, document)))
    if exposition is not None:
        metrics = Metrics(exposition)
        routes.append(Route("/metrics", Endpoint(config, "http", ["GET", "HEAD"], metrics.show, document)))
    nowhere = Endpoint(config, "http", ALL_METHODS, refuse, document)
    return Directory(routes, Outside(nowhere))


def server(app: Router, config: BridgeConfig, host: str, port: int) -> uvicorn.Server:
    """The HTTP server for an app; who starts it handles the signals."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=limited_protocol(config),
            interface="asgi3",
            ws="none",
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=config.keep_alive_seconds,
            timeout_graceful_shutdown=round(config.drain_seconds),
            backlog=4096,
        )
    )


class Directory(Router):
    """Finds endpoints: by one look into a table where the path has no parameters, else by Starlette's patterns."""

    def __init__(self, routes: Sequence[BaseRoute], outside: "Outside") -> None:
        """Takes the routes, and what answers other paths. A plain path comes before every pattern."""
        super().__init__(routes, redirect_slashes=False, default=outside)
        plain = [route for route in routes if isinstance(route, Route) and not route.param_convertors]
        self._endpoints: dict[str, Any] = {route.path: route.endpoint for route in reversed(plain)}
        # An object that is called has its method looked up each time.
        self._calls: dict[str, App] = {path: endpoint.__call__ for path, endpoint in self._endpoints.items()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answers one request."""
        call = self._calls.get(scope.get("path", "")) or super().__call__
        return call(scope, receive, send)

    def endpoint(self, method: str, path: str) -> Endpoint | None:
        """The endpoint that a request would be answered by. None: no dialect has the path."""
        plain = self._endpoints.get(path)
        if plain is None:
            scope = {"type": "http", "method": method, "path": path}
            found = (route for route in self.routes if route.matches(scope)[0] is not Match.NONE)
            plain = next((route.endpoint for route in found if isinstance(route, Route)), None)
        return plain if isinstance(plain, Endpoint) else None


ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


class Outside:
    """What no route takes: other paths; what is no HTTP request is left alone."""

    def __init__(self, nowhere: Endpoint) -> None:
        """Takes the answer for other paths."""
        self._nowhere = nowhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an HTTP request."""
        if scope["type"] == "http":
            await self._nowhere(scope, receive, send)


async def refuse(exchange: Exchange) -> None:
    """Says that there is no such path."""
    raise Refused(Failure.route_not_found(exchange.method, str(exchange.scope["path"])))


class Health:
    """Tells whether calls can be answered."""

    def __init__(self, channel: aio.Channel, leaving: asyncio.Event) -> None:
        """Takes the way to the core, and what is set once the bridge is about to stop."""
        self._stub = HealthStub(channel)
        self._leaving = leaving

    async def check(self, exchange: Exchange) -> None:
        """Answers 200 where the core serves, and the bridge goes on doing so, else 503."""
        status = "NOT_SERVING" if self._leaving.is_set() else await self._of_core()
        body = orjson.dumps({"service": "headgate", "status": status.lower()})
        await exchange.respond(200 if status == "SERVING" else 503, body)

    async def _of_core(self) -> str:
        try:
            response = await self._stub.Check(HealthCheckRequest(), timeout=HEALTH_SECONDS)
        except aio.AioRpcError:
            return "UNREACHABLE"
        return str(HealthCheckResponse.ServingStatus.Name(response.status))


class Metrics:
    """Shows the metrics of the process."""

    def __init__(self, exposition: Exposition) -> None:
        """Takes where they come from."""
        self._exposition = exposition

    async def show(self, exchange: Exchange) -> None:
        """Answers in the form that the Accept header asks for."""
        accept = exchange.headers.get(b"accept", b"").decode("latin-1")
        body, content_type = await asyncio.to_thread(self._exposition, accept)
        await exchange.respond(200, body, [(b"content-type", content_type.encode("latin-1"))])


def document(failure: Failure) -> bytes:
    """An error outside every dialect, in the form that most clients read."""
    error: dict[str, Any] = {"message": failure.message, "type": "invalid_request_error", "param": None, "code": None}
    return orjson.dumps({"error": error})
