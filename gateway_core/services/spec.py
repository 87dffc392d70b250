"""What a chat completion spec must be, whoever sent it: the bridge's callers are told earlier, and by JSON paths."""

import math
from collections.abc import Iterator

from headgate.v1 import message_pb2
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.errors import InvalidRequest

ROLES = frozenset(message_pb2.Role.values()) - {message_pb2.ROLE_UNSPECIFIED}

# Inclusive ranges of OpenAI's API that hold for every provider.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 128),
    "top_k": (-1, math.inf),
    "top_logprobs": (0, 20),
    "max_tokens": (1, math.inf),
    "max_completion_tokens": (1, math.inf),
}


def check(spec: ChatCompletionSpec) -> None:
    """Raises InvalidRequest, which names the field, for what no provider could answer."""
    if not spec.model:
        raise InvalidRequest("model is required.", param="model")
    if not spec.messages:
        raise InvalidRequest("messages must have at least one message.", param="messages")
    for index, message in enumerate(spec.messages):
        if message.role not in ROLES:
            raise InvalidRequest(f"messages[{index}].role is required.", param=f"messages[{index}].role")
    for field, value in spec.ListFields():
        limits = RANGES.get(field.name)
        if limits and not limits[0] <= value <= limits[1]:
            low, high = limits
            what = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            raise InvalidRequest(f"{field.name} must be {what}.", param=field.name)
    for token, bias in spec.logit_bias.items():
        if not -100 <= bias <= 100:
            raise InvalidRequest("logit_bias must be between -100 and 100.", param=f"logit_bias.{token[:200]}")
    for path in (*unknown_parts(spec), *unnamed_tools(spec), *unnamed_forms(spec)):
        raise InvalidRequest(f"{path} is required.", param=path)


def unknown_parts(spec: ChatCompletionSpec) -> Iterator[str]:
    """The paths of parts of messages that are nothing at all."""
    for index, message in enumerate(spec.messages):
        for position, part in enumerate(message.parts.parts):
            if part.WhichOneof("part") is None:
                yield f"messages[{index}].parts[{position}].part"


def unnamed_tools(spec: ChatCompletionSpec) -> Iterator[str]:
    """The paths of tools without names, and of a choice among them that chooses nothing."""
    for index, tool in enumerate(spec.tools):
        kind = tool.WhichOneof("tool")
        if kind is None:
            yield f"tools[{index}].tool"
        elif kind != "other_json" and not getattr(tool, kind).name:
            yield f"tools[{index}].{kind}.name"
    for index, function in enumerate(spec.functions):
        if not function.name:
            yield f"functions[{index}].name"
    if spec.HasField("tool_choice") and spec.tool_choice.WhichOneof("choice") is None:
        yield "tool_choice.choice"


def unnamed_forms(spec: ChatCompletionSpec) -> Iterator[str]:
    """The paths of options without what the contract requires of them."""
    if spec.HasField("response_format"):
        form = spec.response_format
        if not form.type:
            yield "response_format.type"
        if form.HasField("json_schema") and not form.json_schema.name:
            yield "response_format.json_schema.name"
    if spec.HasField("moderation") and not spec.moderation.model:
        yield "moderation.model"
