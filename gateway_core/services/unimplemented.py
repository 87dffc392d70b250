"""Services that the contract has and the core does not answer yet: every method is a clear UNIMPLEMENTED."""

from typing import Any, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from gateway_core.errors import Unimplemented
from gateway_core.services.edge import Context, fail

Servicer = TypeVar("Servicer")


def unimplemented(servicer: type[Servicer], service: ServiceDescriptor, why: str) -> Servicer:
    """A servicer of the contract's service that answers every method with UNIMPLEMENTED and the sentence given."""

    async def refuse(self: object, request: Message, context: Context) -> None:
        await fail(context, Unimplemented(why))

    methods: dict[str, Any] = {method.name: refuse for method in service.methods}
    built: Servicer = type(servicer.__name__, (servicer,), methods)()
    return built
