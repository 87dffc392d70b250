"""BalanceService and PlanService, over the channel of a core with a store."""

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode, aio
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.balance_pb2 import Credit
from headgate.v1.balance_service_pb2 import AddCreditRequest, GetBalanceRequest, ListCreditsRequest
from headgate.v1.balance_service_pb2_grpc import BalanceServiceStub
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER
from headgate.v1.plan_pb2 import Plan, PlanWindow
from headgate.v1.plan_service_pb2 import (
    CreatePlanRequest,
    DeletePlanRequest,
    GetPlanRequest,
    ListPlansRequest,
    UpdatePlanRequest,
)
from headgate.v1.plan_service_pb2_grpc import PlanServiceStub
from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.server import Core
from gateway_core.storage.store import Store

ROOT_KEY = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
SECRET_KEY = "a secret key of the tests, long enough"
CONFIG = Config.model_validate(
    {
        "listen": {"http": None, "grpc": None},
        "models": {
            "priced": {
                "targets": [{"provider": "echo", "model": "costly"}],
                "price": {"input_per_million": "1", "output_per_million": "3"},
            }
        },
        "plans": {"free": {"windows": [{"window_seconds": 3600, "requests": 2}]}},
    }
)
ROOT = (("authorization", f"Bearer {ROOT_KEY}"),)


class Stubs:
    """The services of a core."""

    def __init__(self, channel: Any) -> None:
        self.accounts: Any = AccountServiceStub(channel)
        self.balances: Any = BalanceServiceStub(channel)
        self.plans: Any = PlanServiceStub(channel)
        self.chat: Any = ChatCompletionServiceStub(channel)

    async def account(self, **values: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The id of a new account, and the metadata with its key."""
        made = await self.accounts.CreateAccount(
            CreateAccountRequest(account=Account(name="a", **values)), metadata=ROOT
        )
        return made.account.id, (("authorization", f"Bearer {made.secret}"),)

    async def credits(self, key: tuple[tuple[str, str], ...]) -> list[Credit]:
        """The credits of the account with a key."""
        return list((await self.balances.ListCredits(ListCreditsRequest(), metadata=key)).credits)


@pytest.fixture
async def stubs(database_url: str, tmp_path: Path) -> AsyncIterator[Stubs]:
    store = Store.at(SecretStr(database_url), tmp_path, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    core = Core(CONFIG, store, ROOT_KEY)
    await core.start()
    try:
        yield Stubs(core.channel)
    finally:
        await core.close()


async def code(rpc: Any) -> StatusCode:
    with pytest.raises(aio.AioRpcError) as refused:
        await rpc
    return refused.value.code()


async def test_a_credit_is_added_once_for_its_reference(stubs: Stubs) -> None:
    account, key = await stubs.account()
    request = AddCreditRequest(account_id=account, amount_usd="25.50", reference="invoice 1", note="paid")
    first = await stubs.balances.AddCredit(request, metadata=ROOT)
    again = await stubs.balances.AddCredit(request, metadata=ROOT)
    assert (first.balance_usd, first.already_added, again.balance_usd, again.already_added) == (
        "25.5", False, "25.5", True,
    )  # fmt: skip
    assert again.credit == first.credit
    request.amount_usd = "26"
    assert await code(stubs.balances.AddCredit(request, metadata=ROOT)) == StatusCode.FAILED_PRECONDITION
    told = (await stubs.balances.GetBalance(GetBalanceRequest(), metadata=key)).balance
    assert (told.account_id, told.balance_usd, told.spent_usd, told.unlimited) == (account, "25.5", "0", False)


async def test_a_credit_beyond_what_a_balance_holds_is_refused(stubs: Stubs) -> None:
    account, key = await stubs.account()
    request = AddCreditRequest(account_id=account, amount_usd="9000000.000000000001", reference="a")
    await stubs.balances.AddCredit(request, metadata=ROOT)
    request.reference = "b"
    assert await code(stubs.balances.AddCredit(request, metadata=ROOT)) == StatusCode.INVALID_ARGUMENT
    told = (await stubs.balances.GetBalance(GetBalanceRequest(), metadata=key)).balance
    assert told.balance_usd == "9000000.000000000001"


async def test_a_credit_that_has_expired_already_is_refused_and_not_added(stubs: Stubs) -> None:
    request = AddCreditRequest(amount_usd="1", reference="r")
    request.expire_time.seconds = 1_000_000
    assert await code(stubs.balances.AddCredit(request, metadata=ROOT)) == StatusCode.INVALID_ARGUMENT
    assert not (await stubs.balances.ListCredits(ListCreditsRequest(), metadata=ROOT)).credits


async def test_what_is_left_of_credits_is_the_balance_at_once(stubs: Stubs) -> None:
    account, key = await stubs.account()
    soon = AddCreditRequest(account_id=account, amount_usd="0.00001", reference="soon")
    soon.expire_time.FromMilliseconds(int(time.time() * 1000) + 3_600_000)
    for credit in (AddCreditRequest(account_id=account, amount_usd="1", reference="never"), soon):
        await stubs.balances.AddCredit(credit, metadata=ROOT)
    request = CreateChatCompletionRequest()
    request.spec.model = "priced"
    request.spec.messages.add(role=ROLE_USER, text="a text of some words, so that it costs more than the first credit")
    await stubs.chat.CreateChatCompletion(request, metadata=key)
    told = (await stubs.balances.GetBalance(GetBalanceRequest(), metadata=key)).balance
    left = {each.reference: Decimal(each.remaining_usd) for each in await stubs.credits(key)}
    assert left["soon"] == 0
    assert 0 < left["never"] < 1
    assert sum(left.values()) == Decimal(told.balance_usd) == Decimal("1.00001") - Decimal(told.spent_usd)


async def test_a_credit_that_expires_is_gone_at_once(stubs: Stubs) -> None:
    account, key = await stubs.account()
    request = AddCreditRequest(account_id=account, amount_usd="1", reference="soon")
    request.expire_time.FromMilliseconds(int(time.time() * 1000) + 200)
    await stubs.balances.AddCredit(request, metadata=ROOT)
    deadline = time.monotonic() + 10  # much sooner than credits are taken back by themselves
    while (await stubs.balances.GetBalance(GetBalanceRequest(), metadata=key)).balance.balance_usd != "0":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert [each.remaining_usd for each in await stubs.credits(key)] == ["0"]
    again = await stubs.balances.AddCredit(request, metadata=ROOT)
    assert (again.already_added, again.credit.remaining_usd, again.balance_usd) == (True, "0", "0")


async def test_a_credit_that_expires_beyond_all_calendars_is_refused(stubs: Stubs) -> None:
    request = AddCreditRequest(amount_usd="1", reference="r")
    request.expire_time.seconds = 2**62
    assert await code(stubs.balances.AddCredit(request, metadata=ROOT)) == StatusCode.INVALID_ARGUMENT


async def test_credits_are_listed_newest_first_in_pages(stubs: Stubs) -> None:
    account, key = await stubs.account()
    for number in range(3):
        request = AddCreditRequest(account_id=account, amount_usd="1", reference=str(number))
        await stubs.balances.AddCredit(request, metadata=ROOT)
    first = await stubs.balances.ListCredits(ListCreditsRequest(page_size=2), metadata=key)
    rest = await stubs.balances.ListCredits(
        ListCreditsRequest(page_size=2, page_token=first.next_page_token), metadata=key
    )
    assert [credit.reference for credit in [*first.credits, *rest.credits]] == ["2", "1", "0"]
    assert rest.next_page_token == ""


@pytest.mark.parametrize("amount", ["", "0", "-1", "1e3", "x", "0.0000000000001"])
async def test_an_amount_that_is_none_is_refused(stubs: Stubs, amount: str) -> None:
    request = AddCreditRequest(amount_usd=amount, reference="r")
    assert await code(stubs.balances.AddCredit(request, metadata=ROOT)) == StatusCode.INVALID_ARGUMENT


async def test_only_the_operator_adds_credit_and_changes_plans(stubs: Stubs) -> None:
    _, key = await stubs.account()
    request = AddCreditRequest(amount_usd="1", reference="r")
    assert await code(stubs.balances.AddCredit(request, metadata=key)) == StatusCode.PERMISSION_DENIED
    plan = CreatePlanRequest(plan=Plan(name="gold"))
    assert await code(stubs.plans.CreatePlan(plan, metadata=key)) == StatusCode.PERMISSION_DENIED


async def test_another_account_s_balance_is_not_there(stubs: Stubs) -> None:
    other, _ = await stubs.account()
    _, key = await stubs.account()
    request = GetBalanceRequest(account_id=other)
    assert await code(stubs.balances.GetBalance(request, metadata=key)) == StatusCode.NOT_FOUND


async def test_the_operator_is_unlimited(stubs: Stubs) -> None:
    assert (await stubs.balances.GetBalance(GetBalanceRequest(), metadata=ROOT)).balance.unlimited


async def test_a_plan_limits_calls_and_the_balance_tells_what_is_left(stubs: Stubs) -> None:
    _, key = await stubs.account(plan="free")
    request = CreateChatCompletionRequest()
    request.spec.model = "echo/echo"
    request.spec.messages.add(role=ROLE_USER, text="hi")
    for _ in range(2):
        await stubs.chat.CreateChatCompletion(request, metadata=key)
    assert await code(stubs.chat.CreateChatCompletion(request, metadata=key)) == StatusCode.RESOURCE_EXHAUSTED
    told = (await stubs.balances.GetBalance(GetBalanceRequest(), metadata=key)).balance
    assert told.plan.name == "free"
    assert [(limit.limit, limit.remaining, limit.window_seconds) for limit in told.limits] == [(2, 0, 3600)]
    # A plan that is changed counts at once.
    wider = Plan(name="free", windows=[PlanWindow(window_seconds=3600, requests=3)])
    await stubs.plans.UpdatePlan(UpdatePlanRequest(plan=wider), metadata=ROOT)
    await stubs.chat.CreateChatCompletion(request, metadata=key)
    assert await code(stubs.chat.CreateChatCompletion(request, metadata=key)) == StatusCode.RESOURCE_EXHAUSTED


async def test_a_plan_is_made_changed_and_deleted(stubs: Stubs) -> None:
    plan = Plan(name="gold", description="all", price_multiplier="0.9", concurrent_calls_per_key=4)
    await stubs.plans.CreatePlan(CreatePlanRequest(plan=plan), metadata=ROOT)
    assert await code(stubs.plans.CreatePlan(CreatePlanRequest(plan=plan), metadata=ROOT)) == StatusCode.ALREADY_EXISTS
    mask = FieldMask(paths=["price_multiplier", "description"])
    changed = await stubs.plans.UpdatePlan(
        UpdatePlanRequest(plan=Plan(name="gold", description="more"), update_mask=mask), metadata=ROOT
    )
    assert (changed.plan.description, changed.plan.price_multiplier, changed.plan.concurrent_calls_per_key) == (
        "more", "", 4,
    )  # fmt: skip
    listed = await stubs.plans.ListPlans(ListPlansRequest(), metadata=ROOT)
    assert [each.name for each in listed.plans] == ["free", "gold"]
    await stubs.account(plan="gold")
    assert await code(stubs.plans.DeletePlan(DeletePlanRequest(name="gold"), metadata=ROOT)) == (
        StatusCode.FAILED_PRECONDITION
    )
    assert await code(stubs.plans.GetPlan(GetPlanRequest(name="silver"), metadata=ROOT)) == StatusCode.NOT_FOUND


async def test_how_many_calls_wait_can_be_changed(stubs: Stubs) -> None:
    plan = Plan(name="gold", concurrent_calls_per_key=4)
    await stubs.plans.CreatePlan(CreatePlanRequest(plan=plan), metadata=ROOT)
    for change in (Plan(queued_calls_per_key=8), Plan(queue_seconds=5), Plan(concurrent_calls_per_key=2)):
        change.name = "gold"
        changed = (await stubs.plans.UpdatePlan(UpdatePlanRequest(plan=change), metadata=ROOT)).plan
    assert (changed.concurrent_calls_per_key, changed.queued_calls_per_key, changed.queue_seconds) == (2, 8, 5)
    cleared = UpdatePlanRequest(plan=Plan(name="gold"), update_mask={"paths": ["queued_calls_per_key"]})
    changed = (await stubs.plans.UpdatePlan(cleared, metadata=ROOT)).plan
    assert not changed.HasField("queued_calls_per_key")
    assert changed.concurrent_calls_per_key == 2


@pytest.mark.parametrize(
    "plan",
    [
        Plan(name="Gold Plan"),
        Plan(name=""),
        Plan(name="gold", price_multiplier="1e2"),
        Plan(name="gold", price_multiplier="-1"),
        Plan(name="gold", concurrent_calls_per_key=0),
        Plan(name="gold", queued_calls_per_key=1),
        Plan(name="gold", concurrent_calls_per_key=1, queued_calls_per_key=-1),
        Plan(name="gold", concurrent_calls_per_key=1, queued_calls_per_key=10_001),
        Plan(name="gold", concurrent_calls_per_key=1, queued_calls_per_key=1, queue_seconds=0),
        Plan(name="gold", windows=[PlanWindow(window_seconds=0)]),
        Plan(name="gold", windows=[PlanWindow(window_seconds=1), PlanWindow(window_seconds=1)]),
        Plan(name="gold", description="x" * 513),
    ],
    ids=lambda plan: str(plan)[:60].replace("\n", " "),
)
async def test_a_plan_that_is_wrong_is_refused(stubs: Stubs, plan: Plan) -> None:
    rpc = stubs.plans.CreatePlan(CreatePlanRequest(plan=plan), metadata=ROOT)
    assert await code(rpc) == StatusCode.INVALID_ARGUMENT
