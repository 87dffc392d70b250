"""Admits a call or refuses it: by the account's plan, by limits in time, and by what it has."""

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any, NamedTuple

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events, Given, Next, whole
from gateway_core.catalog.gateway_endpoint import EndpointTarget
from gateway_core.chat import chat_of
from gateway_core.errors import ContextTooLong, ModelNotAllowed, PermissionDenied, RateLimited
from gateway_core.limit_header import Told, counted, one_limit_headers
from gateway_core.metering.account_limit import AccountLimits, Limit
from gateway_core.metering.balance import Balance, Balances
from gateway_core.metering.concurrency import Cap, Concurrency
from gateway_core.metering.estimate import output_tokens
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.limit_header import limit_headers
from gateway_core.metering.plan import NO_PLAN, Plan, Plans
from gateway_core.metering.price import Price
from gateway_core.metering.reserve import Held, held
from gateway_core.tokens import Tokens, count

STARTED = ChatCompletionChunk()
USUAL_OUTPUT_TOKENS = 1000
"""Reserved for an answer whose request names no limit."""


class Tariff(NamedTuple):
    """What models cost, by their names."""

    prices: Mapping[str, Price]
    is_unpriced: Callable[[str], bool]
    """Whether a model is refused to sub-accounts, since nobody has said what it costs."""


class Admitted:
    """What a call has taken, until it is given back at its end."""

    __slots__ = ("balance", "held", "key", "reserved", "taken", "tokens")

    def __init__(self, balance: Balance) -> None:
        """Takes from what account."""
        self.balance = balance
        self.key = ""
        self.held: Held | None = None
        """Of the plan's reserve. None: the balance pays."""
        self.reserved = 0
        self.tokens = 0
        self.taken: list[tuple[Limit, int, int]] = []
        """With the units, and the beginning of their window."""


class Stage:
    """After route, since price and limits depend on the model; before meter, so that a refusal is not written."""

    def __init__(self, plans: Plans, limits: SharedLimits, balances: Balances, tariff: Tariff) -> None:
        """Takes what decides."""
        self._plans = plans
        self._limits = limits
        self._balances = balances
        self._tariff = tariff
        self._of_accounts = AccountLimits(limits)
        self.concurrency = Concurrency()

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Raises ModelNotAllowed, ContextTooLong, ConcurrencyLimited, RateLimited, InsufficientBalance and others."""
        caller = call.caller
        if not caller.account_id:
            return await next(call)
        plan = NO_PLAN
        if caller.plan:
            found = self._plans.known(caller.plan) or await self._plans.plan(caller.plan)
            if found is None:
                raise PermissionDenied(f"The account has the plan {caller.plan!r}, which does not exist.")
            plan = found
        balance = self._balances.known(caller.account_id) or await self._balance(caller.account_id)
        if plan is NO_PLAN and caller.requests_per_minute is None and balance.is_unlimited:
            return await next(call)
        admitted = Admitted(balance)
        try:
            await self._admit(call, plan, admitted)
            events = await next(call)
            if call.stream:
                watched = self._watch(call, admitted, events)
                # As in the stage `trace`: closing a generator that has not run yet runs none of it.
                await anext(watched)
                return watched
            answer = events if isinstance(events, Given) else await whole(events)
        except BaseException:
            self._end(call, admitted)
            raise
        told = answer.said.usage
        if told is not None:
            self._correct(admitted, told.prompt or 0)
        self._end(call, admitted)
        return answer

    async def _watch(self, call: Call[Any], admitted: Admitted, events: Events) -> Events:
        try:
            try:
                yield STARTED
                async for event in events:
                    told = call.operation.usage(event)
                    if told is not None:
                        self._correct(admitted, max(0, told.prompt_tokens))
                    yield event
            finally:
                await events.aclose()
        finally:
            self._end(call, admitted)

    async def _admit(self, call: Call[Any], plan: Plan, admitted: Admitted) -> None:
        _, _, limits, most_tokens = self._of_accounts.of(call.caller, plan)
        if limits:
            call.limits_left = lambda: limit_headers(limits, self._limits.now_us())
        price = self._price(call, plan)
        if price is not None or most_tokens is not None or plan.context_limit_tokens is not None:
            admitted.tokens = call.prompt_tokens = call.operation.prompt_token_count(call)
            check_context(plan, admitted.tokens)
            if most_tokens is not None and admitted.tokens > most_tokens:
                raise too_long(limits, admitted.tokens)
        if plan.cap is not None and not self._enters(call, plan.cap, admitted):
            await self._wait(call, plan.cap, admitted)
        cost = 0 if price is None else price.cost(expected(call, admitted), plan.multiplier)
        if plan.reserve is not None:
            account = call.caller.account_id
            admitted.held = await held(self._limits, account, plan.reserve, call.model, cost)
        if admitted.held is not None:
            call.cover = admitted.held.cover
        else:
            admitted.balance.reserve(cost)
            admitted.reserved = call.reserved_pico_usd = cost
        call.price_multiplier = plan.multiplier
        now_us = self._limits.now_us() if limits else 0
        for limit in limits:
            if not takes(limit, admitted, now_us):
                await self._acquire(call, limit, limits, admitted)
                now_us = self._limits.now_us()

    def _price(self, call: Call[Any], plan: Plan) -> Price | None:
        """What the model costs. None: nothing, or nobody knows. Raises ModelNotAllowed."""
        check_model(call, plan)
        # An endpoint of the caller's own bills the caller itself, whatever it calls its model.
        if call.targets and isinstance(call.targets[0], EndpointTarget):
            return None
        price = self._tariff.prices.get(call.model)
        if price is None and not call.caller.is_root and self._tariff.is_unpriced(call.model):
            raise unpriced(call.model[:200])
        return price

    def _enters(self, call: Call[Any], cap: Cap, admitted: Admitted) -> bool:
        """Whether the call may run at once, with those of its key that do."""
        key = call.caller.key_id or call.caller.account_id
        if not self.concurrency.enter(key, cap):
            return False
        admitted.key = key
        return True

    async def _wait(self, call: Call[Any], cap: Cap, admitted: Admitted) -> None:
        key = call.caller.key_id or call.caller.account_id
        # Before the balance is reserved and limits are taken: who waits holds nothing of either.
        await self.concurrency.wait(key, cap, call.deadline)
        admitted.key = key
        # Meanwhile the balance may have been forgotten, and be held anew.
        admitted.balance = self._balances.known(call.caller.account_id) or await self._balance(call.caller.account_id)

    async def _balance(self, account_id: str) -> Balance:
        balance = await self._balances.balance(account_id)
        if balance is None:
            raise PermissionDenied("The account does not exist.")
        return balance

    async def _acquire(self, call: Call[Any], limit: Limit, limits: tuple[Limit, ...], admitted: Admitted) -> None:
        """Takes of a limit by way of another lease; raises RateLimited."""
        now_us = self._limits.now_us()
        units = 1 if limit.name == "requests" else admitted.tokens
        if not await limit.shared.acquire(units, now_us):
            give_back(admitted)
            call.limits_left = None  # the refusal tells it itself
            raise reached(limit, call.caller.account_id, now_us, limit_headers(limits, now_us))
        admitted.taken.append((limit, units, limit.shared.window.start_us))

    def _correct(self, admitted: Admitted, prompt_tokens: int) -> None:
        """Counts the tokens that the provider has counted, in the place of those that were estimated."""
        more = prompt_tokens - admitted.tokens
        if not more or not admitted.taken:
            return
        admitted.tokens = prompt_tokens
        for limit, _, start_us in admitted.taken:
            if limit.name == "tokens":
                limit.shared.window.correct(more, start_us)

    def _end(self, call: Call[Any], admitted: Admitted) -> None:
        if admitted.held is not None:
            admitted.held.end()
        else:
            admitted.balance.settle(admitted.reserved, call.cost_pico_usd or 0)
        admitted.reserved = 0
        if admitted.key:
            self.concurrency.leave(admitted.key)
            admitted.key = ""


def takes(limit: Limit, admitted: Admitted, now_us: int) -> bool:
    """Takes of a limit what a lease of it has; whether it has so much."""
    name, shared = limit
    shared.turn(now_us)
    units = 1 if name == "requests" else admitted.tokens
    if not shared.take(units, now_us):
        return False
    admitted.taken.append((limit, units, shared.window.start_us))
    return True


def check_model(call: Call[Any], plan: Plan) -> None:
    """Raises ModelNotAllowed where the plan has neither the model nor the gateway that asks it."""
    allowed = plan.allowed_models
    if allowed is None or call.model in allowed:
        return
    if call.gateway is not None and (call.gateway.id in allowed or call.gateway.slug in allowed):
        return
    model = call.model[:200]
    raise ModelNotAllowed(f"The plan {plan.name!r} does not have the model {model!r}.", param="model", model=model)


def unpriced(model: str) -> ModelNotAllowed:
    """The refusal of a model that would cost nothing because nobody knows what it costs."""
    return ModelNotAllowed(
        f"The model {model!r} has no price, so that only the operator's account may ask it: "
        "the operator can give it a row in `models`, or allow all such models with `unpriced_models: allow`.",
        param="model",
        model=model,
    )


def check_context(plan: Plan, tokens: int) -> None:
    """Raises ContextTooLong."""
    limit = plan.context_limit_tokens
    if limit is not None and tokens > limit:
        raise ContextTooLong(
            f"The prompt has about {tokens} tokens; the plan {plan.name!r} takes {limit}.",
            param="messages",
            limit=str(limit),
            input_tokens=str(tokens),
        )


def too_long(limits: Iterable[Limit], tokens: int) -> ContextTooLong:
    """The refusal of a prompt that a window is never long enough for: to wait would not help."""
    windows = (limit.shared.window for limit in limits if limit.name == "tokens")
    window = next(each for each in windows if tokens > each.limit)
    length = counted(window.length_us // 1_000_000, "second")
    return ContextTooLong(
        f"The prompt has about {tokens} tokens, and the account's limit is {window.limit} in {length}.",
        param="messages",
        limit=str(window.limit),
        input_tokens=str(tokens),
    )


def expected(call: Call[Any], admitted: Admitted) -> Tokens:
    """What a call is expected to take."""
    completion = count(output_tokens(chat_of(call), USUAL_OUTPUT_TOKENS))
    return tuple.__new__(Tokens, (admitted.tokens, None, None, None, completion, None, None))


def give_back(admitted: Admitted) -> None:
    """Returns what a refused call took before."""
    for limit, units, start_us in admitted.taken:
        limit.shared.window.correct(-units, start_us)
    admitted.taken.clear()


def reached(limit: Limit, account_id: str, now_us: int, told: Told) -> RateLimited:
    """The refusal: which limit, and how long to wait; takes what is told of all."""
    window = limit.shared.window
    seconds = window.reset_seconds(now_us)
    name, length = limit.name, window.length_us // 1_000_000
    of_this = one_limit_headers(name, window.limit, limit.shared.remaining(now_us), window.reset_us(now_us))
    what = f"{counted(window.limit, name[:-1])} in {counted(length, 'second')}"
    return RateLimited(
        f"The limit of {what} is reached: try again in {counted(ceil(seconds), 'second')}.",
        retry_after_seconds=seconds,
        limit=f"{window.limit} {name} per {length} s",
        subject=f"account:{account_id}",
        **dict((*told, *of_this)),
    )
