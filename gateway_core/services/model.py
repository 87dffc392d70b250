"""ModelService: the models that the caller may ask."""

from headgate.v1.model_pb2 import Model
from headgate.v1.model_service_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse
from headgate.v1.model_service_pb2_grpc import ModelServiceServicer

from gateway_core.call import Caller
from gateway_core.catalog.catalog import Catalog, offered
from gateway_core.catalog.gateway import Version
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.gateway_model import gateway_model, gateway_models
from gateway_core.errors import ModelNotFound, PermissionDenied
from gateway_core.metering.plan import NO_PLAN, Plan, Plans
from gateway_core.pipeline.gateway import names
from gateway_core.services.access import Access
from gateway_core.services.edge import Context, Rpc


class Askable:
    """What one caller may ask: by key and account, as the stage `gateway` has it, and by plan, as the stage `admit`."""

    def __init__(self, caller: Caller, plan: Plan) -> None:
        """Takes who asks, and the plan of its account."""
        self._of_key = caller.allowed_models
        self._of_plan = plan.allowed_models

    def model(self, name: str) -> bool:
        """Whether a model may be asked by its name."""
        return (self._of_key is None or name in self._of_key) and (self._of_plan is None or name in self._of_plan)

    def gateway(self, version: Version) -> bool:
        """Whether a gateway may be asked: itself, or the model behind it."""
        if self._of_key is not None and self._of_key.isdisjoint(names(version.use.slug, version)):
            return False
        gateway = version.message
        behind = gateway.endpoint.model if gateway.HasField("endpoint") else gateway.model
        return self._of_plan is None or not self._of_plan.isdisjoint((version.use.id, version.use.slug, behind))


class ModelService(ModelServiceServicer):
    """Tells which models can be asked."""

    def __init__(self, catalog: Catalog, gateways: GatewayCache, plans: Plans, access: Access) -> None:
        """Takes what can be asked, by whom, and who may know."""
        self._catalog = catalog
        self._gateways = gateways
        self._plans = plans
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
        askable = await self._askable(caller)
        models = await self._catalog.models()
        gateways = [each for each in self._gateways.of_account(caller.account_id) if askable.gateway(each)]
        listed = [model for model in models if askable.model(model.id)]
        return listed + gateway_models(gateways, self._catalog, {model.id: model for model in models})

    async def _model(self, caller: Caller, name: str) -> Model:
        askable = await self._askable(caller)
        version = self._gateways.find(caller.account_id, name)
        # What may not be asked is not told from what is not there.
        if not (askable.model(name) if version is None else askable.gateway(version)):
            raise ModelNotFound(f"There is no model {name[:200]!r} that you may ask.", param="model", model=name[:200])
        if version is None:
            return await self._catalog.model(name)
        known = {model.id: model for model in await self._catalog.models()}
        return gateway_model(version, self._catalog, known.get(version.message.model))

    async def _askable(self, caller: Caller) -> Askable:
        plan = await self._plans.plan(caller.plan) if caller.plan else NO_PLAN
        if plan is None:
            raise PermissionDenied(f"The account has the plan {caller.plan!r}, which does not exist.")
        return Askable(caller, plan)
