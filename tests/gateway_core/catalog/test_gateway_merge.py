"""Tests of a request and a gateway, merged."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec, ResponseFormat
from headgate.v1.gateway_pb2 import INSTRUCTIONS_PLACEMENT_AFTER, Gateway, GatewayOverrides, OwnEndpoint
from headgate.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_USER,
    ChatMessage,
    ContentPart,
    ContentParts,
    ImageUrl,
)
from headgate.v1.tool_pb2 import FunctionTool, Tool

from gateway_core.call import Rewrite
from gateway_core.catalog.gateway import Version, stored
from gateway_core.catalog.gateway_merge import completed, merged
from gateway_core.chat import read
from gateway_core.storage.gateway import GatewayRow

ID = "01900000-0000-7000-8000-0000000050c3"
WEATHER = Tool(function=FunctionTool(name="weather"))
CLOCK = Tool(function=FunctionTool(name="clock"))
NONE = GatewayOverrides()


def version(**values: Any) -> Version:
    gateway = Gateway(**{"name": "support", "model": "small", **values})
    return Version.of(GatewayRow(ID, "a", gateway.name, "support:50c3", 3, 1, 2, stored(gateway), None))


def said(role: Any, text: str) -> ChatMessage:
    return ChatMessage(role=role, text=text)


def asked(*messages: ChatMessage, **values: Any) -> ChatCompletionSpec:
    return ChatCompletionSpec(model="support:50c3", messages=messages or [said(ROLE_USER, "Hello")], **values)


class Made(NamedTuple):
    spec: ChatCompletionSpec
    rewrites: Sequence[Rewrite]
    echoed: str


def result(request: ChatCompletionSpec, **gateway: Any) -> Made:
    before = request.SerializeToString(deterministic=True)
    chat, rewrites, echoed = merged(read(request), version(**gateway))
    anew = read(chat.spec)
    assert (chat.fields, list(chat.turns)) == (anew.fields, anew.turns)
    assert request.SerializeToString(deterministic=True) == before
    return Made(chat.spec, rewrites, echoed)


def parameters(**values: Any) -> ChatCompletionSpec:
    return ChatCompletionSpec(**values)


def test_the_gateways_model_is_asked() -> None:
    assert result(asked()).spec.model == "small"
    endpoint = OwnEndpoint(base_url="https://own.example/v1", model="mine")
    assert result(asked(), model=None, endpoint=endpoint).spec.model == "mine"


def test_a_gateways_parameter_counts_where_the_request_has_none() -> None:
    form = ResponseFormat(type="json_object")
    given = parameters(temperature=0.2, stop=["END"], response_format=form, logit_bias={"1": 2.0})
    made = result(asked(), parameters=given)
    expected = asked(temperature=0.2, stop=["END"], response_format=form, logit_bias={"1": 2.0})
    expected.model = "small"
    assert made.spec == expected
    assert made.rewrites == []


def test_a_request_overrides_what_it_may() -> None:
    made = result(asked(temperature=1, stop=["B"]), parameters=parameters(temperature=0.2, stop=["A"]))
    assert made.spec.temperature == 1
    assert made.spec.stop == ["B"]
    assert made.rewrites == []


def test_the_gateways_value_wins_where_it_may_not_be_overridden_and_a_warning_says_so() -> None:
    made = result(asked(temperature=1, top_k=5), parameters=parameters(temperature=0.2, top_k=3), overrides=NONE)
    assert (made.spec.temperature, made.spec.top_k) == (0.2, 3)
    assert [rewrite.name for rewrite in made.rewrites] == ["temperature", "top_k"]


def test_the_same_value_is_no_reason_for_a_warning() -> None:
    made = result(asked(temperature=0.2), parameters=parameters(temperature=0.2), overrides=NONE)
    assert made.rewrites == []


def test_what_the_gateway_does_not_set_is_the_callers() -> None:
    assert result(asked(top_k=5, user="me"), overrides=NONE).spec.top_k == 5


def test_a_star_lets_everything_be_overridden() -> None:
    made = result(asked(top_k=5), parameters=parameters(top_k=3), overrides=GatewayOverrides(parameters=["*"]))
    assert made.spec.top_k == 5


def test_either_spelling_of_the_token_limit_replaces_the_gateways() -> None:
    made = result(asked(max_tokens=5), parameters=parameters(max_completion_tokens=9))
    assert made.spec.max_tokens == 5
    assert not made.spec.HasField("max_completion_tokens")


def test_the_other_spelling_of_the_token_limit_is_no_way_around_it() -> None:
    made = result(asked(max_tokens=5000), parameters=parameters(max_completion_tokens=9), overrides=NONE)
    assert made.spec.max_completion_tokens == 9
    assert not made.spec.HasField("max_tokens")
    assert [rewrite.name for rewrite in made.rewrites] == ["max_tokens"]


def test_a_list_is_replaced_as_a_whole() -> None:
    assert list(result(asked(tools=[CLOCK]), parameters=parameters(tools=[WEATHER])).spec.tools) == [CLOCK]
    made = result(asked(tools=[CLOCK]), parameters=parameters(tools=[WEATHER]), overrides=NONE)
    assert list(made.spec.tools) == [WEATHER]


def test_a_public_key_gets_none_of_the_gateways_tools() -> None:
    given = parameters(tools=[WEATHER], functions=[FunctionTool(name="f")], seed=1)
    spec = merged(read(asked()), version(parameters=given), is_public=True)[0].spec
    assert not spec.tools
    assert not spec.functions
    assert spec.seed == 1


def test_unknown_fields_are_merged_one_by_one() -> None:
    given = parameters(extra_json='{"a":1,"b":2}')
    overrides = GatewayOverrides(parameters=["a"])
    made = result(asked(extra_json='{"a":7,"b":7,"c":7}'), parameters=given, overrides=overrides)
    assert made.spec.extra_json == '{"a":7,"b":2,"c":7}'
    assert [rewrite.name for rewrite in made.rewrites] == ["b"]
    assert result(asked(), parameters=given).spec.extra_json == '{"a":1,"b":2}'


def texts(made: Made) -> list[tuple[int, str]]:
    return [(message.role, message.text) for message in made.spec.messages]


def test_instructions_stand_before_all_that_the_caller_says() -> None:
    made = result(asked(said(ROLE_SYSTEM, "Mine."), said(ROLE_USER, "Hi")), instructions="Ours.")
    assert texts(made) == [(ROLE_SYSTEM, "Ours."), (ROLE_SYSTEM, "Mine."), (ROLE_USER, "Hi")]


def test_instructions_can_stand_after_those_of_the_caller_and_be_the_developers() -> None:
    request = asked(said(ROLE_SYSTEM, "A."), said(ROLE_DEVELOPER, "B."), said(ROLE_USER, "Hi"), said(ROLE_SYSTEM, "C."))
    made = result(
        request,
        instructions="Ours.",
        instructions_role=ROLE_DEVELOPER,
        instructions_placement=INSTRUCTIONS_PLACEMENT_AFTER,
    )
    assert [text for _, text in texts(made)] == ["A.", "B.", "Ours.", "Hi", "C."]
    assert texts(made)[2][0] == ROLE_DEVELOPER


def test_a_template_is_put_around_each_thing_that_the_user_said() -> None:
    request = asked(said(ROLE_USER, "one {prompt}"), said(ROLE_ASSISTANT, "yes"), said(ROLE_USER, ""))
    made = result(request, user_prompt_template="<{prompt}> again: {prompt}")
    assert [text for _, text in texts(made)] == ["<one {prompt}> again: one {prompt}", "yes", "<> again: "]


def parts(*each: ContentPart) -> ChatMessage:
    return ChatMessage(role=ROLE_USER, parts=ContentParts(parts=each))


PICTURE = ContentPart(image_url=ImageUrl(url="https://x.example/p.png"))


def test_a_template_is_put_around_all_texts_of_several_parts() -> None:
    request = asked(parts(ContentPart(text="a"), PICTURE, ContentPart(text="b")))
    (message,) = result(request, user_prompt_template="<{prompt}>").spec.messages
    assert list(message.parts.parts) == [ContentPart(text="<a"), PICTURE, ContentPart(text="b>")]


def test_a_template_goes_with_a_picture_alone() -> None:
    (message,) = result(asked(parts(PICTURE)), user_prompt_template="Describe: {prompt}").spec.messages
    assert list(message.parts.parts) == [ContentPart(text="Describe: "), PICTURE]


def test_a_prefill_is_the_assistants_last_message() -> None:
    made = result(asked(), prefill="{", echo_prefill=True)
    assert texts(made)[-1] == (ROLE_ASSISTANT, "{")
    assert made.echoed == "{"
    assert result(asked(), prefill="{").echoed == ""


def test_a_requests_own_prefill_counts_where_it_may() -> None:
    made = result(asked(prefill="["), prefill="{", echo_prefill=True)
    assert texts(made)[-1] == (ROLE_ASSISTANT, "{")
    assert not made.spec.HasField("prefill")
    assert [rewrite.name for rewrite in made.rewrites] == ["prefill"]
    made = result(asked(prefill="["), prefill="{", overrides=GatewayOverrides(parameters=["prefill"]))
    assert made.spec.prefill == "["
    assert len(made.spec.messages) == 1


def test_the_assistant_does_not_begin_twice() -> None:
    made = result(asked(said(ROLE_USER, "Hi"), said(ROLE_ASSISTANT, "Well,")), prefill="{", echo_prefill=True)
    assert texts(made)[-1] == (ROLE_ASSISTANT, "Well,")
    assert len(made.spec.messages) == 2
    assert made.echoed == ""
    assert [rewrite.name for rewrite in made.rewrites] == ["prefill"]


@pytest.mark.parametrize("gateway", [{}, {"instructions": "Ours."}, {"instructions": "", "instructions_role": 2}])
@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked(said(ROLE_SYSTEM, "Mine."), said(ROLE_DEVELOPER, "Too."), said(ROLE_USER, "Hi"), seed=1, tools=[CLOCK]),
        asked(said(ROLE_SYSTEM, "Mine.")),
        asked(ChatMessage(role=ROLE_USER, parts=ContentParts()), extra_json="[", metadata={"a": "b"}),
    ],
)
def test_a_gateway_of_instructions_alone_is_merged_as_any(
    request_: ChatCompletionSpec, gateway: dict[str, Any], *, is_behind: bool
) -> None:
    if is_behind:
        gateway = {**gateway, "instructions_placement": INSTRUCTIONS_PLACEMENT_AFTER}
    plain = version(**gateway)
    assert plain.is_plain
    chat, rewrites, echoed = merged(read(request_), plain)
    other, *told = completed(request_, plain)
    assert (chat.spec, chat.fields, list(chat.turns)) == (other.spec, other.fields, list(other.turns))
    assert ([*rewrites], echoed) == tuple(told)
