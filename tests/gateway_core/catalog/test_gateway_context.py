"""Tests of what is left out of a prompt that is too long."""

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import CONTEXT_OVERFLOW_ACTION_TRUNCATE, Gateway
from headgate.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    ChatMessage,
    FunctionCall,
    ToolCall,
)

from gateway_core.catalog.gateway import Version, stored
from gateway_core.catalog.gateway_context import Estimate, fit
from gateway_core.errors import ContextTooLong
from gateway_core.storage.gateway import GatewayRow

TRUNCATING = Gateway(context_overflow_action=CONTEXT_OVERFLOW_ACTION_TRUNCATE)
ONE_EACH = Estimate(lambda spec: len(spec.messages), lambda _: 1)
ROLES = {"s": ROLE_SYSTEM, "u": ROLE_USER, "a": ROLE_ASSISTANT}


def message(word: str) -> ChatMessage:
    """ "u1": the user says so; "c1": the assistant calls tool 1; "r1": what it gave."""
    if word[0] == "c":
        calls = [ToolCall(id=number, function=FunctionCall(name="f")) for number in word[1:]]
        return ChatMessage(role=ROLE_ASSISTANT, tool_calls=calls)
    if word[0] == "r":
        return ChatMessage(role=ROLE_TOOL, tool_call_id=word[1:], text=word)
    return ChatMessage(role=ROLES[word[0]], text=word)


def word(message: ChatMessage) -> str:
    return message.text or "c" + "".join(call.id for call in message.tool_calls)


def left(conversation: str, limit: int) -> str:
    """What is left of a conversation in which each message is one token."""
    spec = ChatCompletionSpec(messages=[message(each) for each in conversation.split()])
    rewrites = fit(spec, limit, ONE_EACH, truncates=True)
    assert len(rewrites) == (len(spec.messages) != len(conversation.split()))
    return " ".join(map(word, spec.messages))


@pytest.mark.parametrize(
    ("conversation", "limit", "expected"),
    [
        ("s1 u1 a1 u2", 4, "s1 u1 a1 u2"),
        ("s1 u1 a1 u2", 3, "s1 a1 u2"),
        ("s1 u1 a1 s2 u2", 3, "s1 s2 u2"),
        ("u1 c1 r1 a1 u2", 4, "c1 r1 a1 u2"),
        ("u1 c1 r1 a1 u2", 3, "a1 u2"),
        ("u1 c12 r1 r2 a1 u2", 5, "c12 r1 r2 a1 u2"),
        ("u1 c12 r1 r2 a1 u2", 4, "a1 u2"),
        ("u1 c1 r1 c2 r2", 3, "u1 c2 r2"),
        ("u1 c1 r1 c1 r1", 3, "u1 c1 r1"),
        ("u1 c1 r1 c2 r2 a1", 4, "u1 c2 r2 a1"),
        ("r9 u1 a1 u2", 3, "u1 a1 u2"),
        ("u1 u2 a1", 2, "u2 a1"),
    ],
)
def test_the_oldest_are_left_out_and_what_belongs_together_stays_so(
    conversation: str, limit: int, expected: str
) -> None:
    assert left(conversation, limit) == expected


@pytest.mark.parametrize(("conversation", "limit"), [("s1 u1", 1), ("u1 c1 r1", 2), ("u1 a1 u2 c12 r1 r2", 3)])
def test_where_it_is_not_enough_the_request_is_refused(conversation: str, limit: int) -> None:
    with pytest.raises(ContextTooLong) as failure:
        left(conversation, limit)
    assert failure.value.metadata["limit"] == str(limit)
    assert failure.value.metadata["input_tokens"] == str(len(conversation.split()))
    assert failure.value.metadata["param"] == "messages"


def test_without_truncation_the_request_is_refused() -> None:
    spec = ChatCompletionSpec(messages=[message("u1"), message("u2")])
    with pytest.raises(ContextTooLong):
        fit(spec, 1, ONE_EACH, truncates=False)
    assert len(spec.messages) == 2


@pytest.mark.parametrize(
    ("gateway", "context_length", "expected"),
    [
        (Gateway(context_limit_tokens=5), 10, 5),
        (Gateway(), 10, None),
        (TRUNCATING, 10, 10),
        (TRUNCATING, None, None),
    ],
)
def test_an_estimate_refuses_only_where_the_gateway_has_a_limit(
    gateway: Gateway, context_length: int | None, expected: int | None
) -> None:
    version = Version.of(GatewayRow("1", "a", "g", "g:1", 1, 1, 1, stored(gateway), None))
    assert version.most_tokens(context_length) == expected
