"""What is left out of a prompt that is too long for its gateway (pure)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_FUNCTION,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    ChatMessage,
)

from gateway_core.call import Rewrite
from gateway_core.errors import ContextTooLong


class Estimate(NamedTuple):
    """What tells about how many tokens there are; what counts in the end is what the provider counts."""

    request: Callable[[ChatCompletionSpec], int]
    """Of a whole request: messages, tools, the form of the answer."""
    message: Callable[[ChatMessage], int]
    """Of a message."""


def fit(spec: ChatCompletionSpec, limit: int, estimate: Estimate, *, truncates: bool) -> list[Rewrite]:
    """Leaves messages out of the spec until it is within the limit, where the gateway says so; tells of it.

    Raises ContextTooLong where nothing may be left out, or not enough.
    """
    total = estimate.request(spec)
    if total <= limit:
        return []
    left_out: set[int] = set()
    if truncates:
        remaining = total
        for unit in removable(spec):
            left_out.update(unit)
            remaining -= sum(estimate.message(spec.messages[index]) for index in unit)
            if remaining <= limit:
                break
        else:
            left_out.clear()
    if not left_out:
        message = f"The prompt has about {total} tokens; the gateway takes {limit}."
        raise ContextTooLong(message, param="messages", limit=str(limit), input_tokens=str(total))
    kept = [message for index, message in enumerate(spec.messages) if index not in left_out]
    copies = ChatCompletionSpec(messages=kept)
    del spec.messages[:]
    spec.messages.extend(copies.messages)
    count = len(left_out)
    what = "message was" if count == 1 else "messages were"
    return [Rewrite("messages", f"the oldest {count} {what} left out: the gateway takes {limit} tokens")]


def removable(spec: ChatCompletionSpec) -> Iterator[list[int]]:
    """What may be left out, the oldest first: a message, or a call of tools and what answers it.

    Neither instructions nor the last message of the user's; nor what the conversation ends with, without which the
    model would do again what it has just done.
    """
    messages = spec.messages
    users = [index for index, message in enumerate(messages) if message.role == ROLE_USER]
    last = messages[-1]
    # The beginning of the answer is not what the conversation ends with, but stays too.
    is_begun = last.role == ROLE_ASSISTANT and not last.tool_calls
    staying = {*users[-1:], len(messages) - 1, len(messages) - 1 - is_begun}
    for unit in units(spec):
        if messages[unit[0]].role not in (ROLE_SYSTEM, ROLE_DEVELOPER) and not staying.intersection(unit):
            yield unit


def units(spec: ChatCompletionSpec) -> Iterator[list[int]]:
    """Indices of messages that belong together, in the order of the conversation."""
    answered: set[int] = set()
    for index, message in enumerate(spec.messages):
        if index in answered:
            continue
        unit = [index]
        if message.tool_calls or message.HasField("function_call"):
            unit += answers(spec, index)
            answered.update(unit)
        yield unit


def answers(spec: ChatCompletionSpec, index: int) -> Iterator[int]:
    """Indices of the messages that answer the calls of a message."""
    asked = spec.messages[index]
    ids = {call.id for call in asked.tool_calls}
    for later in range(index + 1, len(spec.messages)):
        message = spec.messages[later]
        is_old_result = message.role == ROLE_FUNCTION and asked.HasField("function_call") and later == index + 1
        if is_old_result or (message.role == ROLE_TOOL and message.tool_call_id in ids):
            yield later
        elif message.tool_calls and ids & {call.id for call in message.tool_calls}:
            return  # ids of another turn begin anew
