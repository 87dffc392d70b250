"""What the providers list, kept in memory and asked for anew in the background."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from headgate.v1.model_pb2 import Model

from gateway_core.errors import GatewayError
from gateway_core.providers import Provider

log = structlog.get_logger("headgate.catalog")


class Listing:
    """The models that each provider listed last.

    Reading never waits for a provider, but for the first `first_wait_seconds` after the start: a list that is asked for
    right away is then not empty without need. A provider that fails keeps the list it gave last.
    """

    def __init__(
        self, providers: Mapping[str, Provider], *, every_seconds: float, first_wait_seconds: float = 0.5
    ) -> None:
        """Takes the providers by name, and how long a list is kept."""
        self._providers = providers
        self._every_seconds = every_seconds
        self._first_wait_seconds = first_wait_seconds
        self._models: dict[str, Sequence[Model]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._first: list[asyncio.Event] = []

    def start(self) -> None:
        """Begins to ask the providers, each in a task of its own."""
        for name, provider in self._providers.items():
            tried = asyncio.Event()
            self._first.append(tried)
            self._tasks.append(asyncio.create_task(self._keep(name, provider, tried), name=f"models of {name}"))

    async def close(self) -> None:
        """Ends the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def models(self) -> Mapping[str, Sequence[Model]]:
        """The models by provider."""
        waiting = [asyncio.ensure_future(tried.wait()) for tried in self._first if not tried.is_set()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=self._first_wait_seconds)
            for task in late:
                task.cancel()
            if late:
                self._first = []
        return self._models

    def known(self) -> Mapping[str, Sequence[Model]]:
        """The models by provider, without waiting for anything."""
        return self._models

    async def _keep(self, name: str, provider: Provider, tried: asyncio.Event) -> None:
        failed = False
        while True:
            try:
                self._models[name] = await provider.list_models()
                failed = False
            except GatewayError as error:
                if not failed:
                    log.warning("model_list_failed", provider=name, message=error.message)
                failed = True
            except Exception:  # the edge of this task: what is no GatewayError is a fault of ours, and the task goes on
                log.exception("model_list_failed", provider=name)
            tried.set()
            await asyncio.sleep(self._every_seconds)
