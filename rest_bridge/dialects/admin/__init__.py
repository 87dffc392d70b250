"""The administrative API: what the google.api.http annotations of the contract say, and its description."""

from collections.abc import Sequence

from grpc import aio
from starlette.routing import BaseRoute, Route

from rest_bridge.config import BridgeConfig
from rest_bridge.dialects.admin.binding import bindings
from rest_bridge.dialects.admin.description import Description
from rest_bridge.dialects.admin.errors import document
from rest_bridge.dialects.admin.resource import METHODS, Resource, refuse_path
from rest_bridge.endpoint import Endpoint

READ = ("GET", "HEAD")


def routes(channel: aio.Channel, config: BridgeConfig) -> Sequence[BaseRoute]:
    """The table of contents: a path is there once, whatever its methods."""
    description = Description()
    shown = {
        "/openapi.json": description.show_document,
        "/docs": description.show_page,
        "/docs/page.css": description.show_style,
        "/docs/page.js": description.show_script,
    }
    resources: dict[str, Resource] = {}
    for binding in bindings():
        resources.setdefault(binding.pattern, Resource(channel)).add(binding)
    nowhere = Endpoint(config, "admin", METHODS, refuse_path, document)
    return [
        *(Route(path, Endpoint(config, "admin", READ, work, document)) for path, work in shown.items()),
        *(
            Route(pattern, Endpoint(config, "admin", resource.methods, resource.answer, document))
            for pattern, resource in resources.items()
        ),
        # What is nowhere is refused in this API's own words; the dialects before this one have taken what is theirs.
        *(Route(path, nowhere) for path in ("/api/v1", "/api/v1/{rest:path}")),
    ]
