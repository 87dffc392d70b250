"""What Bedrock's answer says, message by message, and whether it is whole.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from collections.abc import Callable

import orjson
from headgate.v1 import message_pb2
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk

from gateway_core.providers.bedrock.answer import Answer, Document, Nonsense, finish_reason, part, parts, text
from gateway_core.providers.bedrock.usage import usage
from gateway_core.upstream.document import document_of
from gateway_core.upstream.event_stream import Message
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.stream import OneByOne

# Seconds to wait for the end of the body once nothing more comes, so that the connection can be used again …
END_SECONDS = 0.1

# … and for the usage where the answer has ended.
USAGE_SECONDS = 10.0

CARRIED = ("additionalModelResponseFields", "metrics", "trace", "performanceConfig")
"""What is told beside the answer: kept as it is, in this order."""

INDEX_AT_MOST = 2**31


class Decoder(OneByOne[Message]):
    """Decodes one answer, whole or streamed."""

    def __init__(self, refusals: Refusals, request_id: str, model: str, created: int) -> None:
        """Takes what makes the errors, and what Bedrock does not tell: its name, its model and its time.

        The time is in seconds since 1970-01-01 UTC.
        """
        self._refusals = refusals
        self._id = f"chatcmpl-{request_id}"
        self._model = model
        self._created = created
        self._answer = Answer()
        self._has_begun = False
        self._has_usage = False
        self.is_whole = False
        """Whether the answer has ended."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more comes: the usage is the last that does."""
        return self.is_whole and self._has_usage

    @property
    def is_empty(self) -> bool:
        """Whether no answer has begun."""
        return not self._has_begun

    @property
    def patience_seconds(self) -> float | None:
        """For how long, from now, something more is worth waiting for; None: for as long as the answer takes."""
        if self.is_done:
            return END_SECONDS
        return USAGE_SECONDS if self.is_whole else None

    def event(self, message: Message) -> ChatCompletionChunk | None:
        """What a message of the stream says; None where that is nothing. Raises ProviderError."""
        headers = message.headers
        kind = headers.get(":message-type")
        if kind == "error":
            told = {"message": headers.get(":error-message", ""), "type": headers.get(":error-code", "")}
            raise self._refusals.event(told)
        if kind == "exception":
            raise self._refusals.event(exception(headers.get(":exception-type", ""), message.payload))
        read = EVENTS.get(headers.get(":event-type", ""))
        if read is None:
            return None
        document = document_of(message.payload, self._refusals)
        try:
            return read(self, document)
        except (ValueError, TypeError) as error:
            raise self._nonsense(error) from None

    def whole(self, data: bytes) -> ChatCompletionChunk:
        """What a whole answer says. Raises ProviderError."""
        document = document_of(data, self._refusals)
        try:
            return self._whole(document)
        except (ValueError, TypeError) as error:
            raise self._nonsense(error) from None

    def _whole(self, document: Document) -> ChatCompletionChunk:
        message = part(part(document, "output"), "message")
        said = AnswerMessage(role=message_pb2.ROLE_ASSISTANT)
        content = ""
        for index, block in enumerate(parts(message, "content")):
            added = self._answer.block(index, block)
            content += added.content
            reasoning = said.reasoning + added.reasoning
            has_text = said.HasField("content") or added.HasField("content")
            is_thought = said.HasField("reasoning") or added.HasField("reasoning")
            said.MergeFrom(added)
            if has_text:
                said.content = content
            if is_thought:
                said.reasoning = reasoning
        event = self._said(said)
        event.choices[0].finish_reason = finish_reason(text(document, "stopReason"))
        self._tell(event, document)
        return event

    def _begin(self, _: Document) -> ChatCompletionChunk:
        return self._said(AnswerMessage(role=message_pb2.ROLE_ASSISTANT))

    def _start(self, document: Document) -> ChatCompletionChunk | None:
        return self._spoken(self._answer.start(place(document), part(document, "start")))

    def _delta(self, document: Document) -> ChatCompletionChunk | None:
        return self._spoken(self._answer.delta(place(document), part(document, "delta")))

    def _stop(self, document: Document) -> ChatCompletionChunk | None:
        return self._spoken(self._answer.stop(place(document)))

    def _end(self, document: Document) -> ChatCompletionChunk:
        event = self._said(AnswerMessage())
        event.choices[0].finish_reason = finish_reason(text(document, "stopReason"))
        self._tell(event, document)
        self.is_whole = True
        return event

    def _metadata(self, document: Document) -> ChatCompletionChunk:
        event = ChatCompletionChunk(id=self._id, created=self._created, model=self._model)
        self._tell(event, document)
        return event

    def _spoken(self, said: AnswerMessage) -> ChatCompletionChunk | None:
        """What was said, if it was anything."""
        return self._said(said) if said.ByteSize() else None

    def _said(self, said: AnswerMessage) -> ChatCompletionChunk:
        self._has_begun = True
        event = ChatCompletionChunk(id=self._id, created=self._created, model=self._model)
        event.choices.add(delta=said)
        return event

    def _tell(self, event: ChatCompletionChunk, document: Document) -> None:
        """Puts in what is told beside the answer."""
        if document.get("usage") is not None:
            event.usage.CopyFrom(usage(part(document, "usage")))
            self._has_usage = True
        if document.get("serviceTier") is not None:
            event.service_tier = text(part(document, "serviceTier"), "type")
        extra = {name: document[name] for name in CARRIED if document.get(name) is not None}
        if extra:
            event.extra_json = orjson.dumps(extra).decode()

    def _nonsense(self, error: Exception) -> Exception:
        why = str(error) if isinstance(error, Nonsense) else "a field has a value that cannot be"
        return self._refusals.broken(f"sent an answer that makes no sense: {why}")


EVENTS: dict[str, Callable[[Decoder, Document], ChatCompletionChunk | None]] = {
    "messageStart": Decoder._begin,
    "contentBlockStart": Decoder._start,
    "contentBlockDelta": Decoder._delta,
    "contentBlockStop": Decoder._stop,
    "messageStop": Decoder._end,
    "metadata": Decoder._metadata,
}
"""Events of other types say nothing that is known."""


def place(document: Document) -> int:
    """The index of the block that an event is about."""
    index = document.get("contentBlockIndex")
    if type(index) is not int or not 0 <= index < INDEX_AT_MOST:
        raise Nonsense("contentBlockIndex is not a number")
    return index


def exception(kind: str, payload: bytes) -> dict[str, str]:
    """What a failure in a stream tells, as the table of refusals wants it."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        document = None
    told = document if isinstance(document, dict) else {}
    message = next((told[name] for name in ("message", "Message", "originalMessage") if told.get(name)), "")
    return {"message": message if isinstance(message, str) else "", "type": kind}
