"""ModelService: the models that can be asked."""

from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer

from gateway_core.catalog.catalog import Catalog
from gateway_core.services.edge import Context, failures_as_status


class ModelService(ModelServiceServicer):
    """Tells which models can be asked."""

    def __init__(self, catalog: Catalog) -> None:
        """Takes what can be asked."""
        self._catalog = catalog

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """Lists the models."""
        async with failures_as_status(context, lambda: ()):
            models = await self._catalog.models(request.provider)
        return ListModelsResponse(models=models)

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """Tells of one model."""
        async with failures_as_status(context, lambda: ()):
            model = await self._catalog.model(request.id)
        return GetModelResponse(model=model)
