"""From a model's name to the targets that can answer, the first choice first."""

from typing import Any

from gateway_core.call import Call, Events, Next
from gateway_core.catalog.catalog import Catalog


class Stage:
    """Sets the targets of a call that has none: the stage `gateway` knows those of an endpoint of its owner's."""

    def __init__(self, catalog: Catalog) -> None:
        """Takes what can be asked."""
        self._catalog = catalog

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Raises ModelNotFound where nothing can answer."""
        if not call.targets:
            call.targets = self._catalog.targets(call.model)
        return await next(call)
