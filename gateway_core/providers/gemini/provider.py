"""One host of the Gemini API: asks it, and reads what it answers.

Sources: https://ai.google.dev/api/generate-content (both methods), https://ai.google.dev/api/models,
https://ai.google.dev/gemini-api/docs/api-key (the header).
"""

from collections.abc import Sequence

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, Given, Rewrite, whole
from gateway_core.config import ProviderConfig
from gateway_core.errors import UnsupportedParameter
from gateway_core.providers.gemini.carried import FORMAT, Carried
from gateway_core.providers.gemini.decoder import Decoder
from gateway_core.providers.gemini.family import family
from gateway_core.providers.gemini.listing import model_path, page, page_path
from gateway_core.providers.gemini.request import EXTENSION, UNSUPPORTED, body, request_document
from gateway_core.unsupported import found, refuse_or_drop
from gateway_core.upstream.attempt import name_of_attempt
from gateway_core.upstream.http import Upstream
from gateway_core.upstream.listing import listed
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import EventReader
from gateway_core.upstream.stream import refused, streamed

KEY = "x-goog-api-key"

MEANT = frozenset({"reasoning_effort"})
"""What is not put in other words where the configuration says reject: it would be less than was asked for."""


class Provider:
    """A host that speaks the Gemini API."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row."""
        headers = {field: secret.get_secret_value() for field, secret in config.headers.items()}
        if config.api_key is not None and not {KEY, "authorization"} & {field.lower() for field in headers}:
            headers[KEY] = config.api_key.get_secret_value()
        self._name = name
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._event_bytes = config.answer_bytes
        self._lists_models = config.lists_models
        self._refusals = Refusals(name, config)
        self._upstream = Upstream(name, config, headers)

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion: returns once a streamed answer has begun, or another was read to its end."""
        assert call.target is not None, "the stage `fallback` sets the target"
        method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        decoder = Decoder(self._refusals, call.request_id, call.request.n or 1)
        path = f"{model_path(call.target.model)}:{method}"
        answer = await self._upstream.open("POST", path, body=self._body(call), deadline=call.deadline)
        if answer.status >= 400:
            raise await refused(answer, self._refusals)
        content_type = answer.header(b"content-type")
        try:
            if "event-stream" in content_type or (call.stream and "json" not in content_type):
                reader = EventReader(self._event_bytes, self._name)
                events = streamed(answer, reader, decoder, self._refusals, begins)
                await anext(events)
                return events if call.stream else await whole(events)
            try:
                return Given(decoder.whole(await answer.read()))
            finally:
                answer.abort()
        finally:
            # No header tells it: the answer itself does.
            call.upstream_request_id = name_of_attempt(decoder.name)

    async def list_models(self) -> Sequence[Model]:
        """The models that the host lists, of all pages."""
        if not self._lists_models:
            return []
        return await listed(self._upstream, self._refusals, page_path(), page)

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    def _body(self, call: Call[ChatCompletionSpec]) -> bytes:
        spec, target = call.request, call.target
        assert target is not None, "the stage `fallback` sets the target"
        row = family(target.model)
        unsupported = self._unsupported | row.unsupported
        dropped = found(call, unsupported, extra_format=FORMAT)
        if spec.extra_format in ("", "openai"):
            dropped -= EXTENSION
        if spec.HasField("parallel_tool_calls") and not spec.parallel_tool_calls:
            dropped.add("parallel_tool_calls")
        if any(field.name != "include_usage" for field, _ in spec.stream_options.ListFields()):
            dropped.add("stream_options")
        carried = Carried(spec.extra_format)
        document = request_document(spec, row, left_out=unsupported | target.unsupported | dropped, carried=carried)
        if dropped or carried.left_out:
            refuse_or_drop(call, [*sorted(dropped), *carried.left_out])
        if target.on_unsupported != "drop":
            because = f"left out, the provider {target.provider} takes none back"
            call.rewrites += [Rewrite(name, because) for name in carried.untold]
        for name, reason in carried.changed.items():
            tell_of_change(call, name, reason)
        return body(document)


def tell_of_change(call: Call[ChatCompletionSpec], name: str, reason: str) -> None:
    """Adds a warning for what was put in other words; raises UnsupportedParameter where it would be less than meant."""
    target = call.target
    assert target is not None, "the stage `fallback` sets the target"
    if name in MEANT and target.on_unsupported == "reject":
        sentence = f"{name} is not supported: {target.model} does not take it ({reason})."
        raise UnsupportedParameter(sentence, param=name, provider=target.provider)
    if target.on_unsupported != "drop":
        call.rewrites.append(Rewrite(name, reason))


def begins(event: ChatCompletionChunk) -> bool:
    """Whether an answer has begun with an event."""
    return bool(event.choices)
