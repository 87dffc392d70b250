"""A request is read once; messages that are a role and a text are turns, and no others are taken for such."""

from dataclasses import replace

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_SYSTEM, ROLE_UNSPECIFIED, ROLE_USER, ChatMessage, ContentParts, ToolCall

from gateway_core.call import Call
from gateway_core.chat import Chat, chat_of, read
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.turn import turns_of


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


def test_a_request_is_read_once_and_anew_where_it_is_another() -> None:
    one = call(ChatCompletionSpec(model="m", messages=[ChatMessage(role=ROLE_USER, text="a")]))
    chat = chat_of(one)
    assert chat_of(one) is chat
    assert chat.spec is one.request
    assert chat.fields == {"model": "m", "messages": [(ROLE_USER, "a")]}
    asked = one.request
    one.request = ChatCompletionSpec(messages=[ChatMessage(role=ROLE_USER, text="b")])
    assert chat_of(one).turns == [(ROLE_USER, "b")]
    one.request = asked
    assert chat_of(one).turns == chat.turns


def test_a_request_of_which_nobody_asks_for_more_than_was_read_is_not_made() -> None:
    one, made = call(ChatCompletionSpec(model="m")), []

    def make() -> ChatCompletionSpec:
        made.append(ChatCompletionSpec(model="n"))
        return made[-1]

    one.ask(Chat({"model": "n"}, (), None, make), "n")
    assert chat_of(one).fields == {"model": "n"}
    assert one.model == "n"
    assert not made
    assert one.request is one.request
    assert replace(one, rewrites=[]).request is made[0]
    assert len(made) == 1


def test_a_field_that_is_not_set_is_not_among_those_that_are() -> None:
    assert dict(read(ChatCompletionSpec()).fields) == {}
    assert dict(read(ChatCompletionSpec(temperature=0, prefill="", extra_json="")).fields) == {
        "temperature": 0,
        "prefill": "",
    }
