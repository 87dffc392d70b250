"""One OpenAI-compatible host: asks it, and reads what it answers."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec, StreamOptions
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, whole
from gateway_core.config import ProviderConfig
from gateway_core.providers.openai.carried import Carried
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.providers.openai.reading import Fields, read, skip
from gateway_core.providers.openai.request import request_document
from gateway_core.unsupported import found, refuse_or_drop
from gateway_core.upstream.attempt import name_of_attempt
from gateway_core.upstream.http import Upstream
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import EventReader
from gateway_core.upstream.stream import refused, streamed

FORMAT = "openai"

# What the wire format has no word for.
UNSUPPORTED = frozenset({"prefill"})

MODELS_SECONDS = 30
"""How long a list of models may take."""

REQUEST_ID = "x-request-id"
"""What the host calls the request, as it wants to be told when asked about it.

Source: OpenAI's API reference, "Debugging requests".
"""

MODEL: Fields = {
    "id": str,
    "object": skip,
    "created": int,
    "owned_by": str,
}


class Provider:
    """A host that speaks OpenAI's chat completion API."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row."""
        headers = {field: secret.get_secret_value() for field, secret in config.headers.items()}
        if config.api_key is not None and "authorization" not in {field.lower() for field in headers}:
            headers["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        self._name = name
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._event_bytes = config.answer_bytes
        self._lists_models = config.lists_models
        self._refusals = Refusals(name, config)
        self._upstream = Upstream(name, config, headers)

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion: returns once a streamed answer has begun, or another was read to its end."""
        body = self._body(call)
        decoder = Decoder(self._refusals, call.request_id, call.request.n or 1)
        answer = await self._upstream.open("POST", "/chat/completions", body=body, deadline=call.deadline)
        call.upstream_request_id = name_of_attempt(answer.headers, REQUEST_ID)
        if answer.status >= 400:
            raise await refused(answer, self._refusals)
        # Some hosts do not stream, whatever they are asked, and some always do.
        content_type = answer.headers.get("content-type", "")
        if "event-stream" in content_type or (call.stream and "json" not in content_type):
            reader = EventReader(self._event_bytes, self._name)
            events = streamed(answer, reader, decoder, self._refusals, begins)
            await anext(events)
            return events if call.stream else await whole(events)
        try:
            return decoder.answer(await answer.read(), as_json=call.json_format == FORMAT)
        finally:
            answer.abort()

    async def list_models(self) -> Sequence[Model]:
        """The models that the host lists."""
        if not self._lists_models:
            return []
        deadline = asyncio.get_running_loop().time() + MODELS_SECONDS
        answer = await self._upstream.open("GET", "/models", deadline=deadline)
        if answer.status >= 400:
            raise await refused(answer, self._refusals)
        try:
            return models(orjson.loads(await answer.read()))
        except ValueError:
            raise self._refusals.broken("sent a list of models that makes no sense") from None
        finally:
            answer.abort()

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    def _body(self, call: Call[ChatCompletionSpec]) -> bytes:
        spec, target = call.request, call.target
        assert target is not None, "the stage `fallback` sets the target"
        dropped = found(call, self._unsupported, extra_format=FORMAT)
        left_out = self._unsupported | target.unsupported | dropped
        carried = Carried(spec.extra_format)
        document = request_document(spec, target.model, stream=call.stream, left_out=left_out, carried=carried)
        if spec.HasField("stream_options"):
            if not call.stream:
                dropped.discard("stream_options")
                refuse_or_drop(call, ["stream_options"], "the answer is not streamed")
            elif not asks_the_host(spec.stream_options):
                dropped.discard("stream_options")
        if dropped or carried.left_out:
            refuse_or_drop(call, [*sorted(dropped), *carried.left_out])
        return orjson.dumps(document)


def asks_the_host(options: StreamOptions) -> bool:
    """Whether options of a stream are for the host: the form of the usage is Headgate's own matter."""
    return any(field.name != "include_usage" for field, _ in options.ListFields())


def begins(event: ChatCompletionChunk) -> bool:
    """Whether an answer has begun with an event: what hosts tell of themselves is none yet."""
    return bool(event.choices) or event.HasField("usage")


def models(document: Any) -> list[Model]:
    """The models in a decoded list; raises ValueError where it is none. Source: OpenAI's list of Model."""
    entries = document.get("data") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ValueError("there is no list")
    listed = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            model = Model()
            read(entry, model, MODEL)
            listed.append(model)
    return listed
