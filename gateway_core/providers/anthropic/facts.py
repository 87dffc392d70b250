"""What models take: the table of this version, read once."""

from datetime import date
from functools import cache, lru_cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Effort = Literal["low", "medium", "high", "xhigh", "max"]


class Facts(BaseModel):
    """What a model takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    """Beginnings of the names of the models that these facts are about."""
    max_output_tokens: Annotated[int, Field(ge=1)]
    """Most tokens of an answer, which must be told in every request; asked for where the caller does not tell."""
    thinking: Literal["adaptive", "budget"]
    """Whether the model finds out by itself how much to think, or is told in tokens."""
    is_thinking_always_on: bool = False
    """Whether it cannot be kept from thinking."""
    thinks_when_forced: bool = False
    """Whether it may think where it must call a tool."""
    efforts: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
    """What efforts a model with adaptive thinking knows."""
    takes_sampling: bool = True
    """Whether temperature, top_p and top_k may differ from their defaults."""
    takes_temperature_with_top_p: bool = True
    """Whether both may be told."""
    takes_prefill: bool = True
    """Whether the conversation may end with the beginning of the answer."""
    takes_json_schema: bool = True
    """Whether a schema of the answer may be given."""
    takes_late_instructions: bool = False
    """Whether there may be instructions after the conversation has begun."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    read: date
    models: tuple[Facts, ...]


@cache
def table() -> tuple[Facts, ...]:
    """All rows, in order."""
    text = files("gateway_core.providers.anthropic").joinpath("models.yaml").read_text(encoding="utf-8")
    return _Table.model_validate(yaml.safe_load(text)).models


def facts(model: str) -> Facts:
    """What is known of a model, by its name, whatever stands before it at other hosts; the last row fits any."""
    _, claude, rest = model.partition("claude-")
    name = claude + rest.replace(".", "-") if claude else model
    return next(row for row in table() if name.startswith(row.names))


@lru_cache(maxsize=1000)
def told_facts(model: str, max_output_tokens: int | None, features: frozenset[str] | None) -> Facts:
    """What is known of a model, where the configuration tells more: its most tokens, and what it can do (None: not)."""
    told: dict[str, object] = {}
    if max_output_tokens is not None:
        told["max_output_tokens"] = max_output_tokens
    if features is not None:
        told["takes_prefill"] = "prefill" in features
        told["takes_json_schema"] = "json_schema" in features
    known = facts(model)
    return known.model_copy(update=told) if told else known
