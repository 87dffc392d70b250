"""Messages that are a role and a text are read once, and no others are taken for such."""

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_SYSTEM, ROLE_UNSPECIFIED, ROLE_USER, ChatMessage, ContentParts, ToolCall

from gateway_core.call import Call
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.turn import turns, turns_of


def call(spec: ChatCompletionSpec) -> Call[ChatCompletionSpec]:
    return Call("id", ChatCompletion(), spec, stream=False)


def test_each_message_of_a_role_and_a_text_is_a_turn() -> None:
    spec = ChatCompletionSpec(model="m")
    spec.messages.add(role=ROLE_SYSTEM, text="Be kind.")
    spec.messages.add(role=ROLE_USER, text="")
    assert turns_of(spec.messages) == [(ROLE_SYSTEM, "Be kind."), (ROLE_USER, "")]


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(),
        ChatMessage(role=ROLE_USER),
        ChatMessage(text="Hello"),
        ChatMessage(role=ROLE_UNSPECIFIED, text="Hello"),
        ChatMessage(role=ROLE_USER, text="Hello", name="Ada"),
        ChatMessage(role=ROLE_USER, parts=ContentParts()),
        ChatMessage(role=ROLE_USER, tool_calls=[ToolCall()]),
    ],
)
def test_a_message_of_anything_else_is_none(message: ChatMessage) -> None:
    assert turns_of([message]) == [None]


def test_turns_are_read_once_and_anew_for_another_request() -> None:
    one = call(ChatCompletionSpec(messages=[ChatMessage(role=ROLE_USER, text="a")]))
    read = turns(one)
    assert turns(one) is read
    asked = one.request
    one.request = ChatCompletionSpec(messages=[ChatMessage(role=ROLE_USER, text="b")])
    assert turns(one) == [(ROLE_USER, "b")]
    one.request = asked
    assert turns(one) == read
