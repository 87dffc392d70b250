"""ModelService: the models that the caller may ask."""

from headgate.v1.model_pb2 import Model
from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer

from gateway_core.call import Caller
from gateway_core.catalog.catalog import Catalog, offered
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.gateway_model import gateway_model, gateway_models
from gateway_core.errors import ModelNotFound
from gateway_core.services.access import Access
from gateway_core.services.askable import AskedBy
from gateway_core.services.edge import Context, Rpc


class ModelService(ModelServiceServicer):
    """Tells which models can be asked."""

    def __init__(self, catalog: Catalog, gateways: GatewayCache, asked_by: AskedBy, access: Access) -> None:
        """Takes what can be asked, by whom, and who may know."""
        self._catalog = catalog
        self._gateways = gateways
        self._asked_by = asked_by
        self._access = access

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """Lists the models, then the gateways of the caller's account."""
        rpc = Rpc(context, "list_models")
        try:
            caller = await self._access.private(context)
            response = ListModelsResponse(models=offered(await self._models(caller), request.provider))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """Tells of one model."""
        rpc = Rpc(context, "get_model")
        try:
            caller = await self._access.private(context)
            response = GetModelResponse(model=await self._model(caller, request.id))
        except Exception as error:
            await rpc.failed(error)
        rpc.succeeded()
        return response

    async def _models(self, caller: Caller) -> list[Model]:
        askable = await self._asked_by.caller(caller)
        models = await self._catalog.models()
        gateways = [each for each in self._gateways.of_account(caller.account_id) if askable.gateway(each)]
        listed = [model for model in models if askable.model(model.id)]
        return listed + gateway_models(gateways, self._catalog, {model.id: model for model in models})

    async def _model(self, caller: Caller, name: str) -> Model:
        askable = await self._asked_by.caller(caller)
        version = self._gateways.find(caller.account_id, name)
        # What may not be asked is not told from what is not there.
        if not (askable.model(name) if version is None else askable.gateway(version)):
            raise ModelNotFound(f"There is no model {name[:200]!r} that you may ask.", param="model", model=name[:200])
        if version is None:
            return await self._catalog.model(name)
        known = {model.id: model for model in await self._catalog.models()}
        return gateway_model(version, self._catalog, known.get(version.message.model))
