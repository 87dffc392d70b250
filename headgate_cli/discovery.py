"""Finds providers without a configuration: by keys in the environment, and by local servers that answer.

What is found becomes an ordinary Config: nothing behind it knows that it was found.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from gateway_core.config import Config, ProviderConfig
from gateway_core.known.hosts import Host, LocalServer, known_hosts
from headgate_cli.address import LOOPBACK, Address

SECONDS_AT_MOST = 0.3
"""How long the local servers may take, all together: they answer at once or are not there."""

WANTS_A_KEY = frozenset({401, 403})
MODELS_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """A provider that was found."""

    name: str
    origin: str
    """How: "from OPENAI_API_KEY", "answers at 127.0.0.1:11434, 3 models". Never a key."""
    row: ProviderConfig
    models: tuple[str, ...] = ()
    """Models that it listed right away."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found, and sentences about what was passed over."""

    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()

    def config(self) -> Config:
        """The configuration that it amounts to: one for a trial, in which nobody needs a key."""
        return Config(providers={found.name: found.row for found in self.found}, authentication="optional")

    def model(self) -> str | None:
        """A model that is there now; None where only keys were found."""
        names = (f"{found.name}/{model}" for found in self.found for model in found.models)
        return next((name for name in names if "embed" not in name.lower()), None)


async def discover(
    environ: Mapping[str, str],
    own: Iterable[Address],
    local: Sequence[LocalServer] | None = None,
    *,
    within: float = SECONDS_AT_MOST,
) -> Findings:
    """Looks in the environment and at the local servers.

    Takes the addresses that Headgate itself is about to listen at, which are no providers, and how many seconds the
    local servers have to answer.
    """
    own = tuple(own)
    results = list(from_keys(environ, own))
    results += await from_local_servers(environ, known_hosts().local if local is None else local, within)
    found = distinct(result for result in results if isinstance(result, Found))
    return Findings(tuple(found), tuple(result for result in results if isinstance(result, str)))


def distinct(found: Iterable[Found]) -> Iterator[Found]:
    """What was found, under names of which none stands twice."""
    taken: set[str] = set()
    for one in found:
        name = one.name if one.name not in taken else f"{one.name}-{urlsplit(one.row.base_url or '').port}"
        if name not in taken:
            taken.add(name)
            yield Found(name, one.origin, one.row, one.models)


# ---- keys ----


def from_keys(environ: Mapping[str, str], own: Sequence[Address]) -> Iterator[Found | str]:
    """The known hosts whose key is in the environment."""
    for host in known_hosts().hosts:
        variable = host.key_variable(environ)
        if variable is not None and host.ended is None and host.is_looked_for:
            yield from host_found(host, variable, environ, own)


def host_found(host: Host, variable: str, environ: Mapping[str, str], own: Sequence[Address]) -> Iterator[Found | str]:
    """A known host, at its own address or where the environment says that it is."""
    key = SecretStr(environ[variable].strip())
    elsewhere = host.elsewhere(environ)
    if host.base_url is None and not elsewhere:
        yield f"{variable} is set, and {host.base_url_variable} is not: {host.name} is left out"
        return
    if elsewhere and is_own(elsewhere, own):
        yield f"{host.base_url_variable} is Headgate's own address: {host.base_url} is asked instead"
        if host.base_url is None:
            return
        elsewhere = ""
    if elsewhere and not is_base_url(elsewhere):
        yield f"{host.base_url_variable} is no http(s):// URL of a host: {host.name} is left out"
        return
    if not elsewhere or elsewhere == host.base_url:
        yield Found(host.name, f"from {variable}", known_row(host=host.name, api_key=key))
        return
    origin = f"from {variable} and {host.base_url_variable}"
    if host.base_url is None:
        yield Found(host.name, origin, known_row(host=host.name, base_url=elsewhere, api_key=key))
        return
    # Another host than the table's: what the table says of parameters does not hold there.
    yield Found(host.name, origin, ProviderConfig(kind="openai", base_url=elsewhere, api_key=key))


def known_row(**fields: str | SecretStr) -> ProviderConfig:
    """The row of a provider that names its host."""
    return ProviderConfig.model_validate(fields)


def is_base_url(url: str) -> bool:
    """Whether a text is a URL that a provider can have: with a host, and without a user's name or password."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False


def is_own(url: str, own: Sequence[Address]) -> bool:
    """Whether a URL leads back to one of the own addresses."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.hostname in LOOPBACK and any(
        port == address.port and address.reachable().host in LOOPBACK for address in own
    )


# ---- local servers ----


@dataclass(frozen=True, slots=True)
class Place:
    """Where a local server may be."""

    origin: str
    """ "http://127.0.0.1:11434" """
    server: LocalServer

    @property
    def address(self) -> str:
        """ "127.0.0.1:11434" """
        return urlsplit(self.origin).netloc


async def from_local_servers(
    environ: Mapping[str, str], local: Sequence[LocalServer], within: float
) -> list[Found | str]:
    """The servers that answer in time, in the table's order."""
    places = [place(server, environ) for server in local]
    results: list[Found | str] = [
        Found(at.server.name, f"from {at.server.address_variable}", local_row(at, at.server))
        for at in places
        if not is_on_this_machine(at)
    ]
    # Only plain HTTP on this machine: no certificates to load, no proxies to ask.
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=within) as client:
        near = [at for at in places if is_on_this_machine(at)]
        probes = [asyncio.create_task(probe(client, at, local)) for at in near]
        if probes:
            _, late = await asyncio.wait(probes, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
    results += [result for task in probes if not task.cancelled() and (result := task.result()) is not None]
    return results


def place(server: LocalServer, environ: Mapping[str, str]) -> Place:
    """Where a server is: on its usual port, or where its variable says.

    Source of the form: envconfig/config.go of Ollama: [scheme://]host[:port]; a scheme changes the default port. As an
    address to listen at may stand there, every interface means this machine.
    """
    text = environ.get(server.address_variable or "", "").strip().strip("\"'").rstrip("/")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default = {"http": 80, "https": 443}.get(scheme, server.port) if separator else server.port
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        scheme, host, port = "http", "127.0.0.1", server.port
    return Place(f"{scheme}://{Address(host, default if port is None else port).reachable()}", server)


def is_on_this_machine(at: Place) -> bool:
    """Whether a place is one that is looked at: others are believed where the environment names them."""
    parts = urlsplit(at.origin)
    return parts.scheme == "http" and parts.hostname in LOOPBACK


def local_row(at: Place, server: LocalServer | None) -> ProviderConfig:
    """The row of a configuration that a local server makes."""
    if server is None:
        return ProviderConfig(kind="openai", base_url=f"{at.origin}/v1")
    return known_row(host=server.name, base_url=f"{at.origin}{server.path}")


async def probe(client: httpx.AsyncClient, at: Place, local: Sequence[LocalServer]) -> Found | str | None:
    """What answers at a place: a provider, a sentence about it, or None where nothing of interest does."""
    try:
        answer = await client.get(f"{at.origin}/v1/models")
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    if answer.status_code in WANTS_A_KEY:
        return f"{at.address} wants a key: if it is a model server, name it and its key in a configuration file"
    models = listed(document(answer))
    if answer.status_code != 200 or models is None:
        return None
    health, greeting = await asyncio.gather(text(client, f"{at.origin}/healthz"), text(client, at.origin))
    if health is not None and is_headgate(document(health)):
        return f"{at.address} is another Headgate: it is not taken for a provider"
    server = told_apart(models, greeting.text.strip() if greeting is not None else "", local)
    name = server.name if server else f"local-{urlsplit(at.origin).port}"
    ids = tuple(str(model["id"]) for model in models[:MODELS_SHOWN])
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    return Found(name, f"answers at {at.address}, {count}", local_row(at, server), ids)


async def text(client: httpx.AsyncClient, url: str) -> httpx.Response | None:
    """The answer at a URL; None where there is none."""
    with suppress(httpx.HTTPError):
        return await client.get(url)
    return None


def document(answer: httpx.Response) -> Any:
    """The JSON of an answer; None where it is none."""
    try:
        return answer.json()
    except ValueError:
        return None


def listed(answer: Any) -> list[dict[str, Any]] | None:
    """The models in an answer to GET /v1/models; None where it is not such an answer."""
    if not isinstance(answer, dict) or answer.get("object") != "list" or "data" not in answer:
        return None
    models = answer["data"] or []  # Ollama without models writes null
    is_a_list = isinstance(models, list) and all(isinstance(model, dict) and "id" in model for model in models)
    return models if is_a_list else None


def is_headgate(health: Any) -> bool:
    """Whether an answer to GET /healthz is Headgate's."""
    return isinstance(health, dict) and health.get("service") == "headgate"


def told_apart(models: list[dict[str, Any]], greeting: str, local: Sequence[LocalServer]) -> LocalServer | None:
    """Which server of the table it is."""
    owners = {model.get("owned_by") for model in models}
    by_owner = (server for server in local if server.owned_by is not None and server.owned_by in owners)
    by_greeting = (server for server in local if server.greeting is not None and server.greeting == greeting)
    return next(by_owner, None) or next(by_greeting, None)
