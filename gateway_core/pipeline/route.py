"""From a model's name to the targets that can answer, the first choice first."""

from collections.abc import Awaitable
from typing import Any

from gateway_core.call import Call, Events, Next
from gateway_core.catalog.catalog import Catalog
from gateway_core.routing.board import Board


class Stage:
    """Sets the targets of a call that has none: the stage `gateway` knows those of an endpoint of its owner's."""

    def __init__(self, catalog: Catalog, board: Board) -> None:
        """Takes what can be asked, and what is known of the ways there."""
        self._catalog = catalog
        self._board = board

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Raises ModelNotFound where nothing can answer."""
        if not call.targets:
            model = call.model
            route = self._board.route(model)
            if route is None:
                route = self._board.made_route(model, self._catalog.targets(model))
            call.route = route
            call.targets = route.targets
        return next(call)
