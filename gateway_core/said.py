"""What a whole answer tells beside its words, which is all that most stages ask of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk
from headgate.v1.message_pb2 import ToolCall

from gateway_core.tokens import Tokens, tokens_of


class Said(NamedTuple):
    """The same of every answer, whatever it was read from."""

    id: str
    model: str
    finish_reasons: Mapping[int, str]
    """By the position of the answer."""
    characters: int
    """Of texts, reasoning, refusals and the arguments of tools."""
    usage: Tokens | None
    """What the provider told. None: nothing."""


def said_of(events: Sequence[ChatCompletionChunk]) -> Said:
    """What events tell together."""
    model, reasons, characters, usage = "", {}, 0, None
    for event in events:
        model = model or event.model
        for choice in event.choices[:]:  # a list: to walk a repeated field itself costs more
            characters += delta_characters(choice.delta)
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
        if "usage" in event:
            usage = tokens_of(event.usage)
            model = event.model or model  # another target may have gone on with the answer
    return Said(events[0].id if events else "", model, reasons, characters, usage)


def delta_characters(delta: AnswerMessage) -> int:
    """What a model has written in a piece of an answer."""
    characters = len(delta.content) + len(delta.reasoning)
    refusal, calls = delta.refusal, delta.tool_calls
    if refusal or calls:
        characters += len(refusal) + sum(map(tool_call_characters, calls))
    return characters


def tool_call_characters(call: ToolCall) -> int:
    """What a model has written to call a tool."""
    return len(call.function.name) + len(call.function.arguments) + len(call.custom.input) + len(call.other_json)
