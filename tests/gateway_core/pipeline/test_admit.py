import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ChatMessage, Role
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Caller, Events, Given
from gateway_core.config import Config
from gateway_core.errors import (
    ConcurrencyLimited,
    ContextTooLong,
    InsufficientBalance,
    ModelNotAllowed,
    PermissionDenied,
    ProviderUnreachable,
    RateLimited,
    SpendCapReached,
)
from gateway_core.metering.balance import Balances
from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.plan import Plans
from gateway_core.metering.price import is_unpriced, prices
from gateway_core.pipeline.admit import Stage, Tariff
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.storage.account import add_account
from gateway_core.storage.balance import CreditRow, add_credit
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import now_us
from gateway_core.storage.location import location

ACCOUNT = "00000000-0000-7000-8000-000000000001"
NOW = 6_000_000_000_000
DOLLAR = 10**12
CONFIG = Config.model_validate(
    {
        "providers": {"echo": {"kind": "echo"}},
        # A dollar for a token, so that money is easily counted.
        "models": {
            "dear": {
                "targets": [{"provider": "echo", "model": "echo"}],
                "price": {"input_per_million": 1_000_000, "output_per_million": 1_000_000},
            },
            "small": {"targets": [{"provider": "echo", "model": "small"}]},
        },
        "plans": {
            "three": {"windows": [{"window_seconds": 60, "requests": 3}]},
            "tokens": {"windows": [{"window_seconds": 60, "input_tokens": 100}]},
            "both": {"windows": [{"window_seconds": 60, "requests": 3, "input_tokens": 60}]},
            "one": {"concurrent_calls_per_key": 1},
            "line": {"concurrent_calls_per_key": 1, "queued_calls_per_key": 1},
            "all": {
                "concurrent_calls_per_key": 1,
                "queued_calls_per_key": 1,
                "windows": [{"window_seconds": 60, "requests": 3, "input_tokens": 1000}],
                "reserve": {
                    "windows": [{"window_seconds": 3600, "units": 20}],
                    "models": [{"model": "dear", "units_per_usd": 1}],
                },
            },
            "short": {"context_limit_tokens": 50},
            "small": {"allowed_models": ["small"]},
            "double": {"price_multiplier": "2"},
        },
    }
)


class Admission:
    """The stage over a database that has one account."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.balances = Balances(database)
        limits = SharedLimits(database, lambda: NOW)
        priced = prices(CONFIG)
        tariff = Tariff(priced, is_unpriced(CONFIG, priced))
        self.stage = Stage(Plans(CONFIG), limits, self.balances, tariff)

    async def account(self, *, usd: int = 0, **values: Any) -> None:
        async with self.database.transaction() as connection:
            await add_account(connection, {"id": ACCOUNT, "name": "a", **values})
            if usd:
                credit = CreditRow("", ACCOUNT, "r", None, usd * DOLLAR, usd * DOLLAR, None, now_us())
                await add_credit(connection, credit)


@pytest.fixture
async def admission(tmp_path: Path) -> AsyncIterator[Admission]:
    async with Database(location(None, tmp_path)) as opened:
        yield Admission(opened)


def asked(plan: str = "", *, words: int = 1, model: str = "small", stream: bool = False, **caller: Any) -> Call[Any]:
    spec = ChatCompletionSpec(model=model, max_completion_tokens=3)
    spec.messages.append(ChatMessage(role=Role.ROLE_USER, text="hello " * words))
    who = Caller(account_id=ACCOUNT, key_id="k", kind="private", plan=plan, **caller)
    return Call("id", ChatCompletion(), spec, stream=stream, caller=who)


async def answered(call: Call[Any]) -> Events:
    return Given(ChatCompletionChunk(id="1"))


async def test_a_plan_admits_as_many_requests_as_it_says(admission: Admission) -> None:
    await admission.account()
    for _ in range(3):
        await admission.stage(asked("three"), answered)
    with pytest.raises(RateLimited) as refused:
        await admission.stage(asked("three"), answered)
    assert refused.value.retry_after_seconds == 60
    assert refused.value.message == "The limit of 3 requests in 60 seconds is reached: try again in 60 seconds."
    assert refused.value.metadata["x-ratelimit-limit-requests"] == "3"
    assert refused.value.metadata["x-ratelimit-remaining-requests"] == "0"
    details = refused.value.to_status().details
    retry, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(retry) for detail in details)
    assert retry.retry_delay.seconds == 60
    assert any(detail.Unpack(quota) for detail in details)
    assert "3 requests per 60 s" in quota.violations[0].description


async def test_what_nobody_has_priced_is_asked_by_the_operator_only(admission: Admission) -> None:
    await admission.account(usd=1)
    with pytest.raises(ModelNotAllowed, match="has no price"):
        await admission.stage(asked(model="lab/big"), answered)
    await admission.stage(asked("three", model="lab/big", is_root=True), answered)


async def test_an_account_has_a_limit_of_its_own(admission: Admission) -> None:
    await admission.account()
    await admission.stage(asked(requests_per_minute=1), answered)
    with pytest.raises(RateLimited):
        await admission.stage(asked(requests_per_minute=1), answered)


async def test_tokens_are_trued_up_after_the_call(admission: Admission) -> None:
    await admission.account()

    async def used(call: Call[Any]) -> Events:
        return Given(ChatCompletionChunk(usage=TokenUsage(prompt_tokens=97)))

    await admission.stage(asked("tokens"), used)
    with pytest.raises(RateLimited) as refused:
        await admission.stage(asked("tokens"), used)
    assert refused.value.metadata["x-ratelimit-remaining-tokens"] == "3"


async def test_a_call_that_one_limit_refuses_takes_nothing_of_the_others(admission: Admission) -> None:
    await admission.account()
    await admission.stage(asked("both", words=40), answered)
    for _ in range(5):
        with pytest.raises(RateLimited, match="tokens"):
            await admission.stage(asked("both", words=40), answered)
    await admission.stage(asked("both"), answered)


async def test_a_prompt_that_no_window_ever_takes_is_too_long(admission: Admission) -> None:
    await admission.account()
    with pytest.raises(ContextTooLong, match="60 in 60 seconds") as refused:
        await admission.stage(asked("both", words=80), answered)
    assert refused.value.metadata["limit"] == "60"
    await admission.stage(asked("both", words=40), answered)


async def test_calls_of_a_key_at_the_same_time_are_limited_until_they_end(admission: Admission) -> None:
    await admission.account()

    async def opened(call: Call[Any]) -> Events:
        async def events() -> Events:
            yield ChatCompletionChunk(id="1")
            yield ChatCompletionChunk(id="2")

        return events()

    running = await admission.stage(asked("one", stream=True), opened)
    await anext(running)
    with pytest.raises(ConcurrencyLimited):
        await admission.stage(asked("one"), answered)
    await running.aclose()
    await admission.stage(asked("one"), answered)


async def test_a_call_that_may_wait_is_admitted_when_one_has_ended(admission: Admission) -> None:
    await admission.account()
    ends = asyncio.Event()

    async def slow(call: Call[Any]) -> Events:
        await ends.wait()
        return Given(ChatCompletionChunk(id="1"))

    first = asyncio.ensure_future(admission.stage(asked("line"), slow))
    await eventually(lambda: bool(admission.stage.concurrency._lines))
    second = asyncio.ensure_future(admission.stage(asked("line"), answered))
    await eventually(lambda: admission.stage.concurrency.queued == 1)
    with pytest.raises(ConcurrencyLimited):
        await admission.stage(asked("line"), answered)
    second.cancel()
    await eventually(lambda: admission.stage.concurrency.queued == 0)
    third = asyncio.ensure_future(admission.stage(asked("line"), answered))
    await eventually(lambda: admission.stage.concurrency.queued == 1)
    ends.set()
    assert [type(await task) for task in (first, third)] == [Given, Given]
    assert not admission.stage.concurrency._lines


async def eventually(is_so: Callable[[], bool]) -> None:
    end = asyncio.get_running_loop().time() + 5
    while not is_so():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0)


async def test_a_prompt_that_the_plan_does_not_take_is_refused(admission: Admission) -> None:
    await admission.account()
    await admission.stage(asked("short", words=5), answered)
    with pytest.raises(ContextTooLong):
        await admission.stage(asked("short", words=500), answered)


async def test_a_model_that_the_plan_does_not_have_is_refused(admission: Admission) -> None:
    await admission.account()
    await admission.stage(asked("small"), answered)
    with pytest.raises(ModelNotAllowed):
        await admission.stage(asked("small", model="large"), answered)


async def test_a_plan_that_is_not_there_admits_nobody(admission: Admission) -> None:
    await admission.account()
    with pytest.raises(PermissionDenied):
        await admission.stage(asked("gone"), answered)


async def test_a_call_that_the_balance_does_not_cover_is_refused(admission: Admission) -> None:
    await admission.account(usd=5)
    await admission.stage(asked(), answered)
    with pytest.raises(InsufficientBalance):
        await admission.stage(asked(model="dear", words=50), answered)


async def test_a_limit_below_one_does_not_make_room_in_the_balance(admission: Admission) -> None:
    await admission.account(usd=5)
    for named in (-1, -(10**9)):
        call = asked(model="dear")
        call.request.max_completion_tokens = named
        with pytest.raises(InsufficientBalance):
            await admission.stage(call, answered)
    balance = admission.balances.known(ACCOUNT)
    assert balance is not None
    assert balance.reserved == 0


async def test_a_limit_that_no_model_has_reserves_what_the_ledger_can_hold(admission: Admission) -> None:
    await admission.account(root=True)
    call = asked("double", model="dear")
    call.request.max_completion_tokens = 2**63 - 1
    await admission.stage(call, answered)
    # Of a thousand million tokens, at the dollar that a token costs here.
    assert 10**9 < call.reserved_pico_usd // (2 * DOLLAR) < 10**9 + 100


async def test_a_refusal_says_what_the_call_may_cost_and_what_is_left(admission: Admission) -> None:
    await admission.account(usd=5)
    with pytest.raises(InsufficientBalance) as refused:
        await admission.stage(asked(model="dear"), answered)
    assert refused.value.message == (
        "The call may cost $11, as estimated; $5 of the account's balance is left: "
        "name a smaller max_tokens, or add credit to the account."
    )
    assert refused.value.metadata == {"estimated_cost_usd": "11", "left_usd": "5"}


async def test_a_call_that_waits_for_its_key_takes_all_the_rest_afterwards(admission: Admission) -> None:
    await admission.account(usd=100)
    ends = asyncio.Event()
    covered: list[bool] = []

    async def slow(call: Call[Any]) -> Events:
        await ends.wait()
        covered.append(call.cover is not None and not call.reserved_pico_usd)
        return Given(ChatCompletionChunk(id="1"))

    calls = [asked("all", model="dear") for _ in range(2)]
    tasks = [asyncio.ensure_future(admission.stage(call, slow)) for call in calls]
    await eventually(lambda: admission.stage.concurrency.queued == 1)
    assert calls[1].cover is None
    ends.set()
    await asyncio.gather(*tasks)
    assert covered == [True, True]
    # More than the reserve has: the balance pays.
    long = asked("all", model="dear", words=20)
    await admission.stage(long, slow)
    assert covered == [True, True, False]
    assert long.reserved_pico_usd > 20 * DOLLAR
    with pytest.raises(RateLimited):
        await admission.stage(asked("all", model="dear"), slow)
    assert long.limits_left is not None
    assert long.limits_left.values()[:2] == ["3", "0"]
    balance = await admission.balances.balance(ACCOUNT)
    assert balance is not None
    assert balance.reserved == 0
    assert not admission.stage.concurrency._lines


async def test_a_refusal_tells_what_is_left_of_the_limits_too(admission: Admission) -> None:
    await admission.account(usd=5)
    for call in (asked("three", model="dear"), asked("three", model="dear")):
        with pytest.raises(InsufficientBalance):
            await admission.stage(call, answered)
        assert call.limits_left is not None
        told = dict(zip(call.limits_left.keys, call.limits_left.values(), strict=True))
        assert told["x-ratelimit-remaining-requests"] == "3"


async def test_open_calls_hold_what_they_may_cost(admission: Admission) -> None:
    await admission.account(usd=30)

    async def nested(call: Call[Any]) -> Events:
        with pytest.raises(InsufficientBalance):
            await admission.stage(asked(model="dear"), answered)
        return Given()

    first = asked(model="dear", words=10)
    await admission.stage(first, nested)
    assert 15 * DOLLAR < first.reserved_pico_usd <= 30 * DOLLAR
    await admission.stage(asked(model="dear"), answered)


async def test_what_a_call_cost_is_gone_before_it_is_read_again(admission: Admission) -> None:
    await admission.account(usd=30)

    async def charged(call: Call[Any]) -> Events:
        call.cost_pico_usd = 25 * DOLLAR
        return Given()

    await admission.stage(asked(model="dear"), charged)
    with pytest.raises(InsufficientBalance):
        await admission.stage(asked(model="dear"), answered)
    # The ledger of this test charged nothing, so that reading brings it back.
    await admission.balances.refresh()
    await admission.stage(asked(model="dear"), answered)


async def test_a_call_that_fails_costs_nothing(admission: Admission) -> None:
    await admission.account(usd=15)

    async def failing(call: Call[Any]) -> Events:
        raise ProviderUnreachable("It is not there.", provider="x")

    for _ in range(5):
        with pytest.raises(ProviderUnreachable):
            await admission.stage(asked(model="dear"), failing)
    balance = admission.balances.known(ACCOUNT)
    assert balance is not None
    assert balance.reserved == 0


async def test_a_plan_multiplies_prices(admission: Admission) -> None:
    await admission.account(usd=100)
    once, twice = asked(model="dear"), asked("double", model="dear")
    await admission.stage(once, answered)
    await admission.stage(twice, answered)
    assert twice.reserved_pico_usd == 2 * once.reserved_pico_usd > 0


async def test_the_operator_has_no_limit_but_a_spend_cap(admission: Admission) -> None:
    await admission.account(root=True)
    await admission.stage(asked(model="dear"), answered)


async def test_an_account_spends_no_more_than_its_cap(admission: Admission) -> None:
    await admission.account(usd=1000, spend_cap_pico_usd=DOLLAR)
    with pytest.raises(SpendCapReached, match=r"may cost \$11, as estimated; \$1 of the spend cap of \$1 is left"):
        await admission.stage(asked(model="dear"), answered)


async def test_an_account_that_has_spent_its_cap_is_told_so(admission: Admission) -> None:
    await admission.account(usd=1000, spend_cap_pico_usd=0)
    with pytest.raises(SpendCapReached, match=r"^The account has spent its spend cap of \$0: raise"):
        await admission.stage(asked(model="dear"), answered)


async def test_who_has_no_account_passes(admission: Admission) -> None:
    spec = ChatCompletionSpec(model="dear")
    await admission.stage(Call("id", ChatCompletion(), spec, stream=False), answered)


@pytest.mark.parametrize("failure", [StorageUnavailable("away"), asyncio.CancelledError()])
async def test_a_call_that_fails_while_it_takes_of_its_limits_takes_of_none(
    admission: Admission, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    await admission.account()
    taken = SharedLimit.acquire

    async def acquire(self: SharedLimit, units: int, now: int) -> bool:
        if self.window.limit == 60:
            raise failure
        return await taken(self, units, now)

    with monkeypatch.context() as patched:
        patched.setattr(SharedLimit, "acquire", acquire)
        call = asked("both")
        with pytest.raises(type(failure)):
            await admission.stage(call, answered)
    assert call.limits_left is not None
    assert call.limits_left.values()[1] == "3"
