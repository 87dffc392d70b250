"""Answers and models in OpenAI's JSON: whole, and in the chunks of a stream."""

from collections.abc import Iterable
from typing import Any

from headgate.v1 import message_pb2
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletion, ChatCompletionChunk, Choice, ChunkChoice
from headgate.v1.message_pb2 import ToolCall
from headgate.v1.model_pb2 import Model
from headgate.v1.token_usage_pb2 import TokenUsage

from rest_bridge.dialects.openai.answer import Document, logprobs, merge, said, tool_call, usage

ROLES = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "developer",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_TOOL: "tool",
    message_pb2.ROLE_FUNCTION: "function",
}
"""Roles other than the assistant, who speaks where nothing else is said."""


def completion_document(completion: ChatCompletion) -> Document:
    """A whole answer. Source: OpenAI's ChatCompletion."""
    document = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "choices": [choice_document(choice) for choice in completion.choices],
    }
    if completion.HasField("usage"):
        document["usage"] = usage(completion.usage)
    if completion.HasField("service_tier"):
        document["service_tier"] = completion.service_tier
    if completion.HasField("system_fingerprint"):
        document["system_fingerprint"] = completion.system_fingerprint
    return merge(document, completion.extra_json)


def choice_document(choice: Choice) -> Document:
    """One answer of several."""
    return merge(
        {
            "index": choice.index,
            "message": message_document(choice.message),
            "logprobs": logprobs(choice.logprobs) if choice.HasField("logprobs") else None,
            "finish_reason": choice.finish_reason if choice.HasField("finish_reason") else None,
        },
        choice.extra_json,
    )


def message_document(message: AnswerMessage) -> Document:
    """A whole message."""
    role = ROLES.get(message.role, "assistant")
    document = {"role": role, "content": None, "refusal": None, "annotations": [], **said(message)}
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


class ChunkWriter:
    """Writes the chunks of one stream as OpenAI's clients expect them.

    The role is in the first delta of each choice. Chunks that say nothing are left out. The usage is in a last chunk
    of its own where it was asked for; otherwise the last chunk with a finish reason has it, which is therefore held
    back until the stream ends. Usage that the provider did not tell is not made up.
    """

    def __init__(self, include_usage: bool, model: str = "") -> None:
        """Takes whether usage was asked for in a chunk of its own, and the model to name where a chunk names none."""
        self._include_usage = include_usage
        self._model = model
        self._spoken: set[int] = set()
        self._called: set[tuple[int, int]] = set()
        self._held: Document | None = None
        self._usage: TokenUsage | None = None
        self._usage_head: Document = {}

    def write(self, chunk: ChatCompletionChunk) -> list[Document]:
        """The documents to send for a chunk, in order."""
        document = self._head(chunk)
        choices = []
        finishes = False
        for choice in chunk.choices:
            written = self._choice(choice)
            if written is not None:
                choices.append(written)
                finishes = finishes or choice.HasField("finish_reason")
        has_usage = chunk.HasField("usage")
        if has_usage:
            self._usage = chunk.usage
            self._usage_head = dict(document)
        if chunk.extra_json:
            merge(document, chunk.extra_json)
            if has_usage and not choices:
                self._usage_head = document
        if not choices and (has_usage or not chunk.extra_json):
            return []
        document["choices"] = choices
        if self._include_usage:
            document["usage"] = None
        elif finishes:
            earlier, self._held = self._held, document
            return [] if earlier is None else [earlier]
        return [document]

    def finish(self) -> list[Document]:
        """The documents to send when the stream has ended well."""
        documents = []
        held, self._held = self._held, None
        if held is not None:
            if self._usage is not None:
                held = {**self._usage_head, **held, "usage": usage(self._usage)}
            documents.append(held)
        elif self._usage is not None:
            documents.append({**self._usage_head, "choices": [], "usage": usage(self._usage)})
        return documents

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

    def _choice(self, choice: ChunkChoice) -> Document | None:
        """What a chunk adds to an answer; None where that is nothing."""
        index = choice.index
        message = choice.delta
        delta = said(message)
        if message.tool_calls:
            delta["tool_calls"] = [self._call(index, call) for call in message.tool_calls]
        finish_reason = choice.finish_reason if choice.HasField("finish_reason") else None
        found = logprobs(choice.logprobs) if choice.HasField("logprobs") else None
        silent = not delta or (len(delta) == 1 and delta.get("content") == "")
        if silent and finish_reason is None and found is None and not choice.extra_json:
            return None
        if index not in self._spoken:
            self._spoken.add(index)
            # Clients that join the pieces get an empty text, not none, from an answer that says nothing.
            delta = {"role": ROLES.get(message.role, "assistant"), **({"content": ""} if silent else {}), **delta}
        document = {"index": index, "delta": delta, "logprobs": found, "finish_reason": finish_reason}
        return merge(document, choice.extra_json) if choice.extra_json else document

    def _call(self, choice_index: int, call: ToolCall) -> Document:
        document = {"index": call.index, **tool_call(call)}
        place = (choice_index, call.index)
        if place in self._called:
            document.pop("type", None)
        self._called.add(place)
        return document


def model_document(model: Model) -> Document:
    """A model that can be asked. Source: OpenAI's Model."""
    return merge(
        {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}, model.extra_json
    )


def models_document(models: Iterable[Model]) -> dict[str, Any]:
    """The models that can be asked."""
    return {"object": "list", "data": [model_document(model) for model in models]}
