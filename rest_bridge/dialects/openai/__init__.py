"""OpenAI's API: what its SDKs call, at every spelling that is in use."""

from collections.abc import Sequence

from grpc import aio
from starlette.routing import BaseRoute, Route

from rest_bridge.config import BridgeConfig
from rest_bridge.dialects.openai.chat import ChatCompletions
from rest_bridge.dialects.openai.errors import document
from rest_bridge.dialects.openai.models import Models
from rest_bridge.endpoint import Endpoint

PREFIXES = ("/v1", "/api/v1", "/api/v1/open-ai")


def routes(channel: aio.Channel, config: BridgeConfig) -> Sequence[BaseRoute]:
    """The table of contents."""
    chat, models = ChatCompletions(channel), Models(channel)
    create = Endpoint(config, "openai", ["POST"], chat.create, document)
    list_models = Endpoint(config, "openai", ["GET", "HEAD"], models.list, document)
    get_model = Endpoint(config, "openai", ["GET", "HEAD"], models.get, document)
    return [
        *(Route(f"{prefix}/chat/completions", create) for prefix in PREFIXES),
        *(Route(f"{prefix}/chat-completions", create) for prefix in PREFIXES),
        *(Route(f"{prefix}/models", list_models) for prefix in PREFIXES),
        *(Route(f"{prefix}/models/{{id:path}}", get_model) for prefix in PREFIXES),
    ]
