"""ModelService: the models that can be asked."""

from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer

from gateway_core.catalog.catalog import Catalog
from gateway_core.services.access import Access
from gateway_core.services.edge import Context, Rpc


class ModelService(ModelServiceServicer):
    """Tells which models can be asked."""

    def __init__(self, catalog: Catalog, access: Access) -> None:
        """Takes what can be asked, and who may know."""
        self._catalog = catalog
        self._access = access

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """Lists the models."""
        rpc = Rpc(context, "list_models")
        try:
            await self._access.private(context)
            response = ListModelsResponse(models=await self._catalog.models(request.provider))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """Tells of one model."""
        rpc = Rpc(context, "get_model")
        try:
            await self._access.private(context)
            response = GetModelResponse(model=await self._catalog.model(request.id))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response
