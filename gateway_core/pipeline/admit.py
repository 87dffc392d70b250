"""Admits a call or refuses it: by the account's plan, by limits in time, and by what it has."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from math import ceil
from typing import Any, NamedTuple

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events, Given, Next, whole
from gateway_core.catalog.gateway_endpoint import EndpointTarget
from gateway_core.chat import chat_of
from gateway_core.errors import ContextTooLong, ModelNotAllowed, PermissionDenied, RateLimited
from gateway_core.limit_header import Told, counted, one_limit_headers
from gateway_core.metering.account_limit import AccountLimits, Limit, Limits
from gateway_core.metering.balance import Balance, Balances
from gateway_core.metering.concurrency import Cap, Concurrency
from gateway_core.metering.estimate import output_tokens
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.plan import NO_PLAN, Plan, Plans
from gateway_core.metering.price import Price
from gateway_core.metering.reserve import Held, Reserve, held
from gateway_core.metering.window import Window
from gateway_core.tokens import Counts, count

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

    __slots__ = ("balance", "held", "key", "limits", "price", "reserved", "taken", "tokens")

    def __init__(self, balance: Balance, limits: Limits) -> None:
        """Takes what the account has, and its limits."""
        self.balance = balance
        self.limits = limits
        self.price: Price | None = None
        """Of the model. None: it costs nothing, or nobody knows what."""
        self.key = ""
        self.held: Held | None = None
        """Of the plan's reserve. None: the balance pays."""
        self.reserved = 0
        self.tokens = 0
        self.taken: list[tuple[str, Window, int, int]] = []
        """Of the first limits, in their order: what they count, where, the units, and when their window began."""


class Stage:
    """After route, since price and limits depend on the model; before meter, so that a refusal is not written.

    In this order: what the plan allows (`_admit`), a place among the calls of the key (`_in_line`), the plan's reserve
    (`_cover`) or the balance (`_pay`), then one limit after the other (`_count`, `_acquire`). Each goes on with the
    next. Nearly all of it is at hand: a step that has to wait returns what is to be awaited, for itself and for all
    behind it.
    """

    def __init__(self, plans: Plans, limits: SharedLimits, balances: Balances, tariff: Tariff) -> None:
        """Takes what decides."""
        self._plans = plans
        self._limits = limits
        self._balances = balances
        self._tariff = tariff
        self._of_accounts = AccountLimits(limits)
        self.concurrency = Concurrency()

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Raises ModelNotAllowed, ContextTooLong, ConcurrencyLimited, RateLimited, InsufficientBalance and others."""
        caller = call.caller
        if not caller.account_id:
            return next(call)
        plan = self._plans.known(caller.plan) if caller.plan else NO_PLAN
        balance = self._balances.known(caller.account_id)
        if plan is None or balance is None:
            return self._asked(call, next)
        return self._decided(call, next, plan, balance)

    async def _asked(self, call: Call[Any], next: Next[Any]) -> Events:
        """What is asked by an account of which has to be read what it may do, or what it has."""
        caller, plan = call.caller, NO_PLAN
        if caller.plan:
            found = await self._plans.plan(caller.plan)
            if found is None:
                raise PermissionDenied(f"The account has the plan {caller.plan!r}, which does not exist.")
            plan = found
        return await self._decided(call, next, plan, await self._balance(caller.account_id))

    def _decided(self, call: Call[Any], next: Next[Any], plan: Plan, balance: Balance) -> Awaitable[Events]:
        if plan is NO_PLAN and call.caller.requests_per_minute is None and balance.is_unlimited:
            return next(call)
        return self._bounded(call, next, Admitted(balance, self._of_accounts.of(call.caller, plan)))

    async def _bounded(self, call: Call[Any], next: Next[Any], admitted: Admitted) -> Events:
        """What is asked within bounds: takes of them, and gives back what was not used."""
        try:
            waiting = self._admit(call, admitted)
            if waiting is not None:
                await waiting
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

    def _admit(self, call: Call[Any], admitted: Admitted) -> Awaitable[None] | None:
        """Takes what the call needs. What is to be awaited for the rest of that; None: nothing."""
        limits = admitted.limits
        plan, most_tokens = limits.plan, limits.most_tokens
        if limits.all:
            call.limits_left = limits.left
        price = admitted.price = self._price(call, plan)
        if price is not None or most_tokens is not None or plan.context_limit_tokens is not None:
            admitted.tokens = tokens = call.prompt_tokens = call.operation.prompt_token_count(call)
            check_context(plan, tokens)
            if most_tokens is not None and tokens > most_tokens:
                raise too_long(limits.all, tokens)
        if plan.cap is not None and not self._enters(call, plan.cap, admitted):
            return self._in_line(call, plan.cap, admitted)
        return self._pay(call, admitted)

    async def _in_line(self, call: Call[Any], cap: Cap, admitted: Admitted) -> None:
        """Waits for others of the call's key, and takes the rest."""
        await self._wait(call, cap, admitted)
        await rest(self._pay(call, admitted))

    def _pay(self, call: Call[Any], admitted: Admitted) -> Awaitable[None] | None:
        """Reserves what the call may cost, and counts it. What is to be awaited for the rest of that; None: nothing."""
        plan, price = admitted.limits.plan, admitted.price
        call.price_multiplier = plan.multiplier
        cost = 0 if price is None else price.cost(expected(call, admitted), plan.multiplier)
        if plan.reserve is not None:
            return self._cover(call, plan.reserve, cost, admitted)
        admitted.balance.reserve(cost)
        admitted.reserved = call.reserved_pico_usd = cost
        return self._count(call, admitted)

    async def _cover(self, call: Call[Any], reserve: Reserve, cost: int, admitted: Admitted) -> None:
        """Takes the cost from the plan's reserve, or else from the balance; and the rest."""
        admitted.held = await held(self._limits, call.caller.account_id, reserve, call.model, cost)
        if admitted.held is not None:
            call.cover = admitted.held.cover
        else:
            admitted.balance.reserve(cost)
            admitted.reserved = call.reserved_pico_usd = cost
        await rest(self._count(call, admitted))

    def _count(self, call: Call[Any], admitted: Admitted) -> Awaitable[None] | None:
        """Takes of the limits what their leases have. What is to be awaited for those that have less; None: nothing."""
        limits, tokens, taken = admitted.limits.all, admitted.tokens, admitted.taken
        now_us = self._limits.now_us() if limits else 0
        for name, shared in limits[len(taken) :]:
            units = 1 if name == "requests" else tokens
            if not shared.take(units, now_us):
                return self._acquire(call, admitted)
            window = shared.window
            taken.append((name, window, units, window.start_us))
        return None

    async def _acquire(self, call: Call[Any], admitted: Admitted) -> None:
        """Takes of the next limit by way of another lease, and of the rest; raises RateLimited."""
        limits, taken = admitted.limits, admitted.taken
        name, shared = limit = limits.all[len(taken)]
        now_us = self._limits.now_us()
        units = 1 if name == "requests" else admitted.tokens
        try:
            is_taken = await shared.acquire(units, now_us)
        except BaseException:  # the store is away, or the caller
            give_back(admitted)
            raise
        if not is_taken:
            give_back(admitted)
            call.limits_left = None  # the refusal tells it itself
            raise reached(limit, call.caller.account_id, now_us, limits.left.headers(now_us))
        taken.append((name, shared.window, units, shared.window.start_us))
        await rest(self._count(call, admitted))

    def _price(self, call: Call[Any], plan: Plan) -> Price | None:
        """What the model costs. None: nothing, or nobody knows. Raises ModelNotAllowed."""
        if plan.allowed_models is not None:
            check_model(call, plan, plan.allowed_models)
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

    def _correct(self, admitted: Admitted, prompt_tokens: int) -> None:
        """Counts the tokens that the provider has counted, in the place of those that were estimated."""
        more = prompt_tokens - admitted.tokens
        if not more or not admitted.taken:
            return
        admitted.tokens = prompt_tokens
        for name, window, _, start_us in admitted.taken:
            if name == "tokens":
                window.correct(more, start_us)

    def _end(self, call: Call[Any], admitted: Admitted) -> None:
        if admitted.held is not None:
            admitted.held.end()
        else:
            admitted.balance.settle(admitted.reserved, call.cost_pico_usd or 0)
        admitted.reserved = 0
        if admitted.key:
            self.concurrency.leave(admitted.key)
            admitted.key = ""


async def rest(waiting: Awaitable[None] | None) -> None:
    """What is left of the steps, where something is."""
    if waiting is not None:
        await waiting


def check_model(call: Call[Any], plan: Plan, allowed: Set[str]) -> None:
    """Raises ModelNotAllowed where a plan has neither the model nor the gateway that asks it; takes what it has."""
    if call.model in allowed:
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


def expected(call: Call[Any], admitted: Admitted) -> Counts:
    """What a call is expected to take."""
    completion = count(output_tokens(chat_of(call), USUAL_OUTPUT_TOKENS))
    return admitted.tokens, None, None, None, completion, None, None


def give_back(admitted: Admitted) -> None:
    """Returns what a refused call took before."""
    for _, window, units, start_us in admitted.taken:
        window.correct(-units, start_us)
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
