"""Answers and models in OpenAI's JSON: whole, and in the chunks of a stream."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice
from headgate.v1.message_pb2 import ToolCall
from headgate.v1.model_pb2 import Model, ModelPrice
from headgate.v1.token_usage_pb2 import TokenUsage

from rest_bridge.dialects.openai.answer import REASONING, Document, complete, logprobs, merge, said, tool_call, usage

ROLES = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "developer",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_TOOL: "tool",
    message_pb2.ROLE_FUNCTION: "function",
}
"""Roles other than the assistant, who speaks where nothing else is said."""

PADDING = frozenset({"obfuscation"})
"""What pads chunks against side channels: no reason to send one."""


def completion_document(completion: ChatCompletion, model: str = "", reasoning: Sequence[str] = REASONING) -> Document:
    """A whole answer. Source: OpenAI's ChatCompletion.

    Takes the model to name where the answer names none, and the names under which reasoning is told.
    """
    document = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model or model,
        "choices": [choice_document(choice, reasoning) for choice in completion.choices],
    }
    if completion.HasField("usage"):
        document["usage"] = usage(completion.usage)
    if completion.HasField("service_tier"):
        document["service_tier"] = completion.service_tier
    if completion.HasField("system_fingerprint"):
        document["system_fingerprint"] = completion.system_fingerprint
    return merge(document, completion.extra_json)


def choice_document(choice: Choice, reasoning: Sequence[str]) -> Document:
    """One answer of several."""
    return merge(
        {
            "index": choice.index,
            "message": message_document(choice.message, reasoning),
            "logprobs": logprobs(choice.logprobs) if choice.HasField("logprobs") else None,
            "finish_reason": choice.finish_reason if choice.HasField("finish_reason") else None,
        },
        choice.extra_json,
    )


def message_document(message: AnswerMessage, reasoning: Sequence[str]) -> Document:
    """A whole message."""
    role = ROLES.get(message.role, "assistant")
    document = {"role": role, "content": None, "refusal": None, "annotations": [], **said(message, reasoning)}
    document["role"] = role
    if message.tool_calls:
        document["tool_calls"] = [whole_call(call) for call in message.tool_calls]
    return document


def whole_call(call: ToolCall) -> Document:
    """A whole call of a tool."""
    document = tool_call(call)
    if call.HasField("function"):
        document["function"] = {"name": "", "arguments": "", **document["function"]}
    elif call.HasField("custom"):
        document["custom"] = {"name": "", "input": "", **document["custom"]}
    return document


HEAD = ("id", "object", "created", "model", "service_tier", "system_fingerprint")
"""What every chunk of a stream repeats."""


class ChunkWriter:
    """Writes the chunks of one stream as OpenAI's clients expect them.

    The role is in the first delta of each choice, which is sent even where it says nothing else: the caller sees that
    the answer has begun. Later chunks that say nothing are left out. The usage is in a last chunk of its own where it
    was asked for; otherwise the last chunk with a finish reason has it, which is therefore held back until the stream
    ends; what it says beside is sent at once. Usage that the provider did not tell is not made up.
    """

    def __init__(self, include_usage: bool, model: str = "", reasoning: Sequence[str] = REASONING) -> None:
        """Takes whether usage was asked for in a chunk of its own, and the model to name where a chunk names none.

        Takes the names under which reasoning is told.
        """
        self._include_usage = include_usage
        self._reasoning = reasoning
        self._model = model
        self.spoken: set[int] = set()
        """The positions of the choices that were begun."""
        self._called: set[tuple[int, int]] = set()
        self._held: Document | None = None
        self._usage: TokenUsage | None = None
        self._usage_head: Document = {}

    def write(self, chunk: ChatCompletionChunk) -> list[Document]:
        """The documents to send for a chunk, in order."""
        extra = orjson.loads(chunk.extra_json) if chunk.extra_json else {}
        pieces = [_Piece(choice, self._reasoning) for choice in chunk.choices]
        telling = [piece for piece in pieces if not piece.is_silent or piece.index not in self.spoken]
        document = self._head(chunk)
        if chunk.HasField("usage"):
            self._usage = chunk.usage
            self._usage_head = dict(document) if telling else complete(document, extra)
            if not telling:
                return []
        if not telling and not any(value is not None for name, value in extra.items() if name not in PADDING):
            return []
        document["choices"] = [self._choice(piece) for piece in telling or pieces]
        if self._include_usage:
            document["usage"] = None
        complete(document, extra)
        if self._include_usage or not any(piece.finish_reason for piece in telling):
            return [document]
        saying, ending = parted(document)
        held, self._held = self._held, ending
        return [sent for sent in (held, saying) if sent is not None]

    def finish(self) -> list[Document]:
        """The documents to send when the stream has ended well."""
        documents = []
        held, self._held = self._held, None
        if held is not None:
            if self._usage is not None:
                held = {**complete(held, self._usage_head), "usage": usage(self._usage)}
            documents.append(held)
        elif self._usage is not None:
            documents.append({**self._usage_head, "choices": [], "usage": usage(self._usage)})
        return documents

    def drop_held(self) -> None:
        """Hears that what is held back was sent by somebody else."""
        self._held = self._usage = None

    def _head(self, chunk: ChatCompletionChunk) -> Document:
        document: Document = {
            "id": chunk.id,
            "object": "chat.completion.chunk",
            "created": chunk.created,
            "model": chunk.model or self._model,
        }
        if chunk.HasField("service_tier"):
            document["service_tier"] = chunk.service_tier
        if chunk.HasField("system_fingerprint"):
            document["system_fingerprint"] = chunk.system_fingerprint
        return document

    def _choice(self, piece: "_Piece") -> Document:
        """What a chunk adds to an answer."""
        delta, index = piece.delta, piece.index
        if piece.calls:
            delta["tool_calls"] = [self._call(index, call) for call in piece.calls]
        if index not in self.spoken:
            self.spoken.add(index)
            # Clients that join the pieces get an empty text, not none, from an answer that says nothing.
            text = {"content": ""} if piece.is_empty else {}
            delta = {"role": piece.role, **text, **delta}
        document = {"index": index, "delta": delta, "logprobs": piece.logprobs, "finish_reason": piece.finish_reason}
        return complete(document, piece.extra)

    def _call(self, choice_index: int, call: ToolCall) -> Document:
        document = {"index": call.index, **tool_call(call)}
        place = (choice_index, call.index)
        if place in self._called:
            document.pop("type", None)
        self._called.add(place)
        return document


def parted(document: Document) -> tuple[Document | None, Document]:
    """What a chunk that ends choices says (None: nothing), and the chunk that only ends them, with all that is beside.

    A choice that goes on stays with what is said.
    """
    saying, ending = [], []
    for choice in document["choices"]:
        speaks = any(value for name, value in choice["delta"].items() if name != "role") or choice["logprobs"]
        if speaks or choice["finish_reason"] is None:
            said_only = {name: choice[name] for name in ("index", "delta", "logprobs")}
            saying.append(choice if choice["finish_reason"] is None else {**said_only, "finish_reason": None})
        if choice["finish_reason"] is not None:
            ending.append({**choice, "delta": {}, "logprobs": None} if speaks else choice)
    head = {name: document[name] for name in HEAD if name in document}
    return ({**head, "choices": saying} if saying else None), {**document, "choices": ending}


class _Piece:
    """What a chunk adds to an answer, taken apart."""

    __slots__ = ("calls", "delta", "extra", "finish_reason", "index", "is_empty", "is_silent", "logprobs", "role")

    def __init__(self, choice: ChunkChoice, reasoning: Sequence[str]) -> None:
        message = choice.delta
        self.index = choice.index
        self.role = ROLES.get(message.role, "assistant")
        self.delta = said(message, reasoning)
        self.calls = message.tool_calls
        self.finish_reason = choice.finish_reason if choice.HasField("finish_reason") else None
        self.logprobs = logprobs(choice.logprobs) if choice.HasField("logprobs") else None
        self.extra: Document = orjson.loads(choice.extra_json) if choice.extra_json else {}
        # Null is as absent, so a piece of nulls adds nothing.
        self.is_empty = not self.calls and all(
            value is None or (name == "content" and not value) for name, value in self.delta.items()
        )
        self.is_silent = (
            self.is_empty and self.finish_reason is None and self.logprobs is None and self._tells_nothing()
        )

    def _tells_nothing(self) -> bool:
        return not self.extra or all(value is None for value in self.extra.values())


PRICES = (
    ("prompt", "input_per_million"),
    ("completion", "output_per_million"),
    ("input_cache_read", "cached_input_per_million"),
    ("input_cache_write", "cache_write_per_million"),
    ("audio", "audio_input_per_million"),
)
"""OpenRouter's names of prices, and the contract's."""


def model_document(model: Model) -> Document:
    """A model that can be asked. Source: OpenAI's Model.

    What is known beside stands under OpenRouter's names (https://openrouter.ai/docs/api-reference/list-available-models);
    what it can do, and the day of which that is, under Headgate's own.
    """
    document = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
    if model.HasField("context_length"):
        document["context_length"] = model.context_length
    if model.HasField("price"):
        document["pricing"] = pricing(model.price)
    if model.features:
        document["features"] = list(model.features)
    if model.facts_date:
        document["facts_date"] = model.facts_date
    return merge(document, model.extra_json)


def pricing(price: ModelPrice) -> Document:
    """Prices in US dollars for one token, as decimal numbers in strings; those that are known."""
    given = ((name, getattr(price, field)) for name, field in PRICES)
    return {name: per_token(per_million) for name, per_million in given if per_million}


def per_token(per_million: str) -> str:
    """A price of a million as that of one: no digit is lost, and none is added."""
    text = f"{Decimal(per_million).scaleb(-6):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def models_document(models: Iterable[Model]) -> dict[str, Any]:
    """The models that can be asked."""
    return {"object": "list", "data": [model_document(model) for model in models]}
