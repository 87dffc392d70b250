"""What a caller may ask: by its key, its account, its plan, and what it costs."""

from collections.abc import Callable

from gateway_core.call import Caller
from gateway_core.catalog.gateway import Version
from gateway_core.errors import PermissionDenied
from gateway_core.metering.plan import NO_PLAN, Plan, Plans
from gateway_core.pipeline.gateway import names


class Askable:
    """What one caller may ask: by key and account, as the stage `gateway` has it; by plan and price, as `admit`."""

    def __init__(self, caller: Caller, plan: Plan, is_unpriced: Callable[[str], bool]) -> None:
        """Takes who asks, the plan of its account, and which models nobody but the operator may ask for their price."""
        self._of_key = caller.allowed_models
        self._of_plan = plan.allowed_models
        self._is_unpriced = never if caller.is_root else is_unpriced

    def model(self, name: str) -> bool:
        """Whether a model may be asked by its name."""
        if self._is_unpriced(name):
            return False
        return (self._of_key is None or name in self._of_key) and (self._of_plan is None or name in self._of_plan)

    @property
    def every_endpoint(self) -> bool:
        """Whether it may say itself what is asked behind a gateway, at its own cost."""
        return self._of_key is None

    def gateway(self, version: Version) -> bool:
        """Whether a gateway may be asked: itself, or the model behind it."""
        if self._of_key is not None and self._of_key.isdisjoint(names(version.use.slug, version)):
            return False
        gateway = version.message
        own = gateway.HasField("endpoint")
        behind = gateway.endpoint.model if own else gateway.model
        if not own and self._is_unpriced(behind):
            return False
        return self._of_plan is None or not self._of_plan.isdisjoint((version.use.id, version.use.slug, behind))


def never(name: str) -> bool:
    """Of the operator, who may ask what has no price."""
    return False


class AskedBy:
    """Tells who may ask what."""

    def __init__(self, plans: Plans, is_unpriced: Callable[[str], bool]) -> None:
        """Takes the plans, and which models have no price and should have one."""
        self._plans = plans
        self._is_unpriced = is_unpriced

    async def caller(self, caller: Caller) -> Askable:
        """What a caller may ask; raises PermissionDenied."""
        plan = await self._plans.plan(caller.plan) if caller.plan else NO_PLAN
        if plan is None:
            raise PermissionDenied(f"The account has the plan {caller.plan!r}, which does not exist.")
        return Askable(caller, plan, self._is_unpriced)
