"""What a chat completion spec must be, whoever sent it: the bridge's callers are told earlier, and by JSON paths."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.v1 import message_pb2
from headgate.v1.chat_pb2 import ChatCompletionSpec, Moderation, ResponseFormat
from headgate.v1.tool_pb2 import FunctionTool, Tool, ToolChoice

from gateway_core.chat import Chat
from gateway_core.errors import InvalidRequest
from gateway_core.unsupported import extra_fields

Check = Callable[[Any], None]
"""Raises InvalidRequest where the value of a field that is set is none that any provider could take."""

ROLES = frozenset(message_pb2.Role.values()) - {message_pb2.ROLE_UNSPECIFIED}

# Inclusive ranges. Only what would be wrong for every host: hosts differ, and refuse for themselves.
LARGEST = sys.float_info.max
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, LARGEST),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-LARGEST, LARGEST),
    "frequency_penalty": (-LARGEST, LARGEST),
    "n": (1, 128),
    "top_logprobs": (0, LARGEST),
    "max_tokens": (-1, LARGEST),
    "max_completion_tokens": (-1, LARGEST),
}


def check(chat: Chat) -> None:
    """Raises InvalidRequest, which names the field, for what no provider could answer."""
    fields = chat.fields
    if "model" not in fields:
        raise missing("model")
    if not chat.turns:
        raise InvalidRequest("messages must have at least one message.", param="messages")
    for turn in chat.turns:
        if turn is None or turn[0] not in ROLES:  # a text of somebody's needs no look
            check_messages(chat)
            break
    for name, value in fields.items():
        if name in CHECKS:
            CHECKS[name](value)
    if "extra_json" in fields and fields.get("extra_format", "openai") == "openai":
        check_extra_json(fields["extra_json"])


def missing(path: str) -> InvalidRequest:
    """The error for a field that must be set."""
    return InvalidRequest(f"{path} is required.", param=path)


def within(name: str, low: float, high: float) -> Check:
    """Checks that a number is in a range."""
    what = f"between {low:g} and {high:g}" if high < LARGEST else f"at least {low:g}" if low > -LARGEST else "a number"

    def check_value(value: float) -> None:
        if not low <= value <= high:
            raise InvalidRequest(f"{name} must be {what}.", param=name)

    return check_value


def check_messages(chat: Chat) -> None:
    """Somebody speaks in each message, and each part of it is something."""
    for index, turn in enumerate(chat.turns):
        if turn is not None:
            if turn[0] not in ROLES:
                raise missing(f"messages[{index}].role")
            continue
        message = chat.spec.messages[index]
        if message.role not in ROLES:
            raise missing(f"messages[{index}].role")
        if "parts" in message:
            for position, part in enumerate(message.parts.parts):
                if part.WhichOneof("part") is None:
                    raise missing(f"messages[{index}].parts[{position}].part")


def check_logit_bias(biases: Mapping[str, float]) -> None:
    """OpenAI's range."""
    for token, bias in biases.items():
        if not -100 <= bias <= 100:
            raise InvalidRequest("logit_bias must be between -100 and 100.", param=f"logit_bias.{token[:200]}")


def check_tools(tools: Sequence[Tool]) -> None:
    """Each is something, and has a name."""
    for index, tool in enumerate(tools):
        kind = tool.WhichOneof("tool")
        if kind is None:
            raise missing(f"tools[{index}].tool")
        if kind != "other_json" and not getattr(tool, kind).name:
            raise missing(f"tools[{index}].{kind}.name")


def check_functions(functions: Sequence[FunctionTool]) -> None:
    """Each has a name."""
    for index, function in enumerate(functions):
        if not function.name:
            raise missing(f"functions[{index}].name")


def check_tool_choice(choice: ToolChoice) -> None:
    """It chooses something."""
    if choice.WhichOneof("choice") is None:
        raise missing("tool_choice.choice")


def check_response_format(form: ResponseFormat) -> None:
    """It has a type, and its schema a name."""
    if not form.type:
        raise missing("response_format.type")
    if form.HasField("json_schema") and not form.json_schema.name:
        raise missing("response_format.json_schema.name")


def check_moderation(asked: Moderation) -> None:
    """It names its model."""
    if not asked.model:
        raise missing("moderation.model")


def check_extra_json(text: str) -> None:
    """It is what the contract has no field for: what has one is checked, limited and counted there."""
    for name in extra_fields(text):
        if name in OWN:
            message = f"extra_json must not have {name}, which has a field of its own."
            raise InvalidRequest(message, param=f"extra_json.{name}")


OWN = frozenset(ChatCompletionSpec.DESCRIPTOR.fields_by_name) - {"extra_json", "extra_format"}

CHECKS: dict[str, Check] = {
    **{name: within(name, *limits) for name, limits in RANGES.items()},
    "tools": check_tools,
    "tool_choice": check_tool_choice,
    "response_format": check_response_format,
    "logit_bias": check_logit_bias,
    "moderation": check_moderation,
    "functions": check_functions,
}
