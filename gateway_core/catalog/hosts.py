"""The table of known hosts and local servers: hosts.yaml, read once."""

from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The name of the provider that is made of it."""
    unsupported_parameters: frozenset[str] = frozenset()
    """Names of request parameters that it ignores or refuses, whatever the model."""
    source: str
    """The page that says so."""
    read: date
    """When the page was read."""


class Host(_Row):
    """A host on the internet that speaks OpenAI's chat completion API."""

    base_url: str
    base_url_variable: str | None = None
    """Environment variable that puts another address in the place of base_url."""
    key_variables: Annotated[tuple[str, ...], Field(min_length=1)]
    """Environment variables that hold its key; the first that is set counts."""
    lists_models: bool = True
    """Whether GET {base_url}/models answers to the key as OpenAI's does."""
    list_headers: dict[str, str] = Field(default_factory=dict)
    """Headers that GET {base_url}/models wants in the place of Authorization; "{key}" stands for the key."""


class LocalServer(_Row):
    """A server that people run on their own machine."""

    port: Annotated[int, Field(ge=1, le=65535)]
    address_variable: str | None = None
    """Environment variable that says where it is instead."""
    owned_by: str | None = None
    """What its list of models says that they are owned by. None: it cannot be told by that."""
    greeting: str | None = None
    """The text that it answers at "/". None: it cannot be told by that."""


class Hosts(BaseModel):
    """The table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hosts: tuple[Host, ...]
    local: tuple[LocalServer, ...]

    def at(self, base_url: str) -> Host | None:
        """The known host whose API is at a URL."""
        return next((host for host in self.hosts if host.base_url == base_url.rstrip("/")), None)


@cache
def known_hosts() -> Hosts:
    """The table of this version."""
    text = files("gateway_core.catalog").joinpath("hosts.yaml").read_text(encoding="utf-8")
    return Hosts.model_validate(yaml.safe_load(text))
