"""BalanceService: what accounts have, what is added to it, and what is left of their limits."""

from typing import Any

from headgate.v1.balance_pb2 import LIMIT_MEASURE_INPUT_TOKENS, LIMIT_MEASURE_REQUESTS, Balance, Credit, LimitMeasure
from headgate.v1.balance_service_pb2 import (
    AddCreditRequest,
    AddCreditResponse,
    GetBalanceRequest,
    GetBalanceResponse,
    ListCreditsRequest,
    ListCreditsResponse,
)
from headgate.v1.balance_service_pb2_grpc import BalanceServiceServicer

from gateway_core.call import Caller
from gateway_core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from gateway_core.identity.fields import page, pico_usd, text
from gateway_core.identity.ownership import own_or_below
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.plan import Plan, Plans, plan_message
from gateway_core.metering.price import usd_text
from gateway_core.metering.reserve import MICRO, Reserve, reserve_scope, units_text
from gateway_core.services.access import Access
from gateway_core.services.edge import Context
from gateway_core.storage import account as accounts
from gateway_core.storage.account import AccountRow
from gateway_core.storage.balance import (
    TOPIC,
    CreditRow,
    add_credit,
    balance_rows,
    credit_of,
    credit_rows,
    has_expired,
    lapse,
)
from gateway_core.storage.database import Database
from gateway_core.storage.errors import BalanceTooLarge
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.open_calls import reserved
from gateway_core.timestamp import time_us, timestamp
from gateway_core.webhooks.crossing import rearm
from gateway_core.webhooks.event import CREDIT_ADDED, time_text
from gateway_core.webhooks.outbox import Outbox


class BalanceService(BalanceServiceServicer):
    """Tells of balances, and adds to them."""

    def __init__(self, plans: Plans, limits: SharedLimits, database: Database, access: Access, outbox: Outbox) -> None:
        """Takes the plans, what is used of their limits, where balances are kept, who may ask, and who is told."""
        self._outbox = outbox
        self._plans = plans
        self._limits = limits
        self._database = database
        self._access = access

    async def GetBalance(self, request: GetBalanceRequest, context: Context) -> GetBalanceResponse:
        """Tells what an account has."""

        async def work(caller: Caller) -> GetBalanceResponse:
            return GetBalanceResponse(balance=await self._balance(caller, request.account_id))

        return await self._access.answered(context, "get_balance", work, request)

    async def AddCredit(self, request: AddCreditRequest, context: Context) -> AddCreditResponse:
        """Adds money, once for each reference."""

        async def work(caller: Caller) -> AddCreditResponse:
            if not caller.is_root:
                raise PermissionDenied("Only the operator's own account may add credit.")
            return await self._add(caller, request)

        return await self._access.answered(context, "add_credit", work, request)

    async def ListCredits(self, request: ListCreditsRequest, context: Context) -> ListCreditsResponse:
        """Lists the credits of an account."""

        async def work(caller: Caller) -> ListCreditsResponse:
            size = page(request.page_size, request.page_token)
            async with self._database.transaction() as connection:
                account = await own_or_below(connection, caller, request.account_id)
                await self._bring_up_to_date(connection, account.id)
                rows = await credit_rows(connection, account.id, request.page_token, size + 1)
            more = rows[size - 1].id if len(rows) > size else ""
            return ListCreditsResponse(credits=map(credit_message, rows[:size]), next_page_token=more)

        return await self._access.answered(context, "list_credits", work, request)

    async def _balance(self, caller: Caller, account_id: str) -> Balance:
        async with self._database.reading(settled=True) as connection:
            account = await own_or_below(connection, caller, account_id)
            (row,) = await balance_rows(connection, [account.id])
            held = await reserved(connection, account.id)
            is_behind = await has_expired(connection, account.id, now_us())
        if is_behind:
            # Rarely: what expires is taken back from time to time anyway.
            async with self._database.transaction() as connection:
                await self._bring_up_to_date(connection, account.id)
                (row,) = await balance_rows(connection, [account.id])
        plan = await self._plans.plan(account.plan) if account.plan else None
        told = Balance(
            account_id=account.id,
            balance_usd=usd_text(row.settled),
            reserved_usd=usd_text(held),
            spent_usd=usd_text(row.spent),
            spend_cap_usd=None if row.spend_cap is None else usd_text(row.spend_cap),
            unlimited=row.root and row.spend_cap is None,
            plan=None if plan is None else plan_message(plan),
        )
        for scope, measure, limit, seconds in limits(account, plan):
            await self._add_limit(told, scope, measure, limit, seconds)
        if plan is not None and plan.reserve is not None:
            await self._add_reserve(told, plan.reserve)
        return told

    async def _add_reserve(self, told: Balance, reserve: Reserve) -> None:
        for seconds, units in reserve.windows:
            left, end_us = await self._limits.left(reserve_scope(told.account_id), units * MICRO, seconds)
            told.reserve.add(
                window_seconds=seconds, units=units, units_remaining=units_text(left), reset_time=timestamp(end_us)
            )

    async def _add_limit(self, told: Balance, scope: str, measure: LimitMeasure, limit: int, seconds: int) -> None:
        left, end_us = await self._limits.left(scope, limit, seconds)
        told.limits.add(
            measure=measure, window_seconds=seconds, limit=limit, remaining=left, reset_time=timestamp(end_us)
        )

    async def _bring_up_to_date(self, connection: Any, account_id: str) -> None:
        """Makes what is left of an account's credits add up to its balance, as of now."""
        if await lapse(connection, account_id, now_us()):
            await self._database.changes.publish(connection, TOPIC, account_id)

    async def _add(self, caller: Caller, request: AddCreditRequest) -> AddCreditResponse:
        wanted = credit_of_request(request)
        await self._database.settled()  # what calls that have ended cost was taken from what was there before
        async with self._database.transaction() as connection:
            account = await account_of(connection, caller, request.account_id)
            credit = wanted._replace(account_id=account.id)
            try:
                added = await add_credit(connection, credit)
            except BalanceTooLarge:
                message = (
                    "amount_usd would bring the balance beyond 9223372 US dollars, which is the most that it holds."
                )
                raise InvalidRequest(message, param="amount_usd") from None
            if added and credit.expires_us is not None and credit.expires_us <= credit.created_us:
                # Only here: the same credit may be asked for again after it has expired.
                raise InvalidRequest("expire_time must be in the future.", param="expire_time")
            if added:
                await self._database.changes.publish(connection, TOPIC, account.id)
            await self._bring_up_to_date(connection, account.id)
            there = await credit_of(connection, account.id, credit.reference)
            (balance,) = await balance_rows(connection, [account.id])
            if added:
                await rearm(connection, account.id, credited=True)
                await self._outbox.announce(connection, account.id, CREDIT_ADDED, data(credit, balance.settled))
        assert there is not None, "it is there, or was added"
        same = (there.amount, there.description, there.expires_us) == (
            credit.amount, credit.description, credit.expires_us,
        )  # fmt: skip
        if not (added or same):
            raise Conflict("Another credit was added under that reference.", resource="credit", id=credit.reference)
        return AddCreditResponse(
            credit=credit_message(there), balance_usd=usd_text(balance.settled), already_added=not added
        )


async def account_of(connection: Any, caller: Caller, account_id: str) -> AccountRow:
    """The operator's own account, or any other; raises NotFound."""
    row = await accounts.account(connection, account_id or caller.account_id)
    if row is None:
        raise NotFound("There is no such account.", resource="account", id=account_id[:200])
    return row


def limits(account: AccountRow, plan: Plan | None) -> list[tuple[str, LimitMeasure, int, int]]:
    """The limits of an account: what they are counted under, what they count, how much, and in how many seconds."""
    found: list[tuple[str, LimitMeasure, int, int]] = []
    if account.requests_per_minute is not None:
        own = f"account:{account.id}:own:requests"
        found.append((own, LIMIT_MEASURE_REQUESTS, account.requests_per_minute, 60))
    for seconds, requests, tokens in plan.windows if plan is not None else ():
        if requests is not None:
            found.append((f"account:{account.id}:requests", LIMIT_MEASURE_REQUESTS, requests, seconds))
        if tokens is not None:
            found.append((f"account:{account.id}:tokens", LIMIT_MEASURE_INPUT_TOKENS, tokens, seconds))
    return found


def credit_of_request(request: AddCreditRequest) -> CreditRow:
    """The credit that is to be added, without its account; raises InvalidRequest."""
    amount = pico_usd(request.amount_usd, "amount_usd")
    if not amount:
        raise InvalidRequest("amount_usd must be above 0.", param="amount_usd")
    reference = text(request.reference, "reference", 128, required=True) or ""
    note = text(request.note, "note", 512)
    now = now_us()
    expires_us = time_us(request.expire_time, "expire_time") if request.HasField("expire_time") else None
    return CreditRow(new_id(), "", reference, note, amount, amount, expires_us, now)


def data(credit: CreditRow, settled: int) -> dict[str, Any]:
    """What a webhook tells of a credit."""
    return {
        "credit_id": credit.id,
        "amount_usd": usd_text(credit.amount),
        "reference": credit.reference,
        "expire_time": None if credit.expires_us is None else time_text(credit.expires_us),
        "balance_usd": usd_text(settled),
    }


def credit_message(row: CreditRow) -> Credit:
    """A credit in the contract's form."""
    return Credit(
        id=row.id,
        account_id=row.account_id,
        amount_usd=usd_text(row.amount),
        reference=row.reference,
        note=row.description or "",
        expire_time=None if row.expires_us is None else timestamp(row.expires_us),
        remaining_usd=usd_text(row.remaining),
        create_time=timestamp(row.created_us),
    )
