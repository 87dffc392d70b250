"""ModelService: the models that can be asked."""

from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer

from gateway_core.catalog.catalog import Catalog
from gateway_core.services.edge import Context, Rpc


class ModelService(ModelServiceServicer):
    """Tells which models can be asked."""

    def __init__(self, catalog: Catalog) -> None:
        """Takes what can be asked."""
        self._catalog = catalog

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """Lists the models."""
        rpc = Rpc(context, "list_models")
        try:
            response = ListModelsResponse(models=await self._catalog.models(request.provider))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """Tells of one model."""
        rpc = Rpc(context, "get_model")
        try:
            response = GetModelResponse(model=await self._catalog.model(request.id))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response
