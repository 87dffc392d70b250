"""OpenAI's API: what its SDKs call, at every spelling that is in use."""

from collections.abc import Sequence

from grpc import aio
from starlette.routing import BaseRoute, Route

from rest_bridge.config import BridgeConfig
from rest_bridge.dialects.openai.chat import ChatCompletions
from rest_bridge.dialects.openai.errors import document
from rest_bridge.dialects.openai.models import Models
from rest_bridge.endpoint import Endpoint
from rest_bridge.errors import Failure, Refused
from rest_bridge.exchange import Exchange
from rest_bridge.sse import event

OWN_PREFIX = "/api/v1/open-ai"
PREFIXES = ("/v1", "/api/v1", OWN_PREFIX)
ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def routes(channel: aio.Channel, config: BridgeConfig) -> Sequence[BaseRoute]:
    """The table of contents."""
    chat, models = ChatCompletions(channel), Models(channel)
    create = Endpoint(config, "openai", ["POST"], chat.create, document)
    resume = Endpoint(config, "openai", ["GET", "POST"], chat.resume, document)
    create.framed = resume.framed = event
    list_models = Endpoint(config, "openai", ["GET", "HEAD"], models.list, document)
    get_model = Endpoint(config, "openai", ["GET", "HEAD"], models.get, document)
    nowhere = Endpoint(config, "openai", ALL_METHODS, refuse_path, document)
    return [
        *(Route(f"{prefix}/chat/completions", create) for prefix in PREFIXES),
        *(Route(f"{prefix}/chat-completions", create) for prefix in PREFIXES),
        *(Route(f"{prefix}/chat/completions/{{id}}/stream", resume) for prefix in PREFIXES),
        *(Route(f"{prefix}/chat-completions/{{id}}/stream", resume) for prefix in PREFIXES),
        *(Route(f"{prefix}/models", list_models) for prefix in PREFIXES),
        *(Route(f"{prefix}/models/{{id:path}}", get_model) for prefix in PREFIXES),
        # The rest of /api/v1 is another dialect's.
        Route(f"{OWN_PREFIX}/{{rest:path}}", nowhere),
    ]


async def refuse_path(exchange: Exchange) -> None:
    """Says that there is no such path."""
    raise Refused(Failure.route_not_found(exchange.method, str(exchange.scope["path"])))
