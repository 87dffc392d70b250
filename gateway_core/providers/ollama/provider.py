"""One Ollama: asks it, and reads what it answers."""

from collections.abc import Sequence
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, Given, whole
from gateway_core.config import ProviderConfig
from gateway_core.providers.ollama.answer import seconds
from gateway_core.providers.ollama.decoder import Decoder
from gateway_core.providers.ollama.extra import FORMAT
from gateway_core.providers.ollama.request import ELSEWHERE, is_satisfied, written
from gateway_core.unsupported import found, refuse_or_drop
from gateway_core.upstream.http import Upstream
from gateway_core.upstream.listing import Page, listed
from gateway_core.upstream.ndjson import LineReader
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.stream import refused, streamed

UNSUPPORTED = ELSEWHERE | {
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "metadata",
    "modalities",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "tool_choice",
    "user",
    "verbosity",
    "web_search_options",
}
"""What POST /api/chat has no word for."""


class Provider:
    """An Ollama, at its address without "/v1" and "/api"."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row."""
        headers = {field: secret.get_secret_value() for field, secret in config.headers.items()}
        if config.api_key is not None and "authorization" not in {field.lower() for field in headers}:
            headers["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        self._name = name
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._line_bytes = config.answer_bytes
        self._lists_models = config.lists_models
        self._refusals = Refusals(name, config)
        self._upstream = Upstream(name, config, headers)

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion: returns once a streamed answer has begun, or another was read to its end."""
        decoder = Decoder(self._refusals, call.request_id)
        answer = await self._upstream.open("POST", "/api/chat", body=self._body(call), deadline=call.deadline)
        if answer.status >= 400:
            raise await refused(answer, self._refusals)
        if call.stream or "ndjson" in answer.header(b"content-type"):
            reader = LineReader(self._line_bytes, self._name)
            events = streamed(answer, reader, decoder, self._refusals, begins)
            await anext(events)
            return events if call.stream else await whole(events)
        try:
            return Given(decoder.whole(await answer.read()))
        finally:
            answer.abort()

    async def list_models(self) -> Sequence[Model]:
        """The models that are on its disk."""
        if not self._lists_models:
            return []
        return await listed(self._upstream, self._refusals, "/api/tags", models)

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    def _body(self, call: Call[ChatCompletionSpec]) -> bytes:
        spec, target = call.request, call.target
        assert target is not None, "the stage `fallback` sets the target"
        unmet = found(call, self._unsupported, extra_format=FORMAT)
        dropped = [name for name in sorted(unmet) if not is_satisfied(spec, name) or name in target.unsupported]
        left_out = target.unsupported | self._unsupported | frozenset(dropped)
        request = written(spec, target.model, stream=call.stream, left_out=left_out)
        refuse_or_drop(call, [*dropped, *request.left_out])
        if target.on_unsupported != "drop":
            call.rewrites += request.rewrites
        return orjson.dumps(request.document)


def begins(event: ChatCompletionChunk) -> bool:
    """Whether an answer has begun with an event: every line is a part of one."""
    return bool(event.choices)


def models(document: Any) -> Page:
    """The models in a decoded list, of one page; raises ValueError where it is none.

    Source: https://docs.ollama.com/api/tags
    """
    entries = document.get("models") if isinstance(document, dict) else None
    if entries is None and isinstance(document, dict) and "models" in document:
        entries = []
    if not isinstance(entries, list):
        raise ValueError("there is no list")
    return [model for entry in entries if isinstance(entry, dict) and (model := model_of(entry)).id], ""


def model_of(entry: dict[str, Any]) -> Model:
    """A model of the list; without an id where it has no name."""
    named = entry.get("model") or entry.get("name")
    extra = {name: value for name, value in entry.items() if name not in ("name", "model", "modified_at")}
    return Model(
        id=named if isinstance(named, str) else "",
        created=seconds(entry.get("modified_at")),
        extra_json=orjson.dumps(extra).decode() if extra else "",
    )
