"""The limits in time of accounts: of their plans, and of their own."""

from typing import NamedTuple

from gateway_core.call import Caller
from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.limit_header import LimitsLeft
from gateway_core.metering.plan import Plan

ACCOUNTS_AT_MOST = 50_000


class Limit(NamedTuple):
    """A limit in time of one account."""

    name: str
    """ "requests" or "tokens"."""
    shared: SharedLimit


class Limits(NamedTuple):
    """The limits of one account, and what they were made from."""

    plan: Plan
    requests_per_minute: int | None
    all: tuple[Limit, ...]
    most_tokens: int | None
    """Of a prompt: what a window has that is never longer. None: none counts tokens."""
    left: LimitsLeft
    """What is told of them."""


class AccountLimits:
    """The limits of all accounts: whoever asks for one's gets the same."""

    def __init__(self, shared: SharedLimits) -> None:
        """Takes the limits that processes share."""
        self._shared = shared
        self._of_accounts: dict[str, Limits] = {}

    def of(self, caller: Caller, plan: Plan) -> Limits:
        """Those of the caller's account, which has the plan."""
        known = self._of_accounts.get(caller.account_id)
        if known is not None and known[0] is plan and known[1] == caller.requests_per_minute:
            return known
        limits: list[Limit] = []
        account = f"account:{caller.account_id}"
        if caller.requests_per_minute is not None:
            shared = self._shared.limit(f"{account}:own:requests", caller.requests_per_minute, 60)
            limits.append(Limit("requests", shared))
        for seconds, requests, tokens in plan.windows:
            for name, units in (("requests", requests), ("tokens", tokens)):
                if units is not None:
                    limits.append(Limit(name, self._shared.limit(f"{account}:{name}", units, seconds)))
        if len(self._of_accounts) >= ACCOUNTS_AT_MOST:
            self._of_accounts.clear()
        most = min((limit.shared.window.limit for limit in limits if limit.name == "tokens"), default=None)
        left = LimitsLeft(limits, self._shared.now_us)
        made = Limits(plan, caller.requests_per_minute, tuple(limits), most, left)
        self._of_accounts[caller.account_id] = made
        return made
