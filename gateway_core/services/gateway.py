"""GatewayService: the gateways of the caller's account."""

from collections.abc import Callable

from headgate.v1.gateway_pb2 import Gateway
from headgate.v1.gateway_service_pb2 import (
    CreateGatewayRequest,
    CreateGatewayResponse,
    DeleteGatewayRequest,
    DeleteGatewayResponse,
    GetGatewayRequest,
    GetGatewayResponse,
    ListGatewaysRequest,
    ListGatewaysResponse,
    UpdateGatewayRequest,
    UpdateGatewayResponse,
)
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceServicer
from headgate.v1.message_pb2 import ROLE_USER

from gateway_core.call import Caller
from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.gateway_book import GatewayBook, Rules
from gateway_core.catalog.gateway_check import Facts, check
from gateway_core.chat import read
from gateway_core.errors import InvalidRequest, ModelNotAllowed, ModelNotFound
from gateway_core.services.access import CallerOf, answered
from gateway_core.services.askable import Askable, AskedBy
from gateway_core.services.edge import Context
from gateway_core.services.spec import check as check_spec
from gateway_core.upstream.reach import Reach


class GatewayService(GatewayServiceServicer):
    """Keeps gateways."""

    def __init__(self, book: GatewayBook, caller_of: CallerOf) -> None:
        """Takes where they are kept, and who tells who calls."""
        self._book = book
        self._caller_of = caller_of

    async def CreateGateway(self, request: CreateGatewayRequest, context: Context) -> CreateGatewayResponse:
        """Makes a gateway."""

        async def create(caller: Caller) -> CreateGatewayResponse:
            return CreateGatewayResponse(gateway=await self._book.create(caller, request.gateway))

        return await answered(self._caller_of, context, "create_gateway", create, request)

    async def GetGateway(self, request: GetGatewayRequest, context: Context) -> GetGatewayResponse:
        """Tells of one gateway."""

        async def get(caller: Caller) -> GetGatewayResponse:
            return GetGatewayResponse(gateway=await self._book.get(caller, request.id))

        return await answered(self._caller_of, context, "get_gateway", get, request)

    async def ListGateways(self, request: ListGatewaysRequest, context: Context) -> ListGatewaysResponse:
        """Lists the gateways."""

        async def listed(caller: Caller) -> ListGatewaysResponse:
            page = await self._book.page(caller, request.page_size, request.page_token, request.name_contains)
            return ListGatewaysResponse(gateways=page.gateways, next_page_token=page.next_token)

        return await answered(self._caller_of, context, "list_gateways", listed, request)

    async def UpdateGateway(self, request: UpdateGatewayRequest, context: Context) -> UpdateGatewayResponse:
        """Changes a gateway."""

        async def update(caller: Caller) -> UpdateGatewayResponse:
            paths = list(request.update_mask.paths) if request.HasField("update_mask") else None
            return UpdateGatewayResponse(gateway=await self._book.update(caller, request.gateway, paths))

        return await answered(self._caller_of, context, "update_gateway", update, request)

    async def DeleteGateway(self, request: DeleteGatewayRequest, context: Context) -> DeleteGatewayResponse:
        """Deletes a gateway."""

        async def delete(caller: Caller) -> DeleteGatewayResponse:
            await self._book.delete(caller, request.id)
            return DeleteGatewayResponse()

        return await answered(self._caller_of, context, "delete_gateway", delete, request)


def rules(catalog: Catalog, reach: Reach, asked_by: AskedBy) -> Rules:
    """What gateways must be, where these models can be asked, by whom, and these addresses dialled."""

    def check_gateway(gateway: Gateway) -> None:
        try:
            check(gateway, facts(catalog, gateway), reach)
            check_values(gateway)
        except InvalidRequest as error:
            # By its path in the request, as everywhere.
            param = error.metadata["param"]
            message = (
                error.message.replace(param, f"gateway.{param}", 1)
                if error.message.startswith(param)
                else error.message
            )
            raise InvalidRequest(message, param=f"gateway.{param}") from None

    async def use_of(caller: Caller) -> Callable[[Gateway], None]:
        askable = await asked_by.caller(caller)
        return lambda gateway: check_use(askable, gateway)

    return Rules(check_gateway, catalog.is_hosted, use_of)


def check_use(askable: Askable, gateway: Gateway) -> None:
    """Raises ModelNotAllowed where a caller may not ask what stands behind a gateway, by its own name."""
    if gateway.HasField("endpoint"):
        if not askable.every_endpoint:
            raise ModelNotAllowed(
                "A key or an account with allowed_models cannot give a gateway an endpoint of its own.",
                param="gateway.endpoint",
                model=gateway.endpoint.model[:200],
            )
    elif not askable.model(gateway.model):
        model = gateway.model[:200]
        raise ModelNotAllowed(
            f"You may not ask the model {model!r}, and so cannot put it behind a gateway.",
            param="gateway.model",
            model=model,
        )


def facts(catalog: Catalog, gateway: Gateway) -> Facts:
    """What is known of a gateway's model; raises InvalidRequest where there is no such model."""
    if gateway.HasField("endpoint") or not gateway.model:
        return Facts()
    try:
        return catalog.facts(gateway.model)
    except ModelNotFound as error:
        raise InvalidRequest(error.message, param="model") from None


def check_values(gateway: Gateway) -> None:
    """Raises InvalidRequest for values of parameters that no request may have."""
    probe = type(gateway.parameters)()
    probe.CopyFrom(gateway.parameters)
    probe.model = "probe"
    probe.messages.add(role=ROLE_USER, text="")
    try:
        check_spec(read(probe))
    except InvalidRequest as error:
        param = error.metadata.get("param", "")
        message = error.message.replace(param, f"parameters.{param}", 1)
        raise InvalidRequest(message, param=f"parameters.{param}") from None
