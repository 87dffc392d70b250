"""One OpenAI-compatible host: asks it, and reads what it answers."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec, StreamOptions
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, Given, Rewrite, Target, whole
from gateway_core.chat import Chat, chat_of
from gateway_core.config import ProviderConfig
from gateway_core.known.hosts import Quirks
from gateway_core.providers.openai.carried import Carried
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.providers.openai.plain import plain_answer
from gateway_core.providers.openai.quirk import adapt
from gateway_core.providers.openai.reading import Fields, read, skip
from gateway_core.providers.openai.request import AS_THEY_ARE, plain_document, request_document
from gateway_core.unsupported import found, refuse_or_drop
from gateway_core.upstream.attempt import name_of_attempt
from gateway_core.upstream.http import Answer, Upstream
from gateway_core.upstream.json_text import Document
from gateway_core.upstream.listing import Page, listed
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import EventReader
from gateway_core.upstream.stream import refused, streamed

FORMAT = "openai"

# What the wire format has no word for.
UNSUPPORTED = frozenset({"prefill"})

COMPLETIONS = "/chat/completions"

MODEL_IN_URL = "{model}"
"""Stands in a base URL for the model, where a host wants it there: Azure's deployments."""

REQUEST_ID = b"x-request-id"
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
        base_url, self._path = places(config.base_url or "")
        self._name = name
        self._quirks = None if config.quirks == Quirks() else config.quirks
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._as_they_are = AS_THEY_ARE - self._unsupported if self._quirks is None else frozenset()
        self._event_bytes = config.answer_bytes
        self._lists_models = config.lists_models
        self._refusals = Refusals(name, config)
        self._upstream = Upstream(name, config.model_copy(update={"base_url": base_url}), headers(config))

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion: returns once a streamed answer has begun, or another was read to its end."""
        document = self._document(call)
        body = orjson.dumps(document)
        path = self._path.replace(MODEL_IN_URL, quote(document["model"], safe="")) if self._path else COMPLETIONS
        answer = await self._upstream.open("POST", path, body=body, deadline=call.deadline)
        call.upstream_request_id = name_of_attempt(answer.header(REQUEST_ID))
        if answer.status >= 400:
            raise await refused(answer, self._refusals)
        # Some hosts do not stream, whatever they are asked, and some always do.
        content_type = answer.header(b"content-type")
        if "event-stream" in content_type or (call.stream and "json" not in content_type):
            reader = EventReader(self._event_bytes, self._name)
            events = streamed(answer, reader, self._decoder(call, document), self._refusals, begins)
            await anext(events)
            return events if call.stream else await whole(events)
        data = answer.arrived()
        if data is None:
            data = await read_whole(answer)
        plain = plain_answer(data)
        if plain is None:
            return Given(self._decoder(call, document).whole(data))
        return Given.read(plain.said(), plain.event, json=plain.json() if call.json_format == FORMAT else None)

    async def list_models(self) -> Sequence[Model]:
        """The models that the host lists."""
        if not self._lists_models or self._path:
            return []
        return await listed(self._upstream, self._refusals, "/models", models)

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    def _decoder(self, call: Call[ChatCompletionSpec], document: Document) -> Decoder:
        tells = self._quirks is None or self._quirks.finish_reasons
        decoder = Decoder(self._refusals, call.request_id, document.get("n", 1), tells_finish_reason=tells)
        decoder.joins_pieces = call.joins_pieces
        return decoder

    def _document(self, call: Call[ChatCompletionSpec]) -> Document:
        chat, target = chat_of(call), call.target
        assert target is not None, "the stage `fallback` sets the target"
        if not (call.stream or target.unsupported or target.unsupported_while_reasoning):
            document = plain_document(chat, target.model) if chat.fields.keys() <= self._as_they_are else None
            if document is not None:
                return document
        return self._careful_document(call, chat, target)

    def _careful_document(self, call: Call[ChatCompletionSpec], chat: Chat, target: Target) -> Document:
        """The same where something may have to be left out, or comes with the request for hosts to understand."""
        dropped = found(call, self._unsupported, extra_format=FORMAT)
        left_out = self._unsupported
        if target.unsupported or dropped:
            left_out |= target.unsupported | dropped
        carried = Carried(chat.fields.get("extra_format", ""))
        document = request_document(chat, stream=call.stream, left_out=left_out, carried=carried)
        document["model"] = target.model
        if "stream_options" in chat.fields:
            if not call.stream:
                dropped.discard("stream_options")
                refuse_or_drop(call, ["stream_options"], "the answer is not streamed")
            elif not asks_the_host(chat.fields["stream_options"]):
                dropped.discard("stream_options")
        if dropped or carried.left_out:
            refuse_or_drop(call, [*sorted(dropped), *carried.left_out])
        untold = list(carried.untold)
        if self._quirks is not None and (unmet := adapt(document, self._quirks)):
            refuse_or_drop(call, [each.name for each in unmet if each.may_refuse])
            untold += [each.name for each in unmet if not each.may_refuse]
        if untold and target.on_unsupported != "drop":
            because = f"left out, the provider {target.provider} takes none back"
            call.rewrites += [Rewrite(name, because) for name in untold]
        return document


def headers(config: ProviderConfig) -> dict[str, str]:
    """The headers of every request: the key is in one of them, unless the configuration says that itself."""
    found = {field: secret.get_secret_value() for field, secret in config.headers.items()}
    field = config.quirks.key_header
    if config.api_key is not None and field not in {name.lower() for name in found}:
        key = config.api_key.get_secret_value()
        found[field] = f"Bearer {key}" if field == "authorization" else key
    return found


def places(base_url: str) -> tuple[str, str]:
    """Where the host is, and the path of its completions where that names the model; empty: where it always is.

    "https://a/openai/deployments/{model}?api-version=1" is ("https://a/openai/deployments?api-version=1",
    "/{model}/chat/completions").
    """
    url, mark, query = base_url.partition("?")
    before, named, after = url.partition(MODEL_IN_URL)
    if not named:
        return base_url, ""
    return f"{before.rstrip('/')}{mark}{query}", f"/{MODEL_IN_URL}{after.rstrip('/')}{COMPLETIONS}"


async def read_whole(answer: Answer) -> bytes:
    """The body of an answer, which is closed where it cannot be read."""
    try:
        return await answer.read()
    except BaseException:
        answer.abort()
        raise


def asks_the_host(options: StreamOptions) -> bool:
    """Whether options of a stream are for the host: the form of the usage is Headgate's own matter."""
    return any(field.name != "include_usage" for field, _ in options.ListFields())


def begins(event: ChatCompletionChunk) -> bool:
    """Whether an answer has begun with an event: what hosts tell of themselves is none yet."""
    return bool(event.choices) or event.HasField("usage")


def models(document: Any) -> Page:
    """The models in a decoded list, of one page; raises ValueError where it is none. Source: OpenAI's list of Model."""
    entries = document.get("data") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ValueError("there is no list")
    found = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            model = Model()
            read(entry, model, MODEL)
            found.append(model)
    return found, ""
