"""Services that the contract has and the core does not answer yet: every method is a clear UNIMPLEMENTED."""

from collections.abc import AsyncGenerator, Collection
from typing import Any, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from headgate.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    balance_service_pb2,
    balance_service_pb2_grpc,
    key_service_pb2,
    key_service_pb2_grpc,
    plan_service_pb2,
    plan_service_pb2_grpc,
)

from gateway_core.errors import Unimplemented
from gateway_core.services.edge import Context, fail

Servicer = TypeVar("Servicer")

# They come with a store, each from its own service.
LATER: tuple[tuple[ServiceDescriptor, Any], ...] = (
    (account_service_pb2.DESCRIPTOR.services_by_name["AccountService"], account_service_pb2_grpc),
    (balance_service_pb2.DESCRIPTOR.services_by_name["BalanceService"], balance_service_pb2_grpc),
    (key_service_pb2.DESCRIPTOR.services_by_name["KeyService"], key_service_pb2_grpc),
    (plan_service_pb2.DESCRIPTOR.services_by_name["PlanService"], plan_service_pb2_grpc),
)
SERVICES = tuple(service.full_name for service, _ in LATER)


def register(server: Any, why: str, answered: Collection[str] = ()) -> None:
    """Adds all of LATER but those that are answered, by name, to a server or a channel, with the sentence given."""
    for service, module in LATER:
        if service.name in answered:
            continue
        servicer = unimplemented(getattr(module, f"{service.name}Servicer"), service, why)
        getattr(module, f"add_{service.name}Servicer_to_server")(servicer, server)


def unimplemented(servicer: type[Servicer], service: ServiceDescriptor, why: str) -> Servicer:
    """A servicer of the contract's service that answers every method with UNIMPLEMENTED and the sentence given."""

    async def refuse(self: object, request: Message, context: Context) -> None:
        await fail(context, Unimplemented(why))

    async def refuse_to_stream(self: object, request: Message, context: Context) -> AsyncGenerator[Message, None]:
        await fail(context, Unimplemented(why))
        yield request  # never reached: it makes this a generator, as the servicer of a stream must be

    methods: dict[str, Any] = {
        method.name: refuse_to_stream if method.server_streaming else refuse for method in service.methods
    }
    built: Servicer = type(servicer.__name__, (servicer,), methods)()
    return built
