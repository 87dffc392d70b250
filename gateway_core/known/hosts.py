"""The table of known hosts and local servers: hosts.yaml, read once."""

import difflib
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["anthropic", "gemini", "ollama", "openai"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quirks(_Row):
    """In what a host differs from OpenAI, where it speaks OpenAI's wire format."""

    key_header: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "authorization"
    """The header that carries the key; of another name than `authorization` it is the key alone, without "Bearer"."""
    renamed_parameters: dict[str, str] = Field(default_factory=dict)
    """What the host calls a parameter of a request: {max_completion_tokens: max_tokens}."""
    reasoning_field: Literal["reasoning_content", "reasoning", "none"] = "reasoning_content"
    """The field of an assistant's message that takes earlier reasoning back; none: the host refuses both."""
    developer_role: bool = True
    """Whether it knows the role `developer`; where it does not, that is written as `system`."""
    foreign_fields: frozenset[str] | None = None
    """Of the fields that messages, their parts and calls, and tools have in other vendors' formats (`annotations`,
    `cache_control`, `extra_content`, `images`, `reasoning_details`) those that it takes. None: all; unknown ones are
    ignored."""
    message_names: bool = True
    """Whether messages may tell their speaker's name."""
    strict_tools: bool = True
    """Whether a function may be marked `strict`."""
    stream_options: bool = True
    """Whether it takes stream_options; where it does not, it tells the usage of a stream unasked."""
    finish_reasons: bool = True
    """Whether it tells of each streamed answer why it ended; where it does not, [DONE] is the end of an answer, and
    nobody can know whether that is whole."""
    one_answer: bool = False
    """Whether n must be 1."""
    response_formats: frozenset[str] | None = None
    """Types of response_format that it takes. None: all."""
    tool_choices: frozenset[str] | None = None
    """Modes of tool_choice that it takes; choices of a tool are then refused. None: all."""


class _Known(_Row):
    name: str
    """By which `host` in the configuration means it, and the name of the provider that is made of it."""
    kind: Kind = "openai"
    unsupported_parameters: frozenset[str] = frozenset()
    """Names of request parameters that it ignores or refuses, whatever the model."""
    quirks: Quirks = Quirks()
    source: str
    """The page that says so."""
    read: date
    """When the page was read."""

    @property
    def url(self) -> str | None:
        """Where it is, where that is the same for everybody."""
        raise NotImplementedError


class Host(_Known):
    """A host on the internet that speaks OpenAI's chat completion API."""

    base_url: str | None = None
    """None: everybody has an address of his own there."""
    base_url_variable: str | None = None
    """Environment variable that puts another address in the place of base_url."""
    base_url_path: str = ""
    """What follows the address in that variable."""
    domains: frozenset[str] = frozenset()
    """Domains below which everybody's own addresses are."""
    key_variables: Annotated[tuple[str, ...], Field(min_length=1)]
    """Environment variables that hold its key; the first that is set counts."""
    is_looked_for: bool = True
    """Whether its key in the environment makes it a provider; of two sides of one host only one is."""
    lists_models: bool = True
    """Whether GET {base_url}/models answers to the key as OpenAI's does."""
    list_headers: dict[str, str] = Field(default_factory=dict)
    """Headers that GET {base_url}/models wants in the place of Authorization; "{key}" stands for the key."""
    models_of: str | None = None
    """The host whose models it serves under their names. None: its own."""
    ended: date | None = None
    """The day on which it ended its chat completions. None: it goes on."""

    @property
    def url(self) -> str | None:
        """Where it is, where that is the same for everybody."""
        return self.base_url

    def key_variable(self, environ: Mapping[str, str]) -> str | None:
        """The environment variable that holds its key. None: none is set."""
        return next((name for name in self.key_variables if environ.get(name, "").strip()), None)

    def elsewhere(self, environ: Mapping[str, str]) -> str:
        """The address in the environment that counts in the place of its own; empty: there is none."""
        address = environ.get(self.base_url_variable or "", "").strip().rstrip("/")
        return address if not address or address.endswith(self.base_url_path) else address + self.base_url_path


class LocalServer(_Known):
    """A server that people run on their own machine."""

    port: Annotated[int, Field(ge=1, le=65535)]
    path: str = "/v1"
    """Where its API begins."""
    address_variable: str | None = None
    """Environment variable that says where it is instead."""
    owned_by: str | None = None
    """What its list of models says that they are owned by. None: it cannot be told by that."""
    greeting: str | None = None
    """The text that it answers at "/". None: it cannot be told by that."""

    @property
    def url(self) -> str | None:
        """Where it usually is."""
        return f"http://127.0.0.1:{self.port}{self.path}"


class Hosts(_Row):
    """The table."""

    hosts: tuple[Host, ...]
    local: tuple[LocalServer, ...]

    def at(self, base_url: str) -> Host | None:
        """The known host whose API is at a URL."""
        url, _, _ = base_url.partition("?")
        exact = next((host for host in self.hosts if host.base_url == url.rstrip("/")), None)
        return exact or next((host for host in self.hosts if is_below(url, host.domains)), None)

    def named(self, name: str) -> Host | LocalServer:
        """The row of a name; raises ValueError, with what may have been meant."""
        rows: dict[str, Host | LocalServer] = {host.name: host for host in self.hosts}
        rows |= {server.name: server for server in self.local}
        row = rows.get(name)
        if row is None:
            close = difflib.get_close_matches(name, rows, 1)
            raise ValueError(f"there is no known host {name!r}{f'; is it {close[0]!r}?' if close else ''}")
        if isinstance(row, Host) and row.ended is not None:
            raise ValueError(f"host {name} has ended its chat completions on {row.ended} ({row.source})")
        return row


def is_below(url: str, domains: frozenset[str]) -> bool:
    """Whether a URL's host is below one of some domains."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return any(host.endswith(f".{domain}") for domain in domains)


@cache
def known_hosts() -> Hosts:
    """The table of this version."""
    text = files("gateway_core.known").joinpath("hosts.yaml").read_text(encoding="utf-8")
    return Hosts.model_validate(yaml.safe_load(text))


def completed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a provider that names its host, with what is known of that host; what the row says itself counts.

    Raises ValueError where there is no such host, or its address is everybody's own and the row has none.
    """
    host = known_hosts().named(str(row["host"]))
    known: dict[str, Any] = {"kind": host.kind, "base_url": host.url}
    if isinstance(host, Host):
        known["lists_models"] = host.lists_models
    whole = known | dict(row)
    if whole["base_url"] is None:
        raise ValueError(f"base_url is required for host {host.name}")
    given = row.get("unsupported_parameters") or ()
    whole["unsupported_parameters"] = host.unsupported_parameters | set(given)
    quirks = row.get("quirks") or {}
    if isinstance(quirks, Mapping):
        whole["quirks"] = host.quirks.model_dump() | dict(quirks)
    return whole


def from_environment(row: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What the environment tells of a provider that names its host, and that its row leaves open: key and address."""
    known = known_hosts()
    host = next((host for host in known.hosts if host.name == row.get("host")), None)
    if host is None:
        return
    variable = host.key_variable(environ)
    if "api_key" not in row and variable is not None:
        yield "api_key", environ[variable].strip()
    if "base_url" not in row and (elsewhere := host.elsewhere(environ)):
        yield "base_url", elsewhere
