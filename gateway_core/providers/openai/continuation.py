"""Chunks that differ from the one before in their delta only, as nearly all of a stream do: read in half the time."""

import re
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.providers.openai.answer import MESSAGE
from gateway_core.providers.openai.reading import read
from gateway_core.providers.openai.stencil import MARK, OTHER_MARK, PLAIN_PADDING, Stencil, stencil_of

PADDING = "obfuscation"
"""Another text in every chunk of OpenAI's, so that nobody sees from the sizes of packets what is said; it says nothing.

OpenAI's API reference, "stream_options.include_obfuscation".
"""

LIKE_A_WORD = re.compile(r"[!#-\[\]-~]*")
"""A padding that can be told from others again, with spaces between them: as OpenAI's are."""


CHARACTERS_AT_MOST = 2048
"""Of a text in pieces, nearly: a reader that is slow holds one chunk after the other, and not what a read brought."""


class Run:
    """Pieces of a text that follow one another."""

    __slots__ = ("_around", "_paddings", "_texts", "characters")

    def __init__(self, around: ChatCompletionChunk) -> None:
        """Takes what is around all of them."""
        self._around = around
        self._texts: list[str] = []
        self._paddings: list[str] = []
        self.characters = 0
        """Of the pieces so far."""

    def add(self, text: str, padding: str | None) -> None:
        """Takes the next piece, and the padding of its chunk."""
        self._texts.append(text)
        self.characters += len(text)
        if padding is not None:
            self._paddings.append(padding)

    def chunk(self) -> ChatCompletionChunk:
        """The pieces as one."""
        texts = self._texts
        event = ChatCompletionChunk()
        event.CopyFrom(self._around)
        if len(texts) == 1:
            event.choices[0].delta.content = texts[0]
        else:
            event.choices[0].delta.content = "".join(texts)
            event.piece_lengths.extend(map(len, texts))
        if self._paddings:
            event.extra_json = padded(event.extra_json, " ".join(self._paddings))
        return event


class Continuation:
    """The last chunk of a stream, and those that continue it."""

    def __init__(self) -> None:
        """Begins before the first chunk."""
        self._document: Any = None  # the last that was read in full, without its delta and padding
        self._event: ChatCompletionChunk | None = None  # what it was read into
        self._is_bare = False  # whether that is a copy of our own without what its delta and padding said
        self._is_padded = self._may_go_on = False
        self._stencil: Stencil | None = None
        self._is_tried = False  # whether one was looked for
        self.padding: str | None = None
        """Of the chunk that was looked at last."""

    def text(self, data: bytes) -> str | None:
        """The text of a chunk that continues the last one, and no more, by what is around it. None: it must be read."""
        stencil = self._stencil
        if stencil is None:
            return None
        before, between, after = stencil
        if not data.startswith(before) or not data.endswith(after):
            return None
        literal = data[len(before) : -len(after)]
        if between is not None:
            literal, found, padding = literal.rpartition(between)
            if not found or PLAIN_PADDING.fullmatch(padding) is None:
                return None
            self.padding = padding.decode()
        try:
            text = orjson.loads(literal)
        except orjson.JSONDecodeError:
            return None
        # One that is empty, or no text, is read as any other chunk.
        return text if type(text) is str and text else None

    def learn(self, data: bytes) -> None:
        """Takes the octets of the chunk that was looked at last, which said a text and no more."""
        if self._is_tried:
            return
        self._is_tried = True
        found = stencil_of(data, has_padding=self._is_padded)
        if found is None:
            return
        made, document = found
        choice = lone_choice(document)
        if choice is None or choice["delta"] != {"content": MARK}:
            return
        choice["delta"] = None
        if taken_padding(document) == (OTHER_MARK if self._is_padded else None) and document == self._document:
            self._stencil = made

    def event(self, document: Any) -> ChatCompletionChunk | str | None:
        """What a chunk says that continues the last one; None where any other has to be read, and given to `keep`.

        A text is all that it adds to the answer's text and nothing else, of which `chunk` makes an event.
        """
        choice = lone_choice(document)
        if choice is None or self._event is None:
            return None
        delta, choice["delta"] = choice["delta"], None
        padding = taken_padding(document)
        if document != self._document:
            choice["delta"] = delta
            if padding is not None:
                document[PADDING] = padding
            return None
        self.padding = padding
        was_padded, self._is_padded = self._is_padded, padding is not None
        if self._is_padded is not was_padded:
            self._stencil, self._is_tried = None, False
        if len(delta) != 1 or not self._may_go_on or self._is_padded is not was_padded:  # a run has paddings, or none
            return self.chunk(delta)
        text = delta.get("content")
        if type(text) is str and text and (padding is None or LIKE_A_WORD.fullmatch(padding)):
            return text
        return self.chunk(delta)

    def run(self) -> Run:
        """What the text of the chunk that was looked at last begins."""
        return Run(self._around())

    def chunk(self, delta: Any) -> ChatCompletionChunk:
        """The event of the chunk that was looked at last; takes its delta, or its text."""
        event = ChatCompletionChunk()
        event.CopyFrom(self._around())
        if type(delta) is str:
            event.choices[0].delta.content = delta
        else:
            read(delta, event.choices[0].delta, MESSAGE)
        if self.padding is not None:
            event.extra_json = padded(event.extra_json, self.padding)
        return event

    def _around(self) -> ChatCompletionChunk:
        assert self._event is not None, "a chunk was read that continues it"
        if not self._is_bare:
            self._event = bare(self._event)
            self._is_bare = True
        return self._event

    def keep(self, document: Any, event: ChatCompletionChunk) -> None:
        """Takes what a chunk was read into, for those that continue it."""
        choice = lone_choice(document)
        self._event = self._stencil = None
        self._is_tried = False
        if choice is not None:
            choice["delta"] = None
            self._is_padded = taken_padding(document) is not None
            self._document, self._event, self._is_bare = document, event, False
            said = event.choices[0]
            says_more = said.finish_reason or said.HasField("logprobs") or said.extra_json or event.HasField("usage")
            self._may_go_on = not says_more


def lone_choice(document: Any) -> dict[str, Any] | None:
    """The only choice of a decoded chunk, which says something by its delta alone; None where there is no such one."""
    choices = document.get("choices") if type(document) is dict else None
    if type(choices) is not list or len(choices) != 1:
        return None
    choice = choices[0]
    if type(choice) is not dict or type(choice.get("delta")) is not dict or "message" in choice:
        return None
    return choice


def taken_padding(document: dict[str, Any]) -> str | None:
    """The padding of a chunk, without which it is left. None: it has none; one that is no text is a field as others."""
    padding = document.get(PADDING)
    if type(padding) is not str:
        return None
    del document[PADDING]
    return padding


def bare(event: ChatCompletionChunk) -> ChatCompletionChunk:
    """A chunk without what its delta says."""
    copy = ChatCompletionChunk()
    copy.CopyFrom(event)
    copy.choices[0].ClearField("delta")
    copy.choices[0].delta.SetInParent()
    if PADDING in copy.extra_json:
        extra = orjson.loads(copy.extra_json)
        taken_padding(extra)
        copy.extra_json = orjson.dumps(extra).decode() if extra else ""
    return copy


def padded(extra_json: str, padding: str) -> str:
    """The fields that have no place in a chunk, with its padding."""
    extra = orjson.loads(extra_json) if extra_json else {}
    extra[PADDING] = padding
    return orjson.dumps(extra).decode()
