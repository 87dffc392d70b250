"""PlanService: the plans, which every private key may read and the operator may change."""

from collections.abc import Mapping
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
from gateway_core.config import Config
from gateway_core.config_file import dotted, plain
from gateway_core.config_plan import PlanConfig
from gateway_core.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, PermissionDenied
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

        return await self._access.answered(context, "create_plan", work, request)

    async def GetPlan(self, request: GetPlanRequest, context: Context) -> GetPlanResponse:
        """Tells of one plan."""

        async def work(caller: Caller) -> GetPlanResponse:
            return GetPlanResponse(plan=plan_message(await self._found(request.name)))

        return await self._access.answered(context, "get_plan", work, request)

    async def ListPlans(self, request: ListPlansRequest, context: Context) -> ListPlansResponse:
        """Lists the plans, by name."""

        async def work(caller: Caller) -> ListPlansResponse:
            if not 0 <= request.page_size <= PAGE_AT_MOST:
                raise InvalidRequest(f"page_size must be 1 to {PAGE_AT_MOST}.", param="page_size")
            size = request.page_size or 100
            plans = [plan for plan in await self._plans.plans() if plan.name > request.page_token]
            more = plans[size - 1].name if len(plans) > size else ""
            return ListPlansResponse(plans=map(plan_message, plans[:size]), next_page_token=more)

        return await self._access.answered(context, "list_plans", work, request)

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

        return await self._access.answered(context, "update_plan", work, request)

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

        return await self._access.answered(context, "delete_plan", work, request)

    async def _found(self, name: str) -> Plan:
        plan = await self._plans.plan(name)
        if plan is None:
            raise NotFound("There is no such plan.", resource="plan", id=name[:200])
        return plan

    async def _put(self, message: PlanMessage) -> PlanMessage:
        document = checked(message, self._plans.price_classes)
        async with self._database.transaction() as connection:
            await put_plan(connection, message.name, document)
            await self._database.changes.publish(connection, TOPIC, message.name)
        return plan_message(await self._found(message.name))


def check_operator(caller: Caller) -> None:
    """Raises PermissionDenied."""
    if not caller.is_root:
        raise PermissionDenied("Only the operator's own account may change plans.")


def checked(message: PlanMessage, price_classes: Mapping[str, str]) -> dict[str, Any]:
    """What is kept of a plan; takes the classes of models. Raises InvalidRequest, which names the field."""
    check_decimal(message.price_multiplier, "plan.price_multiplier", "1.05")
    for index, row in enumerate(message.reserve.models):
        check_decimal(row.units_per_usd, f"plan.reserve.models[{index}].units_per_usd", "100")
    known = set(price_classes.values())
    for name in message.allowed_price_classes:
        if name not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "there are none"
            param = "plan.allowed_price_classes"
            raise InvalidRequest(f"{param}: no model has the price class {name[:64]!r}; {there}.", param=param)
    document = document_of(message)
    try:
        # The classes are checked; a configuration without models would refuse them.
        Config(plans={message.name: PlanConfig.model_validate({**document, "allowed_price_classes": ()})})
    except ValidationError as error:
        first = error.errors()[0]
        places = first["loc"][2:] if first["loc"][:1] == ("plans",) else first["loc"]
        path = dotted(("plan", *("name" if place == "[key]" else place for place in places)))
        raise InvalidRequest(f"{path}: {plain(first)}.", param=path) from None
    return document


def check_decimal(text: str, path: str, example: str) -> None:
    """Raises InvalidRequest for a text that is neither empty nor a decimal number."""
    if text and not is_decimal(text):
        raise InvalidRequest(f'{path} must be a decimal number, such as "{example}".', param=path)


def copy(source: PlanMessage, target: PlanMessage, name: str) -> None:
    """Sets a field of a plan as in another, where it is set there."""
    part = PlanMessage()
    part.CopyFrom(source)
    for field, _ in source.ListFields():
        if field.name != name:
            part.ClearField(field.name)
    target.MergeFrom(part)
