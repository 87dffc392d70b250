"""What a host's answer says, event by event, and whether it is whole."""

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import structlog
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.errors import ProviderError
from gateway_core.providers.openai.chunk import chunk
from gateway_core.providers.openai.continuation import CHARACTERS_AT_MOST, Continuation, Run
from gateway_core.providers.openai.place import Places
from gateway_core.providers.openai.plain import FAILED
from gateway_core.providers.openai.plain_chunk import plain_chunk
from gateway_core.upstream.depth import value_within
from gateway_core.upstream.document import document_of
from gateway_core.upstream.json_text import Document
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import MESSAGE, Event

DONE = b"[DONE]"

OBJECT = ord("{")

NO_WORD = re.compile(rb'[][{}"\\]|[^ -~]')
"""What any piece of a chunk has, or no word: what has none of it keeps the connection, such as "ping"."""

WORD_AT_MOST = 100
"""Bytes of such a word."""

LOG = structlog.get_logger("headgate.provider")

CALLS = b"_call"
"""In every answer that calls a tool, or a function."""

# Seconds to wait for the end of the body once the host has said that nothing more comes: a connection whose answer was
# read to its end can be used again.
END_SECONDS = 0.1

# Seconds to wait for what may follow once all answers have ended and the usage is known …
TRAILER_SECONDS = 1.0

# … and for the usage where it is not.
USAGE_SECONDS = 10.0


class Decoder:
    """Decodes one answer, whole or streamed."""

    def __init__(
        self, refusals: Refusals, request_id: str, choice_count: int, *, tells_finish_reason: bool = True
    ) -> None:
        """Takes what makes the errors, what an answer without an id is named after, and how many answers are asked.

        tells_finish_reason: whether the host tells of each answer why it ended, so that one without has not ended.
        """
        self._refusals = refusals
        self._id = ""
        self._own_id = f"chatcmpl-{request_id}"
        self._choice_count = choice_count
        self._tells_finish_reason = tells_finish_reason
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._places = Places()
        self._continuation = Continuation()
        self.is_done = False
        """Whether the host said that nothing more comes."""
        self._has_usage = False
        self.joins_pieces = True
        """Whether pieces of a text that arrive together are one chunk."""

    @property
    def is_whole(self) -> bool:
        """Whether as many answers have ended as were asked for, and every one that has begun."""
        return len(self._ended) >= self._choice_count and not self._open

    @property
    def is_empty(self) -> bool:
        """Whether no answer has begun."""
        return not self._open and not self._ended

    @property
    def patience_seconds(self) -> float | None:
        """For how long, from now, something more is worth waiting for; None: for as long as the answer takes."""
        if self.is_done:
            return END_SECONDS
        if not self.is_whole:
            return None
        return TRAILER_SECONDS if self._has_usage else USAGE_SECONDS

    def event(self, event: Event) -> ChatCompletionChunk | None:
        """What an event of the stream says; None where that is nothing. Raises ProviderError."""
        text = self._continuation.text(event.data) if event.name == MESSAGE else None
        said = self._heard(event) if text is None else text
        return self._continuation.chunk(said) if isinstance(said, str) else said

    def together(self, events: Iterable[Event]) -> Iterator[ChatCompletionChunk]:
        """What events say that arrived together: pieces of a text that follow one another are one.

        Up to the event that says that nothing more comes. Raises ProviderError behind what was said before it.
        """
        open_: list[Run] = []
        try:
            yield from self._together(events, open_)
        except ProviderError:
            for run in open_:
                yield run.chunk()
            raise

    def _together(self, events: Iterable[Event], open_: list[Run]) -> Iterator[ChatCompletionChunk]:
        """Likewise; the text that is being put together is in a list, for whoever is told of a fault."""
        most = CHARACTERS_AT_MOST if self.joins_pieces else 0
        text_of = self._continuation.text
        for event in events:
            if self.is_done:
                break
            text = text_of(event[1]) if event[0] == MESSAGE else None
            said = self._heard(event) if text is None else text
            if isinstance(said, str):
                if not open_:
                    open_.append(self._continuation.run())
                open_[0].add(said, self._continuation.padding)
                if open_[0].characters < most:
                    continue
            if open_:
                yield open_.pop().chunk()
            if said is not None and not isinstance(said, str):
                yield said
        if open_:
            yield open_.pop().chunk()

    def _heard(self, event: Event) -> ChatCompletionChunk | str | None:
        """What an event says; a text where it continues the last one and says no more."""
        name, data = event
        data = data.strip()
        if data == DONE:
            if self._open and self._tells_finish_reason:
                # Hosts exist that say so of whatever they have, when they stop or lose the model.
                raise self._refusals.broken("ended its answer without a finish reason")
            self.is_done = True
            return None
        if not data:
            return None
        if name == "error":
            raise self._refusals.event(self._error(data))
        if data[0] != OBJECT and is_word(data):
            return None
        if self._ended and self._is_passed_over(data):
            return None
        document = document_of(data, self._refusals)
        if data.find(CALLS) >= 0:
            self._places.number(document)
        said = self._continuation.event(document)
        if said is None:
            said = self._said(document)
            self._continuation.keep(document, said)
        elif isinstance(said, str):
            self._continuation.learn(data)
        return said

    def whole(self, data: bytes) -> ChatCompletionChunk:
        """What a whole answer says, of whatever shape. Raises ProviderError."""
        document = document_of(data, self._refusals)
        if data.find(CALLS) >= 0:
            self._places.number(document)
        event = self._said(document)
        if not event.choices:
            raise self._refusals.broken("sent an answer without choices")
        for choice in event.choices:
            if not choice.HasField("delta"):
                raise self._refusals.broken("sent an answer without a message")
        return event

    def _is_passed_over(self, data: bytes) -> bool:
        """Whether an event that is no JSON comes behind the ends of all answers, so that none loses anything by it."""
        if not self.is_whole:
            return False
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            LOG.warning("event_passed_over", provider=self._refusals.name, size=len(data))
            return True
        return False

    def _said(self, document: Document) -> ChatCompletionChunk:
        try:
            event = plain_chunk(document) or chunk(document)
        except (ValueError, TypeError) as error:
            raise self._refusals.broken(f"sent an answer that makes no sense: {error}") from None
        self._identify(event)
        for choice in event.choices:
            index = choice.index
            if choice.finish_reason:
                if choice.finish_reason in FAILED:
                    raise self._failure(document)
                self._open.discard(index)
                self._ended.add(index)
            elif index not in self._ended:
                self._open.add(index)
        if event.HasField("usage"):
            self._has_usage = True
        return event

    def _identify(self, event: ChatCompletionChunk) -> None:
        """Sees to it that all chunks have one id, and a time."""
        if event.id:
            self._id = event.id
        elif event.choices or self._id:
            self._id = event.id = self._id or self._own_id
        if not event.created and event.choices:
            event.created = int(time.time())

    def _failure(self, document: Document) -> ProviderError:
        """Why an answer ended with an error, as far as the choice tells."""
        errors = [choice["error"] for choice in document["choices"] if choice.get("error")]
        return self._refusals.event(errors[0]) if errors else self._refusals.broken("ended its answer with an error")

    def _error(self, data: bytes) -> Any:
        try:
            document = value_within(data)
        except ValueError:
            return data.decode(errors="replace")
        return document.get("error", document) if isinstance(document, dict) else document


def is_word(data: bytes) -> bool:
    """Whether an event cannot be a chunk, nor a piece of one."""
    return len(data) <= WORD_AT_MOST and NO_WORD.search(data) is None
