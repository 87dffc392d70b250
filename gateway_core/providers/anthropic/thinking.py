"""How much to think: the contract's effort becomes what each model is told, in words or in tokens.

Sources: https://platform.claude.com/docs/en/build-with-claude/thinking, …/adaptive-thinking, …/extended-thinking,
…/effort.
"""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.providers.anthropic.carried import Carried
from gateway_core.providers.anthropic.facts import Facts
from gateway_core.upstream.json_text import Document

EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 65536}
"""Tokens of thinking, for models that are told in tokens: at most four of five of the whole answer."""

BUDGET_AT_LEAST = 1024

FORCED = "the provider {} does not let this model think where it must call a tool"
UNSIGNED = "the provider {} demands the signed reasoning of the turn that goes on, and the request has none"
CANNOT_REST = "the model cannot be kept from thinking"
UNKNOWN = "the provider {} does not know this effort"
BEGUN = "the provider {} does not let a model think about an answer that has begun"
NO_ROOM = "the answer has no room for 1024 tokens of reasoning beside itself"


def think(document: Document, spec: ChatCompletionSpec, facts: Facts, carried: Carried, *, forced: bool) -> None:
    """Puts into a request's document how much to think.

    Takes the document with its messages and its most tokens, and whether a tool must be called.
    """
    effort = spec.reasoning_effort
    if effort == "none":
        if facts.is_thinking_always_on:
            carried.leave_out("reasoning_effort", CANNOT_REST)
        elif facts.thinking == "adaptive":
            document["thinking"] = {"type": "disabled"}
    elif effort not in EFFORTS:
        carried.leave_out("reasoning_effort", UNKNOWN)
    elif forced and not facts.thinks_when_forced:
        carried.leave_out("reasoning_effort", FORCED)
    elif facts.thinking == "adaptive":
        # Newer models leave the words out of their answers unless they are asked for them.
        document["thinking"] = {"type": "adaptive", "display": "summarized"}
        document.setdefault("output_config", {})["effort"] = known_effort(effort, facts, carried)
    else:
        budgeted(document, effort, carried)


def known_effort(effort: str, facts: Facts, carried: Carried) -> str:
    """The effort by the provider's word; the next lower one, and a word about it, where the model does not know it."""
    if effort == "minimal":
        return facts.efforts[0]
    place = EFFORTS.index(effort)
    known = max((each for each in facts.efforts if EFFORTS.index(each) <= place), key=EFFORTS.index)
    if known != effort:
        carried.change("reasoning_effort", f"changed to {known}, the model does not know {effort}")
    return known


def budgeted(document: Document, effort: str, carried: Carried) -> None:
    """Puts in a number of tokens: fewer than those of the whole answer."""
    room = document["max_tokens"] * 4 // 5
    if room < BUDGET_AT_LEAST:
        carried.leave_out("reasoning_effort", NO_ROOM)
    elif document["messages"] and document["messages"][-1]["role"] == "assistant":
        carried.leave_out("reasoning_effort", BEGUN)
    elif goes_on_unsigned(document["messages"]):
        carried.leave_out("reasoning_effort", UNSIGNED)
    else:
        document["thinking"] = {"type": "enabled", "budget_tokens": min(BUDGETS[effort], room)}


def goes_on_unsigned(messages: list[Any]) -> bool:
    """Whether results of tools are sent to a turn of the assistant's that did not begin with signed reasoning."""
    for message in reversed(messages):
        content = message["content"]
        if message["role"] == "assistant":
            first = content[0].get("type") if isinstance(content, list) and isinstance(content[0], dict) else "text"
            return first not in ("thinking", "redacted_thinking")
        if not (isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)):
            return False
    return False


def is_thinking(document: Document) -> bool:
    """Whether a request asks for thinking."""
    asked = document.get("thinking")
    return isinstance(asked, dict) and asked.get("type") in ("enabled", "adaptive")
