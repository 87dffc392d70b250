"""One OpenAI-compatible host: asks it, and reads what it answers."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events, Rewrite
from gateway_core.config import ProviderConfig
from gateway_core.errors import GatewayError, ProviderError, TooLarge, UnsupportedParameter
from gateway_core.providers.openai.carried import Carried
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.providers.openai.reading import Fields, read, skip
from gateway_core.providers.openai.refusal import Refusals
from gateway_core.providers.openai.request import request_document
from gateway_core.unsupported import refuse_or_drop
from gateway_core.upstream.http import Answer, Upstream
from gateway_core.upstream.sse import Event, EventReader

FORMAT = "openai"

# What the wire format has no word for.
UNSUPPORTED = frozenset({"prefill"})

OPENED = ChatCompletionChunk()

MODELS_SECONDS = 30
"""How long a list of models may take."""

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
        self._unsupported = UNSUPPORTED | config.unsupported_parameters
        self._event_bytes = config.answer_bytes
        self._lists_models = config.lists_models
        self._refusals = Refusals(name, config)
        self._upstream = Upstream(name, config, headers)

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion; an answer that is not streamed is read to its end before this returns."""
        body = self._body(call)
        decoder = Decoder(self._refusals, call.request_id, call.request.n or 1)
        answer = await self._upstream.open("POST", "/chat/completions", body=body, deadline=call.deadline)
        if answer.status >= 400:
            raise await self._refusal(answer)
        # Some hosts do not stream, whatever they are asked, and some always do.
        content_type = answer.headers.get("content-type", "")
        if "event-stream" in content_type or (call.stream and "json" not in content_type):
            events = self._stream(answer, decoder)
            # Closing a generator that has not run runs none of it, and a caller may leave before the first event.
            await anext(events)
            return events
        try:
            event = decoder.document(await answer.read())
            if decoder.is_empty:
                raise self._refusals.broken("sent an answer without choices")
            return self._whole(event)
        finally:
            answer.abort()

    async def list_models(self) -> Sequence[Model]:
        """The models that the host lists."""
        if not self._lists_models:
            return []
        deadline = asyncio.get_running_loop().time() + MODELS_SECONDS
        answer = await self._upstream.open("GET", "/models", deadline=deadline)
        if answer.status >= 400:
            raise await self._refusal(answer)
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
        target = call.target
        assert target is not None, "the stage `fallback` sets the target"
        left_out = refuse_or_drop(call, self._unsupported, extra_format=FORMAT)
        left_out |= self._unsupported | target.unsupported
        carried = Carried(call.request.extra_format)
        document = request_document(call.request, target.model, stream=call.stream, left_out=left_out, carried=carried)
        for name in carried.left_out:
            sentence = f"the provider {target.provider} does not take it"
            if target.on_unsupported == "reject":
                raise UnsupportedParameter(
                    f"{name} is not supported: {sentence}.", param=name, provider=target.provider
                )
            if target.on_unsupported == "warn":
                call.rewrites.append(Rewrite(name, f"dropped, {sentence}"))
        return orjson.dumps(document)

    async def _refusal(self, answer: Answer) -> ProviderError:
        try:
            body = await answer.read()
        except (ProviderError, TooLarge):
            # The status tells more than the fault of the body that explains it.
            body = b""
        finally:
            answer.abort()
        return self._refusals.answer(answer.status, answer.headers, body)

    async def _whole(self, event: ChatCompletionChunk) -> Events:
        yield event

    async def _stream(self, answer: Answer, decoder: Decoder) -> Events:
        reader = EventReader(self._event_bytes)
        try:
            yield OPENED
            async with aclosing(answer.pieces()) as pieces:
                body = Pieces(pieces, decoder)
                while piece := await body.next():
                    for event in decoded(reader.feed(piece), decoder):
                        yield event
        finally:
            answer.abort()
        if not decoder.is_done:
            for event in decoded(reader.finish(), decoder):
                yield event
        if not (decoder.is_done or decoder.is_whole):
            raise self._refusals.broken("broke its answer off before its end")
        if decoder.is_empty:
            raise self._refusals.broken("sent an answer without choices")


def decoded(events: Sequence[Event], decoder: Decoder) -> Iterator[ChatCompletionChunk]:
    """What the events say, up to the one that says that nothing more comes."""
    for event in events:
        if decoder.is_done:
            return
        said = decoder.event(event)
        if said is not None:
            yield said


class Pieces:
    """The pieces of a body until its end, or until nothing is to be expected any more.

    A fault of the connection after the end of every answer is no fault of the answers.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None], decoder: Decoder) -> None:
        """Takes the body, and what has decoded its pieces so far."""
        self._pieces = pieces
        self._decoder = decoder
        self._seconds: float | None = None
        self._ends_at: float | None = None

    async def next(self) -> bytes:
        """The next piece; empty at the end."""
        seconds = self._decoder.patience_seconds
        if seconds != self._seconds:
            self._seconds = seconds
            self._ends_at = None if seconds is None else asyncio.get_running_loop().time() + seconds
        if self._ends_at is None:
            return await self._next()
        try:
            async with asyncio.timeout_at(self._ends_at):
                return await self._next()
        except TimeoutError:
            return b""

    async def _next(self) -> bytes:
        try:
            return await anext(self._pieces, b"")
        except GatewayError:
            if self._decoder.is_done or self._decoder.is_whole:
                return b""
            raise


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
