"""POST /api/chat (docs/api.md of Ollama)."""

import time

from grpc import aio

from rest_bridge.dialects.ollama.completion import Completions
from rest_bridge.dialects.ollama.request import asks_to_unload, chat_spec, is_streamed
from rest_bridge.dialects.ollama.response import ChatWriter
from rest_bridge.exchange import Exchange


class Chat:
    """Answers a chat request."""

    def __init__(self, channel: aio.Channel) -> None:
        """Takes the way to the core."""
        self._completions = Completions(channel)

    async def create(self, exchange: Exchange) -> None:
        """Answers one request."""
        body = await exchange.body_json()
        spec = chat_spec(body)
        writer = ChatWriter(spec.model)
        if not spec.messages:
            reason = "unload" if asks_to_unload(body) else "load"
            await self._completions.load(exchange, spec.model, writer.loaded(reason, time.time_ns()))
        elif is_streamed(body):
            await self._completions.stream(exchange, spec, writer)
        else:
            await self._completions.answer(exchange, spec, writer)
