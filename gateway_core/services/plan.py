"""PlanService: the plans, which every private key may read and the operator may change."""

from typing import Any

from headgate.v1.plan_pb2 import Plan as PlanMessage
from headgate.v1.plan_service_pb2 import (
    CreatePlanRequest,
    CreatePlanResponse,
    DeletePlanRequest,
    DeletePlanResponse,
    GetPlanRequest,
    GetPlanResponse,
    ListPlansRequest,
    ListPlansResponse,
    UpdatePlanRequest,
    UpdatePlanResponse,
)
from headgate.v1.plan_service_pb2_grpc import PlanServiceServicer
from pydantic import ValidationError

from gateway_core.call import Caller
from gateway_core.config import Config, PlanConfig
from gateway_core.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, PermissionDenied, Unimplemented
from gateway_core.identity.fields import changed_paths
from gateway_core.metering.plan import Plan, Plans, document_of, is_decimal, plan_message
from gateway_core.services.access import Access
from gateway_core.services.edge import Context
from gateway_core.storage.database import Database
from gateway_core.storage.plan import TOPIC, delete_plan, has_accounts, put_plan

CHANGEABLE = frozenset(
    [
        *("description", "windows", "context_limit_tokens", "allowed_models", "allowed_price_classes"),
        *("price_multiplier", "concurrent_calls_per_key", "queued_calls_per_key", "queue_seconds", "reserve"),
    ]
)
PAGE_AT_MOST = 1000


class PlanService(PlanServiceServicer):
    """Keeps the plans."""

    def __init__(self, plans: Plans, database: Database, access: Access) -> None:
        """Takes the plans, where they are kept, and who may ask."""
        self._plans = plans
        self._database = database
        self._access = access

    async def CreatePlan(self, request: CreatePlanRequest, context: Context) -> CreatePlanResponse:
        """Makes a plan. One of the configuration may be made anew: it then counts instead."""

        async def work(caller: Caller) -> CreatePlanResponse:
            check_operator(caller)
            name = request.plan.name
            known = await self._plans.plan(name)
            if known is not None and known.created_us is not None:
                raise AlreadyExists("There is a plan of that name.", resource="plan", id=name)
            return CreatePlanResponse(plan=await self._put(request.plan))

        return await self._access.answered(context, "create_plan", work)

    async def GetPlan(self, request: GetPlanRequest, context: Context) -> GetPlanResponse:
        """Tells of one plan."""

        async def work(caller: Caller) -> GetPlanResponse:
            return GetPlanResponse(plan=plan_message(await self._found(request.name)))

        return await self._access.answered(context, "get_plan", work)

    async def ListPlans(self, request: ListPlansRequest, context: Context) -> ListPlansResponse:
        """Lists the plans, by name."""

        async def work(caller: Caller) -> ListPlansResponse:
            if not 0 <= request.page_size <= PAGE_AT_MOST:
                raise InvalidRequest(f"page_size must be 1 to {PAGE_AT_MOST}.", param="page_size")
            size = request.page_size or 100
            plans = [plan for plan in await self._plans.plans() if plan.name > request.page_token]
            more = plans[size - 1].name if len(plans) > size else ""
            return ListPlansResponse(plans=map(plan_message, plans[:size]), next_page_token=more)

        return await self._access.answered(context, "list_plans", work)

    async def UpdatePlan(self, request: UpdatePlanRequest, context: Context) -> UpdatePlanResponse:
        """Changes a plan. One of the configuration is kept from then on."""

        async def work(caller: Caller) -> UpdatePlanResponse:
            check_operator(caller)
            message = plan_message(await self._found(request.plan.name))
            mask = request.update_mask if request.HasField("update_mask") else None
            for path in changed_paths(request.plan, mask, CHANGEABLE, "a plan"):
                message.ClearField(path)
                copy(request.plan, message, path)
            return UpdatePlanResponse(plan=await self._put(message))

        return await self._access.answered(context, "update_plan", work)

    async def DeletePlan(self, request: DeletePlanRequest, context: Context) -> DeletePlanResponse:
        """Deletes a plan. Where the configuration has one of the name, that counts again."""

        async def work(caller: Caller) -> DeletePlanResponse:
            check_operator(caller)
            name = (await self._found(request.name)).name
            async with self._database.transaction() as connection:
                if not self._plans.is_configured(name) and await has_accounts(connection, name):
                    raise Conflict("Accounts have the plan: give them another one first.", resource="plan", id=name)
                if not await delete_plan(connection, name):
                    raise Conflict("The plan is one of the configuration: delete it there.", resource="plan", id=name)
                await self._database.changes.publish(connection, TOPIC, name)
            return DeletePlanResponse()

        return await self._access.answered(context, "delete_plan", work)

    async def _found(self, name: str) -> Plan:
        plan = await self._plans.plan(name)
        if plan is None:
            raise NotFound("There is no such plan.", resource="plan", id=name[:200])
        return plan

    async def _put(self, message: PlanMessage) -> PlanMessage:
        document = checked(message)
        async with self._database.transaction() as connection:
            await put_plan(connection, message.name, document)
            await self._database.changes.publish(connection, TOPIC, message.name)
        return plan_message(await self._found(message.name))


def check_operator(caller: Caller) -> None:
    """Raises PermissionDenied."""
    if not caller.is_root:
        raise PermissionDenied("Only the operator's own account may change plans.")


def checked(message: PlanMessage) -> dict[str, Any]:
    """What is kept of a plan; raises InvalidRequest, which names the field, and Unimplemented."""
    if message.HasField("reserve") or message.allowed_price_classes:
        raise Unimplemented("Reserves and price classes of plans are not there yet.")
    if message.price_multiplier and not is_decimal(message.price_multiplier):
        raise InvalidRequest(
            'plan.price_multiplier must be a decimal number, such as "1.05".', param="plan.price_multiplier"
        )
    document = document_of(message)
    try:
        Config(plans={message.name: PlanConfig.model_validate(document)})
    except ValidationError as error:
        first = error.errors()[0]
        places = [str(place) for place in first["loc"] if place not in ("plans", message.name)]
        path = ".".join(["plan", *("name" if place == "[key]" else place for place in places)])
        raise InvalidRequest(f"{path}: {first['msg']}.", param=path) from None
    return document


def copy(source: PlanMessage, target: PlanMessage, name: str) -> None:
    """Sets a field of a plan as in another, where it is set there."""
    part = PlanMessage()
    part.CopyFrom(source)
    for field, _ in source.ListFields():
        if field.name != name:
            part.ClearField(field.name)
    target.MergeFrom(part)
