"""ModelService: the models that can be asked."""

from headgate.v1.model_pb2 import Model
from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer

from gateway_core.catalog.catalog import Catalog, offered
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.gateway_model import gateway_model, gateway_models
from gateway_core.services.access import Access
from gateway_core.services.edge import Context, Rpc


class ModelService(ModelServiceServicer):
    """Tells which models can be asked."""

    def __init__(self, catalog: Catalog, gateways: GatewayCache, access: Access) -> None:
        """Takes what can be asked, and who may know."""
        self._catalog = catalog
        self._gateways = gateways
        self._access = access

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """Lists the models, then the gateways of the caller's account."""
        rpc = Rpc(context, "list_models")
        try:
            caller = await self._access.private(context)
            models = await self._catalog.models()
            gateways = self._gateways.of_account(caller.account_id)
            models += gateway_models(gateways, self._catalog, {model.id: model for model in models})
            response = ListModelsResponse(models=offered(models, request.provider))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """Tells of one model."""
        rpc = Rpc(context, "get_model")
        try:
            caller = await self._access.private(context)
            response = GetModelResponse(model=await self._model(caller.account_id, request.id))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response

    async def _model(self, account_id: str, name: str) -> Model:
        version = self._gateways.find(account_id, name)
        if version is None:
            return await self._catalog.model(name)
        known = {model.id: model for model in await self._catalog.models()}
        return gateway_model(version, self._catalog, known.get(version.message.model))
