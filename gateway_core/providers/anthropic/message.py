"""What the assistant said in earlier turns, and what tools answered: the contract becomes Anthropic's content blocks.

Sources: https://platform.claude.com/docs/en/api/messages/create (ContentBlockParam),
https://platform.claude.com/docs/en/build-with-claude/extended-thinking (thinking blocks go back as they came).
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson
from headgate.v1.message_pb2 import ChatMessage, ReasoningDetail, ToolCall

from gateway_core.providers.anthropic.carried import Carried
from gateway_core.providers.anthropic.content import blocks, text_blocks
from gateway_core.upstream.json_text import Document, given_arguments, json_object

REASONING_FORMAT = "anthropic-claude-v1"
"""The format of signed reasoning, as OpenRouter calls it too; what other vendors signed would be refused."""

CONTENT = "anthropic_content"
"""The unknown field in which blocks that the contract has no place for travel, by their position."""

UNSIGNED = "the provider {} takes reasoning back only as it signed it"

FUNCTION_CALL_ID = "call_function"
"""What a call in the form before tools is named, which had no name."""

Placed = tuple[int | None, Document]
"""A block, and its position among those of the answer where that is known."""


def assistant_blocks(message: ChatMessage, carried: Carried, path: str) -> list[Any]:
    """What the assistant said, in the order in which it did, as far as that is known."""
    extra = dict(json_object(message.extra_json, f"{path}.extra_json")) if message.extra_json else {}
    kept = list(reasoning_blocks(message, carried, path))
    kept += sorted(carried_blocks(extra.pop(CONTENT, None)), key=lambda item: item[0] or 0)
    said = blocks(message, carried, path)
    if not said and message.refusal:
        said = text_blocks(message.refusal)
    for index, call in enumerate(message.tool_calls):
        said += tool_use(call, carried, f"{path}.tool_calls[{index}]")
    if message.HasField("function_call"):
        called = message.function_call
        said.append(use(FUNCTION_CALL_ID, called.name, called.arguments))
    if message.HasField("audio"):
        carried.forget(f"{path}.audio")
    found = in_order(kept, said)
    if found and extra:
        carried.recall(found[-1], orjson.dumps(extra).decode(), path)
    return found


def in_order(kept: list[Placed], said: list[Any]) -> list[Any]:
    """Blocks at their positions, and the others, in order, where they leave room."""
    placed = {position: block for position, block in kept if position is not None}
    found: list[Any] = [block for position, block in kept if position is None]
    rest = iter(said)
    for position in range(max(placed, default=-1) + 1):
        block = placed.get(position) or next(rest, None)
        if block is not None:
            found.append(block)
    return [*found, *rest]


def mark(block: Document, extra: Document, carried: Carried, path: str) -> None:
    """Puts the unknown fields of a message where they belong: a mark for the cache on its last block."""
    if extra:
        carried.merge(block, orjson.dumps(extra).decode(), path)


def reasoning_blocks(message: ChatMessage, carried: Carried, path: str) -> Iterator[Placed]:
    """What the assistant thought, as it was signed; what was not signed here is left out."""
    is_signed = False
    for detail in message.reasoning_details:
        block = reasoning_block(detail)
        if block is not None:
            is_signed = True
            yield (detail.index if detail.HasField("index") and 0 <= detail.index < 1000 else None), block
    if not is_signed and (message.reasoning or message.reasoning_details):
        carried.forget(f"{path}.reasoning", UNSIGNED)


def reasoning_block(detail: ReasoningDetail) -> Document | None:
    """A piece of reasoning as it is taken back; None where it is not this provider's."""
    if detail.format != REASONING_FORMAT:
        return None
    if detail.type == "reasoning.encrypted" and detail.data:
        return {"type": "redacted_thinking", "data": detail.data}
    if detail.type == "reasoning.text" and detail.signature:
        return {"type": "thinking", "thinking": detail.text, "signature": detail.signature}
    return None


def carried_blocks(carried: Any) -> Iterator[Placed]:
    """Blocks of an earlier answer that travelled as they are: what the provider's own tools were asked and answered."""
    if isinstance(carried, dict):
        for position, block in carried.items():
            if isinstance(block, dict) and re.fullmatch(r"\d{1,3}", position):
                yield int(position), block


def tool_use(call: ToolCall, carried: Carried, path: str) -> list[Any]:
    """A call of a tool, in a list; an empty list where it is of a kind that this format does not know."""
    match call.WhichOneof("call"):
        case "function":
            found = [use(tool_id(call.id), call.function.name, call.function.arguments)]
        case "custom":
            found = [use(tool_id(call.id), call.custom.name, orjson.dumps({"input": call.custom.input}).decode())]
        case "other_json":
            found = carried.whole(call.other_json, path)
        case _:
            found = []
    for block in found:
        carried.recall(block, call.extra_json, path)
    return found


def use(identity: str, name: str, arguments: str) -> Document:
    """A call of a tool; arguments that are no JSON object are sent as the documents say, so that the turn can go on."""
    return {"type": "tool_use", "id": identity, "name": name, "input": given_arguments(arguments)}


def tool_id(identity: str) -> str:
    """The id of a call, with the characters that are taken: other vendors' ids have more."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", identity) or FUNCTION_CALL_ID


def tool_result(message: ChatMessage, carried: Carried, path: str) -> Document:
    """What a tool answered."""
    found = blocks(message, carried, path)
    block: Document = {"type": "tool_result", "tool_use_id": tool_id(message.tool_call_id)}
    if found:
        block["content"] = plain(found)
    return carried.merge(block, message.extra_json, path)


def plain(found: list[Any]) -> Any:
    """Content: a text alone as a string, which says the same."""
    if len(found) == 1 and found[0].keys() == {"type", "text"} and found[0]["type"] == "text":
        return found[0]["text"]
    return found
