"""One host that speaks Anthropic's Messages API: asks it, and reads what it answers.

Sources: https://platform.claude.com/docs/en/api/overview (headers, request-id), …/api/errors, …/api/models/list.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, Given, Rewrite, whole
from gateway_core.config import ProviderConfig
from gateway_core.errors import UnsupportedParameter
from gateway_core.providers.anthropic.carried import FORMAT, Carried
from gateway_core.providers.anthropic.decoder import Decoder
from gateway_core.providers.anthropic.facts import told_facts
from gateway_core.providers.anthropic.request import FOREIGN, request_document
from gateway_core.unsupported import found, refuse_or_drop
from gateway_core.upstream.attempt import name_of_attempt
from gateway_core.upstream.http import Upstream
from gateway_core.upstream.listing import Page, listed
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import EventReader
from gateway_core.upstream.stream import refused, streamed

VERSION = "2023-06-01"
"""Of the API; there is no other."""

UNSUPPORTED = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "min_p", "modalities",
        "moderation", "n", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "seed", "store", "stream_options", "top_logprobs", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""What the wire format has no word for."""

NEUTRAL = {
    "n": 1, "temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "logprobs": False,
    "top_logprobs": 0, "store": False,
}  # fmt: skip
"""Values that ask for nothing that the provider does not do anyway."""

MODELS = "/models?limit=1000"
"""The path of the first page of the list of models, the longest that there is."""

REQUEST_ID = b"request-id"


class Provider:
    """A host that speaks Anthropic's Messages API."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row."""
        headers = {field.lower(): secret.get_secret_value() for field, secret in config.headers.items()}
        headers.setdefault("anthropic-version", VERSION)
        if config.api_key is not None and not {"authorization", "x-api-key"} & headers.keys():
            headers["x-api-key"] = config.api_key.get_secret_value()
        self._name = name
        self._betas = headers.get("anthropic-beta", "")
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._event_bytes = config.answer_bytes
        self._lists_models = config.lists_models
        self._refusals = Refusals(name, config)
        self._upstream = Upstream(name, config, headers)

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion: returns once a streamed answer has begun, or another was read to its end."""
        carried = Carried(call.request.extra_format)
        body = self._body(call, carried)
        decoder = Decoder(self._refusals, call.request_id)
        answer = await self._upstream.open(
            "POST", "/messages", body=body, deadline=call.deadline, headers=self._headers(carried)
        )
        call.upstream_request_id = name_of_attempt(answer.header(REQUEST_ID))
        if answer.status >= 400:
            raise await refused(answer, self._refusals)
        content_type = answer.header(b"content-type")
        if "event-stream" in content_type or (call.stream and "json" not in content_type):
            reader = EventReader(self._event_bytes, self._name)
            events = streamed(answer, reader, decoder, self._refusals, begins)
            await anext(events)
            return events if call.stream else await whole(events)
        try:
            return Given(decoder.whole(await answer.read()))
        finally:
            answer.abort()

    async def list_models(self) -> Sequence[Model]:
        """The models that the host lists, page by page."""
        if not self._lists_models:
            return []
        return await listed(self._upstream, self._refusals, MODELS, page)

    async def close(self) -> None:
        """Closes the connections."""
        await self._upstream.close()

    def _headers(self, carried: Carried) -> dict[str, str] | None:
        """Headers of one request, where it needs what is not part of the API for everybody."""
        if not carried.betas:
            return None
        return {"anthropic-beta": ",".join([*([self._betas] if self._betas else []), *carried.betas])}

    def _body(self, call: Call[ChatCompletionSpec], carried: Carried) -> bytes:
        spec, target = call.request, call.target
        assert target is not None, "the stage `fallback` sets the target"
        foreign = FOREIGN - self._unsupported - target.unsupported
        dropped = found(call, self._unsupported, extra_format=FORMAT) - foreign
        known = told_facts(target.model, target.max_output_tokens, target.features)
        document = request_document(spec, target.model, known, carried, frozenset(dropped))
        if call.stream:
            document["stream"] = True
        dropped = {name for name in dropped if not asks_nothing(spec, name)}
        refuse_or_drop(call, sorted(dropped))
        for name, because in carried.left_out.items():
            refuse_or_drop(call, [name], because)
        if target.on_unsupported != "drop":
            told = carried.untold.items()
            call.rewrites += [Rewrite(name, f"left out, {because.format(target.provider)}") for name, because in told]
        for name, how in carried.changed.items():
            refuse_or_change(call, name, how)
        return orjson.dumps(document)


def refuse_or_change(call: Call[ChatCompletionSpec], name: str, how: str) -> None:
    """Refuses a parameter that was changed, or tells of it, or neither, by the target's `on_unsupported`."""
    target = call.target
    assert target is not None, "the stage `fallback` sets the target"
    if target.on_unsupported == "reject":
        message = f"{name} is not supported by the provider {target.provider} as it is: {how}."
        raise UnsupportedParameter(message, param=name, provider=target.provider)
    if target.on_unsupported == "warn":
        call.rewrites.append(Rewrite(name, how))


def asks_nothing(spec: ChatCompletionSpec, name: str) -> bool:
    """Whether a parameter asks for nothing that is not done anyway: the form of the usage is Headgate's own matter."""
    if name == "stream_options":
        return all(field.name == "include_usage" for field, _ in spec.stream_options.ListFields())
    if name == "modalities":
        return list(spec.modalities) == ["text"]
    return name in NEUTRAL and getattr(spec, name) == NEUTRAL[name]


def begins(event: ChatCompletionChunk) -> bool:
    """Whether an answer has begun with an event: until then a host may still say that it is overloaded."""
    return any(
        choice.finish_reason or any(field.name != "role" for field, _ in choice.delta.ListFields())
        for choice in event.choices
    )


def page(document: Any) -> Page:
    """The models on a page of a list, and the path of the next page; raises ValueError where it is none.

    Source: Anthropic's ModelInfo.
    """
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("there is no list")
    found = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            found.append(model(dict(entry)))
    last = document.get("last_id")
    goes_on = document.get("has_more") is True and isinstance(last, str) and last
    return found, f"{MODELS}&after_id={quote(last, safe='')}" if goes_on else ""


def model(entry: dict[str, Any]) -> Model:
    """One model of a list; what is told of it beside is carried as it is."""
    found = Model(id=entry.pop("id"))
    entry.pop("type", None)
    created = entry.pop("created_at", None)
    if isinstance(created, str):
        found.created = seconds(created)
    for name, field in (("max_input_tokens", "context_length"), ("max_tokens", "max_output_tokens")):
        value = entry.pop(name, None)
        if type(value) is int and 0 < value < 2**62:
            setattr(found, field, value)
    if entry:
        found.extra_json = orjson.dumps(entry).decode()
    return found


def seconds(timestamp: str) -> int:
    """A time in seconds since 1970-01-01 UTC; 0 where it is none."""
    try:
        return max(int(datetime.fromisoformat(timestamp).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0
