"""grpc.health.v1.Health, which tells of single models too: "model/small" serves while one of its targets does."""

from collections.abc import Callable
from typing import Any

from grpc import StatusCode
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

MODEL = "model/"


class HealthService(health.HealthServicer):  # type: ignore[misc]
    """The library's servicer knows what it was told; of models it is asked each time. `Watch` knows no models."""

    def __init__(self, is_served: Callable[[str], bool | None]) -> None:
        """Takes what tells whether a model can be asked at a target that is well. None: there is no such model."""
        super().__init__()
        self._is_served = is_served

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        """Whether a service, or a model, serves: a model does not where the circuits of all its targets are open."""
        if not request.service.startswith(MODEL):
            return await super().Check(request, context)
        is_served = self._is_served(request.service.removeprefix(MODEL))
        if is_served is None:
            await context.abort(StatusCode.NOT_FOUND, "There is no such model in the configuration.")
        whole = await super().Check(HealthCheckRequest(), context)
        if is_served or whole.status != HealthCheckResponse.SERVING:
            return whole
        return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
