"""What is left of credits adds up to the balance, whatever is added, spent and lost to time, and in whatever order."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_core.storage.account import add_account
from gateway_core.storage.balance import CreditRow, add_credit, balance_rows, change, credit_rows, lapse
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id
from gateway_core.storage.location import Location

NEVER = 10**9
"""Later than all."""


@dataclass(slots=True)
class Model:
    """What should be there: of each credit when it expires and what is left, and what is owed."""

    left: dict[str, list[int]] = field(default_factory=dict)
    owed: int = 0

    def add(self, reference: str, amount: int, expires: int) -> None:
        paid = min(amount, self.owed)
        self.owed -= paid
        self.left[reference] = [expires, amount - paid]

    def spend(self, amount: int) -> None:
        for credit in sorted(self.left.values(), key=lambda each: each[0]):  # stable: the older first
            taken = min(amount, credit[1])
            credit[1] -= taken
            amount -= taken
        self.owed += amount

    def expire(self, now: int) -> None:
        for credit in self.left.values():
            if credit[0] <= now:
                credit[1] = 0


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 40), st.one_of(st.just(NEVER), st.integers(1, 30))),
    st.tuples(st.just("spend"), st.integers(1, 60), st.just(0)),
    st.tuples(st.just("pass"), st.integers(1, 10), st.just(0)),
    st.tuples(st.just("read"), st.just(0), st.just(0)),
)


@pytest.fixture
async def database(place: Location) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        yield opened


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_left_of_credits_is_the_balance_or_nothing(
    database: Database, steps: list[tuple[str, int, int]]
) -> None:
    account, model, now = new_id(), Model(), 0
    async with database.transaction() as connection:
        await add_account(connection, {"id": account, "name": "a"})
        for number, (what, amount, lasts) in enumerate([*steps, ("read", 0, 0)]):
            if what == "add":
                expires = None if lasts == NEVER else now + lasts
                credit = CreditRow(new_id(), account, str(number), None, amount, amount, expires, now)
                assert await add_credit(connection, credit)
                model.add(str(number), amount, NEVER if expires is None else expires)
            elif what == "spend":
                await change(connection, account, -amount)
                model.spend(amount)
            elif what == "pass":
                now += amount
            else:
                await lapse(connection, account, now)
                model.expire(now)
                (row,) = await balance_rows(connection, [account])
                left = {each.reference: each.remaining for each in await credit_rows(connection, account, "", 100)}
                assert sum(left.values()) == max(0, row.settled)
                assert left == {reference: credit[1] for reference, credit in model.left.items()}
                assert row.settled == sum(left.values()) - model.owed
