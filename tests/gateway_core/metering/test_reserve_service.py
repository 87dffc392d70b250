"""Reserves and price classes of plans, over gRPC and REST in front of a store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode, aio
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.balance_pb2 import Balance
from headgate.v1.balance_service_pb2 import AddCreditRequest, GetBalanceRequest
from headgate.v1.balance_service_pb2_grpc import BalanceServiceStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage
from headgate.v1.model_service_pb2 import GetModelRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub
from headgate.v1.plan_pb2 import Plan, PlanReserve, ReserveModel, ReserveWindow
from headgate.v1.plan_service_pb2 import CreatePlanRequest, GetPlanRequest, UpdatePlanRequest
from headgate.v1.plan_service_pb2_grpc import PlanServiceStub
from headgate.v1.usage_pb2 import UsageRecord
from headgate.v1.usage_service_pb2 import ListUsageRecordsRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub
from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.store import Store
from tests.support.gateway import running

ROOT_KEY = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
PRICE = {"input_per_million": "1000", "output_per_million": "3000"}
CONFIG = Config.model_validate(
    {
        # Nothing listens there.
        "providers": {"gone": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "lists_models": False}},
        "models": {
            "priced": {"targets": [{"provider": "echo", "model": "m"}], "price": PRICE, "price_class": "advanced"},
            "cheap": {"targets": [{"provider": "echo", "model": "c"}], "price": PRICE, "price_class": "basic"},
            "broken": {"targets": [{"provider": "gone", "model": "b"}], "price": PRICE},
        },
        "plans": {
            "reserved": {
                "reserve": {
                    "windows": [{"window_seconds": 21600, "units": 10}, {"window_seconds": 604800, "units": 1000}],
                    "models": [{"model": "priced"}, {"model": "broken", "units_per_usd": "1"}],
                }
            },
            "basic": {"allowed_price_classes": ["basic"]},
        },
    }
)
ROOT = (("authorization", f"Bearer {ROOT_KEY}"),)


@dataclass
class Kept:
    """What a test needs of a gateway."""

    channel: aio.Channel
    http: httpx.AsyncClient
    store: Store

    async def account(self, plan: str) -> str:
        """The key of a new account."""
        made = await self.stub(AccountServiceStub).CreateAccount(
            CreateAccountRequest(account=Account(name="a", plan=plan)), metadata=ROOT
        )
        key: str = made.secret
        return key

    def stub(self, kind: Any) -> Any:
        return kind(self.channel)

    async def balance(self, key: str) -> Balance:
        told = await self.stub(BalanceServiceStub).GetBalance(GetBalanceRequest(), metadata=bearer(key))
        balance: Balance = told.balance
        return balance

    async def left(self, key: str) -> list[Decimal]:
        return [Decimal(state.units_remaining) for state in (await self.balance(key)).reserve]

    async def records(self, key: str) -> list[UsageRecord]:
        told = await self.stub(UsageServiceStub).ListUsageRecords(ListUsageRecordsRequest(), metadata=bearer(key))
        return list(told.records)

    async def ask(self, key: str, model: str = "priced") -> None:
        request = CreateChatCompletionRequest(spec=spec(model))
        await self.stub(ChatCompletionServiceStub).CreateChatCompletion(request, metadata=bearer(key))

    async def faults(self) -> tuple[str, ...]:
        async with self.store.database.reading() as connection:
            return (await proof(connection)).faults


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def spec(model: str) -> ChatCompletionSpec:
    messages = [ChatMessage(role=ROLE_USER, text="hello you")]
    return ChatCompletionSpec(model=model, messages=messages, max_completion_tokens=5)


@asynccontextmanager
async def kept(database_url: str, folder: Path) -> AsyncIterator[Kept]:
    store = Store.at(SecretStr(database_url), folder, {"HEADGATE_SECRET_KEY": "k" * 43})
    async with (
        running(CONFIG, store=store, root_key=ROOT_KEY) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        yield Kept(channel, http, store)


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(database_url, tmp_path) as started:
        yield started


async def code(rpc: Any) -> StatusCode:
    with pytest.raises(aio.AioRpcError) as refused:
        await rpc
    return refused.value.code()


async def test_a_call_that_the_reserve_covers_takes_nothing_from_the_balance(gateway: Kept) -> None:
    key = await gateway.account("reserved")
    await gateway.ask(key)
    stream = gateway.stub(ChatCompletionServiceStub).StreamChatCompletion(
        StreamChatCompletionRequest(spec=spec("priced")), metadata=bearer(key)
    )
    assert [event async for event in stream]
    body = {"model": "priced", "messages": [{"role": "user", "content": "hello you"}], "max_completion_tokens": 5}
    headers = {"authorization": f"Bearer {key}"}
    answer = await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    records = await gateway.records(key)
    assert [record.charged_usd for record in records] == ["0"] * 3
    used = [Decimal(record.reserve_units) for record in records]
    assert used == [Decimal(record.cost_usd) * 100 for record in records]
    assert min(used) > 0
    told = await gateway.balance(key)
    assert (told.balance_usd, told.reserved_usd, told.spent_usd) == ("0", "0", "0")
    assert [Decimal(state.units_remaining) for state in told.reserve] == [10 - sum(used), 1000 - sum(used)]
    assert [state.reset_time.seconds % state.window_seconds for state in told.reserve] == [0, 0]
    over_rest = (await gateway.http.get("/api/v1/balance", headers=headers)).json()["data"]
    assert [state["units_remaining"] for state in over_rest["reserve"]] == [
        state.units_remaining for state in told.reserve
    ]
    assert await gateway.faults() == ()


async def test_the_balance_pays_what_the_reserve_does_not_cover(gateway: Kept) -> None:
    key = await gateway.account("reserved")
    assert await code(gateway.ask(key, "cheap")) == StatusCode.RESOURCE_EXHAUSTED

    async def ask_often() -> None:
        for _ in range(20):
            await gateway.ask(key)

    # In the end less is left than an answer may take, and there is no money.
    assert await code(ask_often()) == StatusCode.RESOURCE_EXHAUSTED
    assert len(await gateway.records(key)) > 1
    before = await gateway.left(key)
    account = (await gateway.balance(key)).account_id
    credit = AddCreditRequest(account_id=account, amount_usd="5", reference="r")
    await gateway.stub(BalanceServiceStub).AddCredit(credit, metadata=ROOT)
    await gateway.ask(key)
    last = (await gateway.records(key))[0]
    assert (last.reserve_units, last.charged_usd) == ("", last.cost_usd)
    assert await gateway.left(key) == before
    assert Decimal((await gateway.balance(key)).balance_usd) == 5 - Decimal(last.cost_usd)
    assert await gateway.faults() == ()


async def test_a_call_that_failed_without_using_anything_gives_its_units_back(gateway: Kept) -> None:
    key = await gateway.account("reserved")
    assert await code(gateway.ask(key, "broken")) == StatusCode.UNAVAILABLE
    assert await gateway.left(key) == [10, 1000]
    (record,) = await gateway.records(key)
    assert (record.reserve_units, record.charged_usd, record.cost_usd) == ("", "0", "0")


async def test_plans_and_what_was_used_of_their_reserves_are_there_after_a_restart(
    database_url: str, tmp_path: Path
) -> None:
    reserve = PlanReserve(
        windows=[ReserveWindow(window_seconds=604800, units=50)],
        models=[ReserveModel(model="priced", units_per_usd="12.5"), ReserveModel(model="cheap")],
    )
    plan = Plan(name="made", reserve=reserve, allowed_price_classes=["advanced", "basic"])
    async with kept(database_url, tmp_path) as gateway:
        await gateway.stub(PlanServiceStub).CreatePlan(CreatePlanRequest(plan=plan), metadata=ROOT)
        key = await gateway.account("made")
        await gateway.ask(key)
        left = await gateway.left(key)
        assert 0 < left[0] < 50
    async with kept(database_url, tmp_path) as gateway:
        found = (await gateway.stub(PlanServiceStub).GetPlan(GetPlanRequest(name="made"), metadata=ROOT)).plan
        assert (found.reserve, list(found.allowed_price_classes)) == (reserve, ["advanced", "basic"])
        assert await gateway.left(key) == left
        await gateway.ask(key)
        assert (await gateway.left(key))[0] == left[0] - (50 - left[0])
        # A plan without a reserve uses the balance again.
        mask = FieldMask(paths=["reserve"])
        await gateway.stub(PlanServiceStub).UpdatePlan(
            UpdatePlanRequest(plan=Plan(name="made"), update_mask=mask), metadata=ROOT
        )
        assert await code(gateway.ask(key)) == StatusCode.RESOURCE_EXHAUSTED
        assert not (await gateway.balance(key)).reserve


async def test_a_plan_allows_the_models_of_its_price_classes(gateway: Kept) -> None:
    key = await gateway.account("basic")
    for refused in ("priced", "echo/m", "broken"):
        assert await code(gateway.ask(key, refused)) == StatusCode.PERMISSION_DENIED
    for allowed in ("cheap", "echo/c"):
        # It has no money: it is refused for that, later.
        assert await code(gateway.ask(key, allowed)) == StatusCode.RESOURCE_EXHAUSTED
    model = (await gateway.stub(ModelServiceStub).GetModel(GetModelRequest(id="cheap"), metadata=ROOT)).model
    assert model.price_class == "basic"
    wider = Plan(name="basic", allowed_models=["priced"])
    await gateway.stub(PlanServiceStub).UpdatePlan(UpdatePlanRequest(plan=wider), metadata=ROOT)
    assert await code(gateway.ask(key, "priced")) == StatusCode.RESOURCE_EXHAUSTED
    assert await code(gateway.ask(key, "broken")) == StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("plan", "param"),
    [
        (Plan(name="x", allowed_price_classes=["none"]), "plan.allowed_price_classes"),
        (Plan(name="x", reserve=PlanReserve()), "plan.reserve.windows"),
        (
            Plan(name="x", reserve=PlanReserve(windows=[ReserveWindow(window_seconds=1, units=1)])),
            "plan.reserve.models",
        ),
        (
            Plan(
                name="x",
                reserve=PlanReserve(windows=[ReserveWindow(window_seconds=1)], models=[ReserveModel(model="m")]),
            ),
            "plan.reserve.windows[0].units",
        ),
        (
            Plan(
                name="x",
                reserve=PlanReserve(
                    windows=[ReserveWindow(window_seconds=1, units=1)],
                    models=[ReserveModel(model="m", units_per_usd="1e3")],
                ),
            ),
            "plan.reserve.models[0].units_per_usd",
        ),
        (
            Plan(
                name="x",
                reserve=PlanReserve(
                    windows=[ReserveWindow(window_seconds=1, units=1)],
                    models=[ReserveModel(model="m", units_per_usd="0")],
                ),
            ),
            "plan.reserve.models[0].units_per_usd",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "plan",
)
async def test_a_reserve_or_a_class_that_is_wrong_is_refused_by_its_name(gateway: Kept, plan: Plan, param: str) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await gateway.stub(PlanServiceStub).CreatePlan(CreatePlanRequest(plan=plan), metadata=ROOT)
    assert refused.value.code() == StatusCode.INVALID_ARGUMENT
    assert (refused.value.details() or "").startswith(param)
