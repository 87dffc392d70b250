"""What Gemini's answer says, whole or event by event, and whether it is whole.

Sources: GenerateContentResponse in https://ai.google.dev/api/generate-content; a stream ends without a word after the
event that says why (no `[DONE]`), and tells failures on its way as events with google.rpc.Status.
"""

import time

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.providers.gemini.answer import FAULTS, UNSIGNED_CALL, Speaker, index_of
from gateway_core.providers.gemini.usage import put_usage
from gateway_core.upstream.document import document_of, inner, objects, text
from gateway_core.upstream.json_text import Document
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event
from gateway_core.upstream.stream import OneByOne

KNOWN = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "promptFeedback"})

# Seconds to wait for what may follow once all answers that have begun have ended …
TRAILER_SECONDS = 1.0

# … and where fewer have begun than were asked for.
OTHERS_SECONDS = 10.0


class Decoder(OneByOne[Event]):
    """Decodes one answer, whole or streamed."""

    def __init__(self, refusals: Refusals, request_id: str, choice_count: int, created: int | None = None) -> None:
        """Takes what makes the errors, what an answer without an id is named after, and how many answers are asked.

        The host does not tell when it made the answer: that is now, or `created`, in seconds since 1970-01-01 UTC.
        """
        self._refusals = refusals
        self._request_id = request_id
        self._choice_count = choice_count
        self._created = int(time.time()) if created is None else created
        self._speakers: dict[int, Speaker] = {}
        self.name = ""
        """What the host calls the answer. Empty: it has not told."""

    @property
    def is_done(self) -> bool:
        """Never: the host does not say that nothing more comes."""
        return False

    @property
    def is_empty(self) -> bool:
        """Whether no answer has begun."""
        return not self._speakers

    @property
    def is_whole(self) -> bool:
        """Whether every answer that has begun has ended; of those that were asked for some may never begin."""
        return bool(self._speakers) and all(speaker.has_ended for speaker in self._speakers.values())

    @property
    def patience_seconds(self) -> float | None:
        """For how long, from now, something more is worth waiting for; None: for as long as the answer takes."""
        if not self.is_whole or any(speaker.goes_on for speaker in self._speakers.values()):
            return None
        return TRAILER_SECONDS if len(self._speakers) >= self._choice_count else OTHERS_SECONDS

    def event(self, event: Event) -> ChatCompletionChunk | None:
        """What an event of the stream says; None where that is nothing. Raises ProviderError."""
        data = event.data.strip()
        return self._said(document_of(data, self._refusals)) if data else None

    def whole(self, data: bytes) -> ChatCompletionChunk:
        """What a whole answer says. Raises ProviderError."""
        event = self._said(document_of(data, self._refusals))
        if not self._speakers:
            raise self._refusals.broken("sent an answer without candidates")
        if not self.is_whole:
            raise self._refusals.broken("sent an answer that does not say why it ended")
        return event

    def _said(self, document: Document) -> ChatCompletionChunk:
        try:
            self._check(document)
            return self._chunk(document)
        except (ValueError, TypeError) as error:
            raise self._refusals.broken(f"sent an answer that makes no sense: {error}") from None

    def _check(self, document: Document) -> None:
        """Raises ProviderError where an answer ends because it may not be, or went wrong."""
        blocked = text(inner(document, "promptFeedback"), "blockReason")
        if blocked and not document.get("candidates"):
            said = text(inner(document, "promptFeedback"), "blockReasonMessage")
            sentence = said or f"The prompt was blocked by the provider's content filter: {blocked}."
            raise self._refusals.event({"message": sentence, "type": blocked, "code": "content_filter"})
        for candidate in objects(document, "candidates"):
            reason = text(candidate, "finishReason")
            message = text(candidate, "finishMessage")
            if reason == UNSIGNED_CALL:
                sentence = message or "A function call of an earlier message lacks its thought signature."
                raise self._refusals.event({"message": sentence, "type": "invalid_request_error", "code": reason})
            if reason in FAULTS:
                raise self._refusals.broken(f"ended its answer with {reason}{': ' if message else ''}{message}")

    def _chunk(self, document: Document) -> ChatCompletionChunk:
        self.name = self.name or text(document, "responseId")
        event = ChatCompletionChunk(
            id=self.name or f"chatcmpl-{self._request_id}", created=self._created, model=text(document, "modelVersion")
        )
        for position, candidate in enumerate(objects(document, "candidates")):
            index = index_of(candidate, position)
            speaker = self._speakers.get(index)
            if speaker is None:
                speaker = self._speakers[index] = Speaker(self._request_id, index)
            speaker.put(event.choices.add(index=index), candidate)
        usage = inner(document, "usageMetadata")
        # Until some tokens of the answer are counted it is the prompt's alone, which would be taken for the whole.
        if usage and ("candidatesTokenCount" in usage or any(choice.finish_reason for choice in event.choices)):
            put_usage(event.usage, usage)
        extra = {name: value for name, value in document.items() if name not in KNOWN and value is not None}
        if extra:
            event.extra_json = orjson.dumps(extra).decode()
        return event
