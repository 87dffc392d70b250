"""The parts of the configuration that say how much callers may ask: windows of public keys, and plans."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from gateway_core.config_part import Count, Part, PriceClass

WindowSeconds = Annotated[int, Field(ge=1, le=366 * 86400)]


class WindowConfig(Part):
    """Most requests and input tokens in a time."""

    seconds: Annotated[int, Field(ge=1, le=31 * 86400)]
    requests: Count | None = None
    """None: no limit."""
    input_tokens: Count | None = None
    """None: no limit."""

    @model_validator(mode="after")
    def _limits_something(self) -> "WindowConfig":
        if self.requests is None and self.input_tokens is None:
            raise ValueError("needs requests, input_tokens or both")
        return self


def _windows(*limits: tuple[int, int, int]) -> tuple[WindowConfig, ...]:
    return tuple(
        WindowConfig(seconds=seconds, requests=requests, input_tokens=tokens) for seconds, requests, tokens in limits
    )


class PublicKeysConfig(Part):
    """What public keys may be used for, beside the plans of their accounts."""

    per_address: tuple[WindowConfig, ...] = _windows(
        (5, 3, 32_000), (60, 20, 100_000), (3600, 300, 1_000_000), (86400, 1000, 3_000_000)
    )
    """For one key from one client address; each process counts for itself."""
    per_key: tuple[WindowConfig, ...] = _windows(
        (5, 10, 100_000), (60, 60, 300_000), (3600, 1500, 5_000_000), (86400, 10_000, 30_000_000)
    )


class ReserveWindowConfig(Part):
    """How much of a reserve there is in a time."""

    window_seconds: WindowSeconds
    units: Annotated[int, Field(ge=1, le=10**12)]


class ReserveModelConfig(Part):
    """A model that a reserve covers."""

    model: Annotated[str, Field(min_length=1)]
    units_per_usd: Annotated[Decimal, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = Decimal(100)
    """Units that a call takes for each US dollar of its cost."""


class PlanReserveConfig(Part):
    """What is used before the balance is. A call takes of every window, or of none."""

    windows: Annotated[tuple[ReserveWindowConfig, ...], Field(min_length=1)]
    models: Annotated[tuple[ReserveModelConfig, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _are_told_apart(self) -> "PlanReserveConfig":
        if len({window.window_seconds for window in self.windows}) != len(self.windows):
            raise ValueError("two windows have the same window_seconds")
        if len({row.model for row in self.models}) != len(self.models):
            raise ValueError("two models are the same")
        return self


class PlanWindowConfig(Part):
    """What an account may use in a time, over all its keys."""

    window_seconds: WindowSeconds
    requests: Annotated[int, Field(ge=0)] | None = None
    input_tokens: Annotated[int, Field(ge=0)] | None = None


class PlanConfig(Part):
    """What an account may use, and at what price."""

    description: Annotated[str, Field(max_length=512)] = ""
    windows: tuple[PlanWindowConfig, ...] = ()
    """All of them hold. Empty: no limit."""
    context_limit_tokens: Count | None = None
    """Most input tokens of one request. None: the model's."""
    allowed_models: frozenset[str] = frozenset()
    """Beside those of the classes. Both empty: all."""
    allowed_price_classes: frozenset[PriceClass] = frozenset()
    price_multiplier: Annotated[Decimal, Field(ge=0, le=1000, allow_inf_nan=False)] = Decimal(1)
    concurrent_calls_per_key: Count | None = None
    """None: no limit."""
    queued_calls_per_key: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Most calls of one key that wait until one that runs has ended; any more are refused."""
    queue_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Longest that such a call waits before it is refused."""

    reserve: PlanReserveConfig | None = None
    """What is used before the balance is. None: nothing."""

    @field_validator("windows")
    @classmethod
    def _are_told_apart(cls, value: tuple[PlanWindowConfig, ...]) -> tuple[PlanWindowConfig, ...]:
        if len({window.window_seconds for window in value}) != len(value):
            raise ValueError("two windows have the same window_seconds")
        return value

    @model_validator(mode="after")
    def _waits_for_something(self) -> "PlanConfig":
        if self.queued_calls_per_key and self.concurrent_calls_per_key is None:
            raise ValueError("queued_calls_per_key needs concurrent_calls_per_key")
        return self
