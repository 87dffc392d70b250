"""Ollama's API: what its SDKs and clients call, also under a prefix of its own."""

from collections.abc import Sequence

from grpc import aio
from starlette.routing import BaseRoute, Route

from rest_bridge.config import BridgeConfig
from rest_bridge.dialects.ollama.chat import Chat
from rest_bridge.dialects.ollama.errors import document
from rest_bridge.dialects.ollama.generate import Generate
from rest_bridge.dialects.ollama.tags import Tags, greet, refuse_operation, refuse_path, show_loaded, show_version
from rest_bridge.endpoint import Endpoint
from rest_bridge.ndjson import line

OWN_PREFIX = "/api/v1/ollama"
PREFIXES = ("", OWN_PREFIX)

# What Ollama has and Headgate has not: files of models, and vectors.
NOT_OFFERED = ("pull", "push", "create", "copy", "delete", "blobs/{digest:path}", "embed", "embeddings")

READ = ("GET", "HEAD")
WRITE = ("POST",)
ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def routes(channel: aio.Channel, config: BridgeConfig) -> Sequence[BaseRoute]:
    """The table of contents."""
    tags = Tags(channel)
    work = {
        "/": (READ, greet),
        "/api/version": (READ, show_version),
        "/api/tags": (READ, tags.list),
        "/api/ps": (READ, show_loaded),
        "/api/show": (WRITE, tags.show),
        "/api/chat": (WRITE, Chat(channel).create),
        "/api/generate": (WRITE, Generate(channel).create),
    }
    endpoints = {path: Endpoint(config, "ollama", methods, act, document) for path, (methods, act) in work.items()}
    for endpoint in endpoints.values():
        endpoint.framed = line
    not_offered = Endpoint(config, "ollama", ANY, refuse_operation, document)
    nowhere = Endpoint(config, "ollama", ANY, refuse_path, document)
    return [
        *(Route(prefix + path, endpoint) for prefix in PREFIXES for path, endpoint in endpoints.items()),
        *(Route(f"{prefix}/api/{operation}", not_offered) for prefix in PREFIXES for operation in NOT_OFFERED),
        Route(OWN_PREFIX, endpoints["/"]),
        Route(OWN_PREFIX + "/{rest:path}", nowhere),
    ]
