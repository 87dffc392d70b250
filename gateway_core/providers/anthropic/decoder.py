"""What an answer of Anthropic's says, event by event or whole, and whether it is all there.

Sources: https://platform.claude.com/docs/en/build-with-claude/streaming,
https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons.
"""

import time
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk
from headgate.v1.message_pb2 import ROLE_ASSISTANT

from gateway_core.completion.message import folded_message
from gateway_core.providers.anthropic.block import Blocks, listed, mapping, word
from gateway_core.providers.anthropic.usage import usage
from gateway_core.upstream.document import document_of
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event
from gateway_core.upstream.stream import OneByOne

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Why an answer ended, in the contract's words; other reasons, such as pause_turn, keep their own."""

READ = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage"})
"""Fields of a message that are not carried as they are."""

# Seconds to wait for the end of the body once the host has said that nothing more comes: a connection whose answer was
# read to its end can be used again.
END_SECONDS = 0.1

# Seconds to wait for the event that says so, once the answer has ended.
TRAILER_SECONDS = 1.0


class Decoder(OneByOne[Event]):
    """Decodes one answer, whole or streamed."""

    def __init__(self, refusals: Refusals, request_id: str, created: int | None = None) -> None:
        """Takes what makes the errors, what an answer without an id is named after, and the time (None: now)."""
        self._refusals = refusals
        self._blocks = Blocks()
        self._usage: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._head = ChatCompletionChunk(id=f"msg-{request_id}", created=created or int(time.time()))
        self._is_done = False
        self.is_whole = False
        """Whether the answer has ended."""
        self.is_empty = True
        """Whether no answer has begun."""

    @property
    def is_done(self) -> bool:
        """Whether the host said that nothing more comes."""
        return self._is_done

    @property
    def patience_seconds(self) -> float | None:
        """For how long, from now, something more is worth waiting for; None: for as long as the answer takes."""
        if self.is_done:
            return END_SECONDS
        return TRAILER_SECONDS if self.is_whole else None

    def event(self, event: Event) -> ChatCompletionChunk | None:
        """What an event of the stream says; None where that is nothing. Raises ProviderError."""
        if not event.data.strip():
            return None
        document = document_of(event.data, self._refusals)
        kind = document.get("type")
        if kind == "error" or event.name == "error":
            raise self._refusals.event(document)
        try:
            return self._said(kind, document)
        except (ValueError, TypeError) as error:
            raise self._refusals.broken(f"sent an answer that makes no sense: {error}") from None

    def whole(self, data: bytes) -> ChatCompletionChunk:
        """What a whole answer says. Raises ProviderError."""
        document = document_of(data, self._refusals)
        if document.get("type") == "error":
            raise self._refusals.event(document)
        try:
            pieces = [AnswerMessage(role=ROLE_ASSISTANT)]
            for index, block in enumerate(listed(document.get("content"))):
                pieces += [self._blocks.start(index, block), self._blocks.stop(index)]
            self._begin(document)
            word(document, "stop_reason")
            return self._ended(document, mapping(document.get("usage")), pieces)
        except (ValueError, TypeError) as error:
            raise self._refusals.broken(f"sent an answer that makes no sense: {error}") from None

    def _said(self, kind: Any, document: dict[str, Any]) -> ChatCompletionChunk | None:
        if kind == "message_start":
            self._begin(mapping(document.get("message")))
            return self._chunk(AnswerMessage(role=ROLE_ASSISTANT))
        if kind == "message_stop":
            self._is_done = True
            if not self.is_whole:
                raise ValueError("it does not say why it ended")
            return None
        if kind not in ("content_block_start", "content_block_delta", "content_block_stop", "message_delta"):
            # Pings, and what will be told in later versions.
            return None
        if self.is_empty:
            raise ValueError("it has no beginning")
        if kind == "message_delta":
            beside = {name: value for name, value in document.items() if name not in ("type", "delta", "usage")}
            return self._changed(beside | mapping(document.get("delta")), mapping(document.get("usage") or {}))
        if kind == "content_block_start":
            said = self._blocks.start(document.get("index"), document.get("content_block"))
        elif kind == "content_block_delta":
            said = self._blocks.add(document.get("index"), document.get("delta"))
        else:
            said = self._blocks.stop(document.get("index"))
        return self._chunk(said) if said.ByteSize() else None

    def _begin(self, message: dict[str, Any]) -> None:
        """Takes what a message says of itself."""
        if message.get("id"):
            self._head.id = word(message, "id")
        self._head.model = word(message, "model")
        self._usage = dict(mapping(message.get("usage")))
        self._extra = unread(message)
        self.is_empty = False

    def _chunk(self, said: AnswerMessage) -> ChatCompletionChunk:
        event = ChatCompletionChunk()
        event.CopyFrom(self._head)
        event.choices.add(delta=said)
        return event

    def _changed(self, delta: dict[str, Any], used: dict[str, Any]) -> ChatCompletionChunk | None:
        """What changes at the end of a message. Its numbers are those of the whole answer so far, not of a piece."""
        if delta.get("stop_reason") is None:
            return None
        if self._blocks.is_any_open:
            raise ValueError("it ends before what it began")
        return self._ended(delta, used, [])

    def _ended(
        self, document: dict[str, Any], used: dict[str, Any], pieces: list[AnswerMessage]
    ) -> ChatCompletionChunk:
        self._usage |= {name: value for name, value in used.items() if value is not None}
        reason = word(document, "stop_reason")
        details = document.get("stop_details")
        explanation = details.get("explanation") if isinstance(details, dict) else None
        if reason == "refusal" and isinstance(explanation, str) and explanation:
            pieces.append(AnswerMessage(refusal=explanation))
        if self._blocks.cited.annotations:
            pieces.append(self._blocks.cited)
        event = self._chunk(folded_message(pieces) if len(pieces) > 1 else next(iter(pieces), AnswerMessage()))
        event.choices[0].finish_reason = REASONS.get(reason, reason)
        told = {"native_finish_reason": reason} | {
            name: document[name] for name in ("stop_sequence", "stop_details") if document.get(name) is not None
        }
        event.choices[0].extra_json = orjson.dumps(told).decode()
        event.usage.CopyFrom(usage(self._usage))
        tier = self._usage.get("service_tier")
        if isinstance(tier, str):
            event.service_tier = tier
        if extra := self._extra | unread(document):
            event.extra_json = orjson.dumps(extra).decode()
        self.is_whole = True
        return event


def unread(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a message that have no place in the contract."""
    return {name: value for name, value in document.items() if name not in READ and value is not None}
