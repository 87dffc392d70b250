"""How long a prompt is, by an estimate, and what is left out of one that is too long (pure).

The estimate counts a token for each begun 4 bytes of UTF-8 of texts, calls and tools, 4 for each message and 1,000 for
each picture, sound, film and document. English prose has 4 to 5 bytes a token, so that its count is up to a quarter too
high; code and other scripts may be a third too low. What counts in the end is what the provider counts.
"""

from collections.abc import Callable, Iterator

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import CONTEXT_OVERFLOW_ACTION_TRUNCATE, Gateway
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

BYTES_A_TOKEN = 4
MESSAGE_TOKENS = 4
MEDIUM_TOKENS = 1000

Count = Callable[[ChatMessage], int]
"""Estimates the tokens of a message."""


def message_tokens(message: ChatMessage) -> int:
    """About how many tokens a message has."""
    size, media = text_bytes(message.text), 0
    for part in message.parts.parts:
        if part.WhichOneof("part") in ("text", "refusal"):
            size += text_bytes(part.text or part.refusal)
        else:
            media += 1
    for call in message.tool_calls:
        size += call.ByteSize()
    if message.HasField("function_call"):
        size += message.function_call.ByteSize()
    size += text_bytes(message.name) + text_bytes(message.reasoning) + text_bytes(message.refusal)
    return MESSAGE_TOKENS + -(-size // BYTES_A_TOKEN) + media * MEDIUM_TOKENS


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def offered_tokens(spec: ChatCompletionSpec) -> int:
    """About how many tokens the tools and the form of the answer have."""
    size = sum(tool.ByteSize() for tool in spec.tools) + sum(function.ByteSize() for function in spec.functions)
    if spec.HasField("response_format"):
        size += spec.response_format.ByteSize()
    return -(-size // BYTES_A_TOKEN)


def limit_tokens(gateway: Gateway, context_length: int | None) -> int | None:
    """Most tokens of a prompt. None: it is left to the provider, who knows its own limit better than an estimate."""
    if gateway.HasField("context_limit_tokens"):
        return gateway.context_limit_tokens
    return context_length if gateway.context_overflow_action == CONTEXT_OVERFLOW_ACTION_TRUNCATE else None


def fit(spec: ChatCompletionSpec, gateway: Gateway, limit: int | None, count: Count = message_tokens) -> list[Rewrite]:
    """Leaves messages out of the spec until it is within the limit, where the gateway says so; tells of it.

    Raises ContextTooLong where nothing may be left out, or not enough.
    """
    if limit is None:
        return []
    tokens = [count(message) for message in spec.messages]
    total = sum(tokens) + offered_tokens(spec)
    if total <= limit:
        return []
    left_out: set[int] = set()
    if gateway.context_overflow_action == CONTEXT_OVERFLOW_ACTION_TRUNCATE:
        remaining = total
        for unit in removable(spec):
            left_out.update(unit)
            remaining -= sum(tokens[index] for index in unit)
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
    count_ = len(left_out)
    what = "message was" if count_ == 1 else "messages were"
    return [Rewrite("messages", f"the oldest {count_} {what} left out: the gateway takes {limit} tokens")]


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
