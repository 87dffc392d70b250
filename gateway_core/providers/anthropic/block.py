"""Content blocks of an answer, whole or piece by piece, become the contract's messages.

Sources: https://platform.claude.com/docs/en/api/messages/create (ContentBlock),
https://platform.claude.com/docs/en/build-with-claude/streaming (content_block_start, …_delta, …_stop).
"""

from dataclasses import dataclass, field
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import Annotation, AnswerMessage

from gateway_core.providers.anthropic.message import CONTENT, REASONING_FORMAT
from gateway_core.upstream.depth import value_within

TOOL_USES = frozenset({"tool_use"})
PLACED_IN_TEXT = "web_search_result_location"


@dataclass(slots=True)
class Block:
    """A block that has begun."""

    index: int
    kind: str
    document: dict[str, Any]
    tool_index: int = 0
    """Which call of a tool it is."""
    start: int = 0
    """Characters of text before it."""
    has_input: bool = False
    """Whether a piece of its input has come."""
    pieces: list[str] = field(default_factory=list)
    """Of its input, in JSON, where it is told at its end only."""
    citations: list[Any] = field(default_factory=list)


class Blocks:
    """The blocks of one answer. Raises ValueError for what makes no sense."""

    def __init__(self) -> None:
        """Starts without blocks."""
        self._open: dict[int, Block] = {}
        self._tool_count = 0
        self._text_length = 0
        self.cited = AnswerMessage()
        """Where the texts of blocks that have ended come from: told at the end, as OpenAI does."""

    @property
    def is_any_open(self) -> bool:
        """Whether a block has begun and not ended."""
        return bool(self._open)

    def start(self, index: Any, document: Any) -> AnswerMessage:
        """What the beginning of a block says; of a block that came whole, all but its end."""
        place, kind = whole(index), word(document, "type")
        block = self._open[place] = Block(place, kind, document, start=self._text_length)
        said = AnswerMessage()
        if kind == "text":
            self._say(said, word(document, "text"))
            block.citations += listed(document.get("citations"))
        elif kind == "thinking":
            think(said, block, word(document, "thinking"))
            # Only the first piece tells the format: OpenAI's SDK joins the texts of pieces that share an index.
            said.reasoning_details[0].format = REASONING_FORMAT
            if document.get("signature"):
                said.reasoning_details[0].signature = word(document, "signature")
        elif kind == "redacted_thinking":
            said.reasoning_details.add(
                type="reasoning.encrypted", index=place, format=REASONING_FORMAT, data=word(document, "data")
            )
        elif kind in TOOL_USES:
            block.tool_index, self._tool_count = self._tool_count, self._tool_count + 1
            call = said.tool_calls.add(index=block.tool_index, id=word(document, "id"))
            call.function.name = word(document, "name")
            call.function.arguments = ""
        return said

    def add(self, index: Any, delta: Any) -> AnswerMessage:
        """What a piece of a block says; deltas of kinds that are not known say nothing."""
        block = self._open.get(whole(index))
        if block is None:
            raise ValueError("it adds to a block that has not begun")
        said = AnswerMessage()
        match word(delta, "type"):
            case "text_delta":
                self._say(said, word(delta, "text"))
            case "thinking_delta":
                think(said, block, word(delta, "thinking"))
            case "signature_delta":
                if signature := word(delta, "signature"):
                    said.reasoning_details.add(type="reasoning.text", index=block.index, signature=signature)
            case "input_json_delta":
                piece = word(delta, "partial_json")
                block.has_input |= bool(piece)
                if block.kind not in TOOL_USES:
                    block.pieces.append(piece)
                elif piece:
                    said.tool_calls.add(index=block.tool_index).function.arguments = piece
            case "citations_delta":
                block.citations.append(delta.get("citation"))
        return said

    def stop(self, index: Any) -> AnswerMessage:
        """What the end of a block says: what was to be told once the block is known."""
        block = self._open.pop(whole(index), None)
        if block is None:
            raise ValueError("it ends a block that has not begun")
        said = AnswerMessage()
        if block.kind in TOOL_USES:
            if not block.has_input:
                arguments = orjson.dumps(mapping(block.document.get("input") or {})).decode()
                said.tool_calls.add(index=block.tool_index).function.arguments = arguments
        elif block.kind == "text":
            for citation in block.citations:
                cite(self.cited, citation, block.start, self._text_length)
        elif block.kind not in ("thinking", "redacted_thinking"):
            said.extra_json = orjson.dumps({CONTENT: {str(block.index): finished(block)}}).decode()
        return said

    def _say(self, said: AnswerMessage, text: str) -> None:
        if text:
            said.content = text
            self._text_length += len(text)


def think(said: AnswerMessage, block: Block, text: str) -> None:
    """Puts in a piece of reasoning, for people to read and for the provider to get back."""
    if text:
        said.reasoning = text
    said.reasoning_details.add(type="reasoning.text", index=block.index, text=text)


def finished(block: Block) -> dict[str, Any]:
    """A block of another kind, with the input that came in pieces."""
    text = "".join(block.pieces)
    return {**block.document, "input": value_within(text)} if text else block.document


def cite(said: AnswerMessage, citation: Any, start: int, end: int) -> None:
    """Puts in where a text comes from; what is no page of the web is carried as it is."""
    rest = dict(mapping(citation))
    annotation: Annotation = said.annotations.add()
    if rest.get("type") != PLACED_IN_TEXT or type(rest.get("url")) is not str:
        annotation.other_json = orjson.dumps(rest).decode()
        return
    del rest["type"]
    page = annotation.url_citation
    page.url, page.start_index, page.end_index = rest.pop("url"), start, end
    title = rest.pop("title", None)
    if type(title) is str:
        page.title = title
    if rest:
        page.extra_json = orjson.dumps(rest).decode()


def word(document: Any, name: str) -> str:
    """A text of an object; raises ValueError where it is none."""
    value = mapping(document).get(name)
    if type(value) is not str:
        raise ValueError(f"a {name} is not a text")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """An object; raises ValueError where it is none."""
    if type(value) is not dict:
        raise ValueError("something is not a JSON object")
    return value


def listed(value: Any) -> list[Any]:
    """A list, empty where it is null; raises ValueError where it is none."""
    if value is not None and type(value) is not list:
        raise ValueError("something is not a list")
    return value or []


def whole(value: Any) -> int:
    """The position of a block; raises ValueError where it is none."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("the position of a block is not a number")
    return value
