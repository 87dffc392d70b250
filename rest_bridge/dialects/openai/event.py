"""The events of a stream: those that most chunks become are written without taking the chunk apart."""

from collections.abc import Iterable

import orjson
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk

from rest_bridge.dialects.openai.answer import Document
from rest_bridge.dialects.openai.response import ChunkWriter
from rest_bridge.pieces import OBFUSCATION, apart, paddings_of, pieces
from rest_bridge.sse import events

CONTENT = AnswerMessage.DESCRIPTOR.fields_by_name["content"]
ROLE = AnswerMessage.DESCRIPTOR.fields_by_name["role"]

fields_of = AnswerMessage.ListFields  # a message looks for a field of that name first

NOTHING = b'""'
"""An empty text: what a piece of text is put in place of."""
END = b"}\n\n"
"""How every event ends."""


class EventWriter:
    """Writes the chunks of one stream as server-sent events.

    From one piece of text to the next, nothing but the text changes. So the event around it is kept, and used for as
    long as what is around it in the chunks stays the same.
    """

    def __init__(self, chunks: ChunkWriter) -> None:
        """Takes what says which documents there are."""
        self._chunks = chunks
        self._around: tuple[object, ...] = ()
        self._before = b""
        self._after = b""

    def write(self, chunk: ChatCompletionChunk) -> bytes:
        """The events to send for a chunk."""
        extra = chunk.extra_json
        padding = OBFUSCATION.fullmatch(extra) if extra else None
        found = plain_text(chunk) if padding or not extra else None
        if found is None or found[0] not in self._chunks.spoken:
            if chunk.piece_lengths:
                first, *rest = apart(chunk)
                if rest:
                    return b"".join([framed(self._chunks.write(first)), *map(self.write, rest)])
            return framed(self._chunks.write(chunk))
        index, text = found
        around = (
            index,
            chunk.id,
            chunk.created,
            chunk.model,
            chunk.service_tier or "service_tier" in chunk,
            chunk.system_fingerprint or "system_fingerprint" in chunk,
        )
        if around != self._around:
            self._keep(chunk)
            self._around = around
        before, after = self._before, self._after
        lengths = chunk.piece_lengths
        if padding is None and not lengths:
            return before + orjson.dumps(text) + after
        texts = pieces(text, lengths) if lengths else [text]
        if padding is None:
            return before + (after + before).join(map(orjson.dumps, texts)) + after
        paddings = paddings_of(padding[1], len(texts))
        if paddings is None:
            texts, paddings = [text], [padding[1]]
        begun = after.removesuffix(END) + b',"obfuscation":"'
        written = [
            before + orjson.dumps(text) + begun + padding.encode() + b'"' + END
            for text, padding in zip(texts, paddings, strict=True)
        ]
        return b"".join(written)

    def finish(self) -> bytes:
        """The events to send when the stream has ended well."""
        return framed(self._chunks.finish())

    def _keep(self, chunk: ChatCompletionChunk) -> None:
        (document,) = self._chunks.write(chunk)
        document.pop("obfuscation", None)
        document["choices"][0]["delta"]["content"] = ""
        # Behind the content are constants only: no text that could be empty.
        self._before, _, self._after = framed([document]).rpartition(NOTHING)


def plain_text(chunk: ChatCompletionChunk) -> tuple[int, str] | None:
    """The position of a choice and what a chunk adds to its text; None for a chunk that says more, or nothing.

    The chunk's unknown fields do not count.
    """
    choices = chunk.choices
    if len(choices) != 1 or "usage" in chunk:
        return None
    choice = choices[0]
    if "finish_reason" in choice or "logprobs" in choice or choice.extra_json:
        return None
    text = ""
    for field, value in fields_of(choice.delta):
        if field is CONTENT:
            text = value
        elif field is not ROLE:
            return None
    return (choice.index, text) if text else None


def framed(documents: Iterable[Document]) -> bytes:
    """The events that carry documents."""
    return events(map(orjson.dumps, documents))
