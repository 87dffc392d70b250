"""The table of well-known models: models.yaml, read once."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

Feature = Literal["tools", "parallel_tools", "json_schema", "reasoning", "prefill"]
"""What a model can do that a request may need: call tools, several at once; answer by a schema; think before it does;
continue a beginning of its answer."""

Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""The day at the end of a snapshot's name, which is what its model is."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownPrice(_Row):
    """What a model costs at its host, in US dollars for a million tokens, as the configuration's own prices."""

    input_per_million: Dollars
    cached_input_per_million: Dollars | None = None
    cache_write_per_million: Dollars | None = None
    output_per_million: Dollars
    audio_input_per_million: Dollars | None = None


class ModelFacts(_Row):
    """What is known of a model at a host."""

    host: str
    """A name of hosts.yaml."""
    model: str
    """Its name there."""
    aliases: tuple[str, ...] = ()
    """Further names there."""
    context_length: Count | None = None
    """Most tokens of prompt and answer together."""
    max_output_tokens: Count | None = None
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)
    features: frozenset[Feature] = frozenset()
    unsupported_parameters: frozenset[str] = frozenset()
    """Names of request parameters that it refuses, beside those of its host."""
    unsupported_while_reasoning: frozenset[str] = frozenset()
    """Names of those that it refuses unless it is asked not to reason, which it does by itself."""
    price: KnownPrice | None = None
    """None: not known, or not to be told by a price for each kind of token."""
    source: str
    """The vendor's page."""
    read: date
    """The day of which the facts are."""
    seen: Literal["page", "quoted", "before"]
    """How: on that page; as others quoted it around that day; or known before, and not looked up again."""


class Models(_Row):
    """The table."""

    models: tuple[ModelFacts, ...]

    @model_validator(mode="before")
    @classmethod
    def _complete_by_group(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        """The file says once for a group of rows what they have in common."""
        groups = value.get("groups")
        if not isinstance(groups, list):
            return value
        return {"models": [{**group["all"], **row} for group in groups for row in group["models"]]}

    def named(self) -> Iterator[tuple[tuple[str, str], ModelFacts]]:
        """The rows by host and name, each under all its names."""
        for row in self.models:
            for name in (row.model, *row.aliases):
                yield (row.host, name), row


@cache
def known_models() -> Mapping[tuple[str, str], ModelFacts]:
    """The table of this version, by host and name."""
    text = files("gateway_core.known").joinpath("models.yaml").read_text(encoding="utf-8")
    return dict(Models.model_validate(yaml.safe_load(text)).named())


def known_model(host: str | None, model: str) -> ModelFacts | None:
    """What is known of a model at a host; a snapshot is what its model is."""
    if host is None:
        return None
    table = known_models()
    return table.get((host, model)) or table.get((host, SNAPSHOT.sub("", model)))
