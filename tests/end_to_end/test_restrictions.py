"""What a caller may not ask by its name it may not ask by another way."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from headgate.v1 import key_pb2
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, UpdateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.gateway_pb2 import Gateway, OwnEndpoint
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest, UpdateGatewayRequest
from headgate.v1.key_service_pb2 import CreateKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub
from headgate.v1.plan_pb2 import Plan
from headgate.v1.plan_service_pb2 import CreatePlanRequest
from headgate.v1.plan_service_pb2_grpc import PlanServiceStub
from openai import APIStatusError, PermissionDeniedError

from tests.end_to_end.test_gateways import account, answer, ask
from tests.support.kept import ROOT, Kept, bearer, kept
from tests.support.upstream import Upstream, json_answer

PRICE = {"input_per_million": "1000000", "output_per_million": "1000000"}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as vendor:
        vendor.script(json_answer(answer()))
        yield vendor


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path, upstream, **models(upstream)) as gateway:
        yield gateway


def models(upstream: Upstream) -> dict[str, Any]:
    host = {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}
    both = [{"provider": "lab", "model": "big"}, {"provider": "spare", "model": "big"}]
    return {
        "providers": {"lab": host, "spare": host},
        "models": {
            "dear": {"targets": both, "price": PRICE},
            "small": {"targets": [{"provider": "lab", "model": "tiny"}], "price": PRICE},
        },
    }


async def narrow_key(world: Kept, *models: str) -> str:
    request = CreateKeyRequest(kind=key_pb2.KEY_KIND_PRIVATE, label="narrow", allowed_models=models)
    secret: str = (await KeyServiceStub(world.channel).CreateKey(request, metadata=bearer(ROOT))).secret
    return secret


async def change(world: Kept, secret: str, **fields: Any) -> None:
    request = UpdateGatewayRequest(gateway=Gateway(**fields))
    await world.gateways.UpdateGateway(request, metadata=bearer(secret))


@pytest.mark.parametrize("model", ["lab/big", "spare/big", "lab/tiny"])
async def test_a_priced_model_is_not_free_by_its_providers_name(world: Kept, model: str) -> None:
    bob = await account(world, "bob")  # has nothing
    with pytest.raises(APIStatusError) as refused:
        await ask(world.sdk_of(bob), model)
    assert refused.value.status_code == 402


async def test_what_nobody_has_priced_is_refused_and_not_listed_for_sub_accounts(world: Kept) -> None:
    bob = await account(world, "bob")
    with pytest.raises(PermissionDeniedError, match="has no price"):
        await ask(world.sdk_of(bob), "lab/other")
    with pytest.raises(APIStatusError) as refused:
        await world.sdk_of(bob).models.retrieve("lab/other")
    assert refused.value.status_code == 404
    await ask(world.sdk, "lab/other")  # the operator may


async def test_a_key_for_a_gateway_cannot_make_it_another_model(world: Kept) -> None:
    made = await world.create(name="support", model="small")
    narrow = await narrow_key(world, made.slug)
    with pytest.raises(PermissionDeniedError):
        await ask(world.sdk_of(narrow), "dear")
    for fields in ({"model": "dear"}, {"endpoint": OwnEndpoint(base_url="http://127.0.0.1:1/v1", model="m")}):
        with pytest.raises(aio.AioRpcError) as refused:
            await change(world, narrow, id=made.id, **fields)
        assert refused.value.code() == StatusCode.PERMISSION_DENIED
    await change(world, narrow, id=made.id, instructions="Be kind.")
    await ask(world.sdk_of(narrow), made.slug)


async def test_a_key_for_a_model_puts_no_other_behind_a_gateway(world: Kept) -> None:
    made = await world.create(name="support", model="dear")
    narrow = await narrow_key(world, "small")
    request = CreateGatewayRequest(gateway=Gateway(name="mine", model="dear"))
    with pytest.raises(aio.AioRpcError) as refused:
        await world.gateways.CreateGateway(request, metadata=bearer(narrow))
    assert refused.value.code() == StatusCode.PERMISSION_DENIED
    await change(world, narrow, id=made.id, model="small")
    await ask(world.sdk_of(narrow), made.id)


async def test_an_account_whose_plan_has_a_gateway_cannot_make_it_another_model(world: Kept) -> None:
    accounts = AccountServiceStub(world.channel)
    made = await accounts.CreateAccount(CreateAccountRequest(account=Account(name="bob")), metadata=bearer(ROOT))
    request = CreateGatewayRequest(gateway=Gateway(name="support", model="small"))
    gateway = (await world.gateways.CreateGateway(request, metadata=bearer(made.secret))).gateway
    plan = CreatePlanRequest(plan=Plan(name="support", allowed_models=[gateway.id]))
    await PlanServiceStub(world.channel).CreatePlan(plan, metadata=bearer(ROOT))
    limited = UpdateAccountRequest(account=Account(id=made.account.id, plan="support"))
    await accounts.UpdateAccount(limited, metadata=bearer(ROOT))
    with pytest.raises(aio.AioRpcError) as refused:
        await change(world, made.secret, id=gateway.id, model="dear")
    assert refused.value.code() == StatusCode.PERMISSION_DENIED
