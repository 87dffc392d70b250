"""Endpoints of gateways' owners: asked as OpenAI-compatible hosts unless more is known; connections by version."""

from dataclasses import dataclass
from weakref import WeakSet

from pydantic import SecretStr

from gateway_core import providers
from gateway_core.call import Target
from gateway_core.catalog.gateway import Version, secret_place
from gateway_core.config import Config, ProviderConfig
from gateway_core.known.hosts import Quirks, known_hosts
from gateway_core.providers import Provider
from gateway_core.storage.secret_box import SecretBox

NAME = "gateway/endpoint"
"""By which logs, metrics and answers call all of them: no provider of the configuration can, for the slash."""

KEPT_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class EndpointTarget(Target):
    """An endpoint, and what asks it."""

    endpoint: Provider | None = None


class Endpoints:
    """Those that were asked last.

    One that is forgotten is not closed: calls may be reading from it, and a connection that nobody uses closes itself
    within a minute.
    """

    def __init__(self, config: Config, box: SecretBox) -> None:
        """Takes the networks in which endpoints may be, and what opens their keys."""
        self._config = config
        self._box = box
        self._targets: dict[tuple[str, int], EndpointTarget] = {}  # the last asked is the last
        self._alive: WeakSet[Provider] = WeakSet()

    def target(self, version: Version) -> EndpointTarget:
        """Where a version that has an endpoint goes; raises SecretUnreadable."""
        key = (version.use.id, version.use.version)
        target = self._targets.pop(key, None)
        if target is None:
            target = self._made(version)
            if len(self._targets) >= KEPT_AT_MOST:
                del self._targets[next(iter(self._targets))]
        self._targets[key] = target
        return target

    async def close(self) -> None:
        """Closes all connections."""
        self._targets.clear()
        for provider in tuple(self._alive):
            await provider.close()

    def _made(self, version: Version) -> EndpointTarget:
        endpoint = version.message.endpoint
        place = secret_place(version.use.id, endpoint.base_url)
        host = known_hosts().at(endpoint.base_url)
        config = ProviderConfig(
            kind=host.kind if host else "openai",
            base_url=endpoint.base_url,
            api_key=SecretStr(self._box.open(version.secret, place)) if version.secret else None,
            private_networks=self._config.private_endpoint_networks,
            lists_models=False,
            quirks=host.quirks if host else Quirks(),
        )
        provider = providers.load(NAME, config)
        self._alive.add(provider)
        return EndpointTarget(
            provider=NAME,
            model=endpoint.model,
            on_unsupported=self._config.on_unsupported,
            unsupported=host.unsupported_parameters if host else frozenset(),
            endpoint=provider,
        )
