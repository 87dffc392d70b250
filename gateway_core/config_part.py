"""What the parts of the configuration are made of, and those parts that stand for themselves."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
PriceClass = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]


def _checked_address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536) or "/" in host:
        raise ValueError('must be "host:port", such as "127.0.0.1:8080" or "[::]:8080"')
    return value


Address = Annotated[str, AfterValidator(_checked_address)]
"""Where something listens: "host:port"."""


class Part(BaseModel):
    """Frozen; unknown keys are errors, which do not show what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CorsConfig(Part):
    """Which web pages may call from browsers."""

    allowed_origins: frozenset[str] = frozenset()
    """As browsers name them: "https://app.example.com"; "*" is every page."""

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, value: frozenset[str]) -> frozenset[str]:
        for origin in sorted(value - {"*"}):
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+", origin):
                raise ValueError(f'{origin!r} must be like "https://app.example.com": small letters, no path')
        return value


class WebhooksConfig(Part):
    """Whether and how accounts are told what happens to them."""

    enabled: bool = True
    """False: no account can have an endpoint, and nothing is sent."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10
    """Until an endpoint has answered, connecting included."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 16
    """Most of one webhook."""
    give_up_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 86400
    """After which there is no further attempt."""
    backoff_seconds: Annotated[float, Field(gt=0, le=3600)] = 5
    """Longest wait before the second attempt; it doubles with each, up to an hour. Half of it at least is waited."""
