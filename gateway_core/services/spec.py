"""What a chat completion spec must be, whoever sent it: the bridge's callers are told earlier, and by JSON paths."""

import math

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
