"""What a model says in Converse's blocks, whole or piece by piece, becomes the contract.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlockStart.html and
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlockDelta.html
"""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import Annotation, AnswerMessage

from gateway_core.providers.bedrock.thought import DATA, ENCRYPTED, SIGNED, TEXT

Document = Mapping[str, Any]

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""Others are told in Bedrock's own words."""

SERVERS = "server_tool_use"
"""The type of a call that Bedrock answers itself."""


class Nonsense(ValueError):
    """An answer that is none, and why."""


class Answer:
    """Reads the blocks of one answer, and numbers its calls and its thoughts."""

    def __init__(self) -> None:
        """Begins before the first block."""
        self._call_count = 0
        self._thoughts: dict[int, int] = {}  # by the index of the block
        self._calls: dict[int, int] = {}  # by the index of the block
        self._silent: set[int] = set()  # blocks of calls whose arguments have not come
        self._encrypted: dict[int, bytes] = {}  # by the index of the block

    def block(self, index: int, block: Document) -> AnswerMessage:
        """What a whole block says."""
        said = AnswerMessage()
        if "text" in block:
            said.content = text(block, "text")
        elif "toolUse" in block:
            self._call(said, index, part(block, "toolUse"))
        elif "reasoningContent" in block:
            thought = part(block, "reasoningContent")
            if "reasoningText" in thought:
                told = part(thought, "reasoningText")
                self._thought(said, index, text(told, "text"), told.get("signature"))
            elif "redactedContent" in thought:
                self._encrypted[index] = decoded(thought)
                self._end_encrypted(said, index)
        elif "citationsContent" in block:
            cited = part(block, "citationsContent")
            said.content = "".join(text(each, "text") for each in parts(cited, "content"))
            for citation in parts(cited, "citations"):
                annotate(said, citation)
        return said

    def start(self, index: int, start: Document) -> AnswerMessage:
        """What the beginning of a block says."""
        said = AnswerMessage()
        if "toolUse" in start and part(start, "toolUse").get("type") != SERVERS:
            call = part(start, "toolUse")
            added = said.tool_calls.add(index=self._call_count, id=text(call, "toolUseId"))
            added.function.name = text(call, "name")
            self._calls[index] = self._call_count
            self._silent.add(index)
            self._call_count += 1
        return said

    def delta(self, index: int, delta: Document) -> AnswerMessage:
        """What is added to a block."""
        said = AnswerMessage()
        if "text" in delta:
            said.content = text(delta, "text")
        elif "toolUse" in delta:
            place = self._calls.get(index)
            arguments = text(part(delta, "toolUse"), "input")
            if place is not None and arguments:
                self._silent.discard(index)
                said.tool_calls.add(index=place).function.arguments = arguments
        elif "reasoningContent" in delta:
            thought = part(delta, "reasoningContent")
            if "redactedContent" in thought:
                self._encrypted[index] = self._encrypted.get(index, b"") + decoded(thought)
            elif "signature" in thought or "text" in thought:
                self._thought(said, index, thought.get("text"), thought.get("signature"))
        elif "citation" in delta:
            annotate(said, part(delta, "citation"))
        return said

    def stop(self, index: int) -> AnswerMessage:
        """What the end of a block says: a call without arguments has none, which are JSON too."""
        said = AnswerMessage()
        if index in self._silent:
            self._silent.discard(index)
            said.tool_calls.add(index=self._calls[index]).function.arguments = "{}"
        self._end_encrypted(said, index)
        return said

    def _call(self, said: AnswerMessage, index: int, call: Document) -> None:
        if call.get("type") == SERVERS:
            return
        added = said.tool_calls.add(index=self._call_count, id=text(call, "toolUseId"))
        added.function.name = text(call, "name")
        added.function.arguments = orjson.dumps(call.get("input") or {}).decode()
        self._call_count += 1

    def _thought(self, said: AnswerMessage, index: int, thought: Any, signature: Any) -> None:
        detail = said.reasoning_details.add(type=TEXT, index=self._place(index))
        if thought is not None:
            detail.text = said.reasoning = words(thought)
        if signature is not None:
            detail.signature = words(signature)
            detail.format = SIGNED

    def _end_encrypted(self, said: AnswerMessage, index: int) -> None:
        data = self._encrypted.pop(index, None)
        if data is not None:
            detail = said.reasoning_details.add(type=DATA, index=self._place(index), format=ENCRYPTED)
            detail.data = b64encode(data).decode()

    def _place(self, index: int) -> int:
        """The number of a thought."""
        return self._thoughts.setdefault(index, len(self._thoughts))


def annotate(said: AnswerMessage, citation: Document) -> None:
    """Adds where the text comes from."""
    location = citation.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    if isinstance(web, dict) and isinstance(web.get("url"), str):
        added: Annotation = said.annotations.add()
        title = citation.get("title")
        added.url_citation.url = web["url"]
        added.url_citation.title = title if isinstance(title, str) else ""
    else:
        said.annotations.add(other_json=orjson.dumps({"type": "citation", "citation": dict(citation)}).decode())


def finish_reason(reason: str) -> str:
    """Why an answer ended, in the contract's words."""
    return FINISH_REASONS.get(reason, reason)


def decoded(thought: Document) -> bytes:
    """Encrypted reasoning."""
    try:
        return b64decode(text(thought, "redactedContent"), validate=True)
    except Error:
        raise Nonsense("its encrypted reasoning is not base64") from None


def part(document: Document, name: str) -> Document:
    """An object in an object."""
    value = document.get(name)
    if not isinstance(value, dict):
        raise Nonsense(f"{name} is not an object")
    return value


def parts(document: Document, name: str) -> list[Document]:
    """A list of objects in an object; empty where there is none."""
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Nonsense(f"{name} is not a list of objects")
    return value


def text(document: Document, name: str) -> str:
    """A text in an object."""
    return words(document.get(name))


def words(value: Any) -> str:
    """A text that can be written again: JSON may hold half of a surrogate pair."""
    if not isinstance(value, str):
        raise Nonsense("a text is missing")
    return value
