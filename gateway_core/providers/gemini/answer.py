"""Gemini's candidates become the contract: what one of them says, piece by piece.

Sources: Candidate, Part and LogprobsResult in https://ai.google.dev/api/generate-content;
https://ai.google.dev/gemini-api/docs/thought-signatures (which parts are signed).
"""

from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChunkChoice, Logprobs, TokenLogprob
from headgate.v1.message_pb2 import ReasoningDetail

from gateway_core.providers.gemini.carried import REASONING
from gateway_core.providers.gemini.grounding import citations
from gateway_core.providers.gemini.reading import INT32, real, whole
from gateway_core.upstream.document import inner, objects, text
from gateway_core.upstream.json_text import Document

KNOWN = frozenset({"content", "finishReason", "index", "tokenCount", "logprobsResult", "finishMessage"})

ENDS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""Why an answer ended; what is not here is told in Google's own word, in small letters."""

FAULTS = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})
"""Ends of answers that the model has spoilt: another attempt may do better."""

UNSIGNED_CALL = "MISSING_THOUGHT_SIGNATURE"
"""The end of an answer to a request that lacks a signature."""


class Speaker:
    """What one candidate has said so far, as far as the next piece depends on it."""

    def __init__(self, request_id: str, index: int) -> None:
        """Takes what calls without an id are named after."""
        self._named_after = f"call_{request_id}_{index}" if index else f"call_{request_id}"
        self._has_spoken = False
        self._calls = 0
        self._details = 0  # how many reasoning details have begun
        self._thought: int | None = None  # the detail that further thoughts add to
        self._others = 0
        self._images: list[Document] = []
        self._texts: list[str] = []
        self._grounding: Document = {}
        self.has_ended = False
        self.goes_on = False
        """Whether it has said more after it ended: some hosts say of every piece why the answer ended."""

    def put(self, choice: ChunkChoice, candidate: Document) -> None:
        """Fills a choice with what a candidate adds. Raises ValueError where it makes no sense."""
        delta = choice.delta
        delta.SetInParent()
        if not self._has_spoken:
            self._has_spoken = True
            delta.role = message_pb2.ROLE_ASSISTANT
        parts = objects(inner(candidate, "content"), "parts")
        self.goes_on |= self.has_ended and bool(parts)
        for part in parts:
            self._put_part(delta, part)
        # A stream may tell it several times, of more and more of the text: the last time counts.
        if type(grounding := candidate.get("groundingMetadata")) is dict:
            self._grounding = grounding
        extra = {name: value for name, value in candidate.items() if name not in KNOWN and value not in (None, [])}
        reason = text(candidate, "finishReason")
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            self.has_ended = True
            end = ENDS.get(reason, reason.lower())
            choice.finish_reason = "tool_calls" if end == "stop" and self._calls else end
            if reason not in ("STOP", "MAX_TOKENS"):
                extra["native_finish_reason"] = reason
            if end == "content_filter" and (message := text(candidate, "finishMessage")):
                delta.refusal = message
            delta.annotations.extend(citations(self._grounding, "".join(self._texts)))
        if logprobs := inner(candidate, "logprobsResult"):
            put_logprobs(choice.logprobs, logprobs)
        if extra:
            choice.extra_json = orjson.dumps(extra).decode()

    def _put_part(self, delta: AnswerMessage, part: Document) -> None:
        """Adds a part to a message."""
        signature = text(part, "thoughtSignature")
        if "functionCall" in part:
            self._put_call(delta, inner(part, "functionCall"), signature)
        elif part.get("thought") is True:
            self._put_thought(delta, text(part, "text"), signature)
        elif "text" in part:
            self._thought = None
            if said := text(part, "text"):
                delta.content += said
                self._texts.append(said)
            if signature:
                self._put_signature(delta, "", signature)
        elif "inlineData" in part:
            self._put_media(delta, inner(part, "inlineData"))
            if signature:
                self._put_signature(delta, "", signature)
        elif signature and len(part) == 1:
            self._put_signature(delta, "", signature)
        else:
            # Keyed by place: the pieces of a stream are then one object, as the whole answer has it.
            self._put_extra(delta, "google_parts", {str(self._others): part})
            self._others += 1

    def _put_call(self, delta: AnswerMessage, called: Document, signature: str) -> None:
        name = text(called, "name")
        if not name:
            raise ValueError("it calls a function without a name")
        self._thought = None
        call = delta.tool_calls.add(index=self._calls)
        call.id = text(called, "id") or f"{self._named_after}_{self._calls}"
        call.function.name = name
        call.function.arguments = orjson.dumps(inner(called, "args")).decode()
        self._calls += 1
        if signature:
            # In both places: some callers send back the one, and some the other.
            call.extra_json = orjson.dumps({"extra_content": {"google": {"thought_signature": signature}}}).decode()
            self._put_signature(delta, call.id, signature)

    def _put_thought(self, delta: AnswerMessage, said: str, signature: str) -> None:
        delta.reasoning += said
        if self._thought is None:
            self._thought = self._next_detail()
        last = delta.reasoning_details[-1] if delta.reasoning_details else None
        if last is None or last.index != self._thought:
            last = delta.reasoning_details.add(type="reasoning.text", format=REASONING, index=self._thought)
        last.text += said
        if signature:
            last.signature = signature
            self._thought = None

    def _put_signature(self, delta: AnswerMessage, call_id: str, signature: str) -> None:
        """Adds what signs a call, or else the text."""
        self._thought = None
        detail = ReasoningDetail(
            type="reasoning.encrypted", format=REASONING, index=self._next_detail(), data=signature
        )
        if call_id:
            detail.id = call_id
        delta.reasoning_details.append(detail)

    def _next_detail(self) -> int:
        self._details += 1
        return self._details - 1

    def _put_media(self, delta: AnswerMessage, media: Document) -> None:
        """Adds sound, or an image in the form of OpenRouter's answers."""
        kind, data = text(media, "mimeType"), text(media, "data")
        if kind.startswith("audio/"):
            delta.audio.data += data
            return
        url = f"data:{kind};base64,{data}"
        self._images.append({"type": "image_url", "image_url": {"url": url}, "index": len(self._images)})
        self._put_extra(delta, "images", self._images)

    def _put_extra(self, delta: AnswerMessage, name: str, value: Any) -> None:
        extra = orjson.loads(delta.extra_json) if delta.extra_json else {}
        known = extra.get(name)
        extra[name] = {**known, **value} if type(known) is dict else value
        delta.extra_json = orjson.dumps(extra).decode()


def put_logprobs(logprobs: Logprobs, document: Document) -> None:
    """Fills log probabilities."""
    logprobs.content.SetInParent()
    tops = objects(document, "topCandidates")
    for place, chosen in enumerate(objects(document, "chosenCandidates")):
        token = logprobs.content.tokens.add()
        put_token(token, chosen)
        if place < len(tops):
            for other in objects(tops[place], "candidates"):
                put_token(token.top_logprobs.add(), other)


def put_token(token: TokenLogprob, document: Document) -> None:
    """Fills one token."""
    token.token = text(document, "token")
    token.logprob = real(document, "logProbability")
    token.utf8 = token.token.encode()


def index_of(candidate: Document, position: int) -> int:
    """Which candidate it is; one without an index is the first, or at its position."""
    index = whole(candidate, "index", INT32)
    return position if index is None else index
