"""grpc.health.v1.Health, which tells of single models too: "model/small" serves while one of its targets does.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

MODEL = "model/"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class HealthService(HealthServicer):  # type: ignore[misc]
    """Tells what it was told of services; of models it asks each time. `Watch` knows no models.

    Not the library's servicer: there a watcher that reads nothing holds up whoever tells that a service ends.
    """

    def __init__(self, is_served: Callable[[str], bool | None]) -> None:
        """Takes what tells whether a model can be asked at a target that is well. None: there is no such model."""
        self._is_served = is_served
        self._statuses: dict[str, int] = {}
        self._is_ending = False
        self._changed = asyncio.Event()

    def tell(self, service: str, *, is_serving: bool) -> None:
        """Tells whether a service serves, until all end. The server as a whole is the service ""."""
        if not self._is_ending:
            self._statuses[service] = SERVING if is_serving else NOT_SERVING
            self._wake()

    def end(self) -> None:
        """Tells of all services that they do not serve, for good."""
        self._is_ending = True
        self._statuses = dict.fromkeys(self._statuses, NOT_SERVING)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        """Whether a service, or a model, serves: a model does not where the circuits of all its targets are open."""
        if not request.service.startswith(MODEL):
            status = self._statuses.get(request.service)
            if status is None:
                await context.abort(StatusCode.NOT_FOUND, "There is no such service.")
            return HealthCheckResponse(status=status)
        is_served = self._is_served(request.service.removeprefix(MODEL))
        if is_served is None:
            await context.abort(StatusCode.NOT_FOUND, "There is no such model in the configuration.")
        return HealthCheckResponse(status=self._statuses.get("", NOT_SERVING) if is_served else NOT_SERVING)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> AsyncIterator[HealthCheckResponse]:
        """Whether a service serves, now and whenever that changes."""
        last = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield HealthCheckResponse(status=status)
            else:
                await changed.wait()
