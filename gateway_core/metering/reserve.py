"""Reserves of plans: units that cover the cost of a call before the balance is used."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from headgate.v1 import plan_pb2

from gateway_core.call import Cover
from gateway_core.config_plan import PlanReserveConfig
from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.price import decimal_text

MICRO = 10**6
"""Units are counted in millionths, so that cheap calls take what they cost."""
DEFAULT_RATE = Decimal(100)


class Rate(NamedTuple):
    """Units for each US dollar of the cost: an exact rational number."""

    numerator: int
    denominator: int
    text: str

    def micro_units(self, cost: int) -> int:
        """Millionths of a unit for a cost in picodollars, rounded up: what costs something takes something."""
        return -(-cost * self.numerator // (self.denominator * MICRO))


class ReserveWindow(NamedTuple):
    """How many units there are in a time."""

    seconds: int
    units: int


class Reserve(NamedTuple):
    """What is used before the balance is."""

    windows: tuple[ReserveWindow, ...]
    rates: Mapping[str, Rate]
    """By the names of the models that it covers."""


class Held:
    """What a call that is covered has taken, until it ends."""

    __slots__ = ("cover", "taken")

    def __init__(self, cover: Cover) -> None:
        """Takes what pays, with the millionths of a unit that the call is expected to need."""
        self.cover = cover
        self.taken: list[tuple[SharedLimit, int]] = []
        """With the beginning of the window."""

    def end(self) -> None:
        """Corrects what was taken to what was used, in the windows that have not ended."""
        more = self.cover.micro_units - self.cover.taken_micro_units
        for shared, start_us in self.taken:
            shared.correct(more, start_us)
        self.taken.clear()


def reserve_scope(account_id: str) -> str:
    """What the units of an account are counted under."""
    return f"account:{account_id}:reserve"


async def held(limits: SharedLimits, account_id: str, reserve: Reserve, model: str, cost: int) -> Held | None:
    """Takes of every window what a cost in picodollars needs. None: it is not covered, and nothing is taken.

    So it is with what costs nothing: there is nothing to take.
    """
    rate = reserve.rates.get(model)
    if rate is None or not cost:
        return None
    needed = rate.micro_units(cost)
    found = Held(Cover(rate.micro_units, needed))
    is_covered = False
    try:
        for seconds, units in reserve.windows:
            shared = limits.limit(reserve_scope(account_id), units * MICRO, seconds)
            now_us = limits.now_us()
            if not (shared.take(needed, now_us) or await shared.acquire(needed, now_us)):
                return None
            found.taken.append((shared, shared.window.start_us))
        is_covered = True
    finally:
        if not is_covered:
            found.end()
    return found


def units_text(micro_units: int) -> str:
    """Millionths of a unit as a decimal number of units: no zeros at its end, at least "0"."""
    return decimal_text(Decimal(micro_units).scaleb(-6))


def reserve_of_config(row: PlanReserveConfig | None) -> Reserve | None:
    """The reserve that a row of the configuration is."""
    if row is None:
        return None
    windows = tuple(ReserveWindow(window.window_seconds, window.units) for window in row.windows)
    return Reserve(
        windows,
        {
            model.model: Rate(*model.units_per_usd.as_integer_ratio(), decimal_text(model.units_per_usd))
            for model in row.models
        },
    )


def reserve_document(message: plan_pb2.PlanReserve) -> dict[str, object]:
    """What is kept of a reserve of the contract: the keys of the configuration."""
    return {
        "windows": [{"window_seconds": window.window_seconds, "units": window.units} for window in message.windows],
        "models": [
            {"model": row.model, "units_per_usd": row.units_per_usd or decimal_text(DEFAULT_RATE)}
            for row in message.models
        ],
    }


def reserve_message(reserve: Reserve | None) -> plan_pb2.PlanReserve | None:
    """A reserve in the contract's form."""
    if reserve is None:
        return None
    return plan_pb2.PlanReserve(
        windows=[plan_pb2.ReserveWindow(window_seconds=seconds, units=units) for seconds, units in reserve.windows],
        models=[
            plan_pb2.ReserveModel(model=model, units_per_usd="" if Decimal(rate.text) == DEFAULT_RATE else rate.text)
            for model, rate in reserve.rates.items()
        ],
    )
