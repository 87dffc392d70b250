"""What Ollama's JSON becomes, beside the golden files: the rules and the refusals."""

from typing import Any

import orjson
import pytest
from headgate.v1.message_pb2 import ROLE_USER

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.ollama.request import asks_to_unload, chat_spec, generate_spec, is_streamed

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [USER], **fields}


def refusal(body: object) -> InvalidBody:
    with pytest.raises(InvalidBody) as caught:
        chat_spec(body)
    return caught.value


@pytest.mark.parametrize(
    ("think", "effort"),
    [(True, "medium"), (False, "none"), ("low", "low"), ("high", "high"), ("max", "max"), (None, "")],
)
def test_think_is_an_effort(think: object, effort: str) -> None:
    assert chat_spec(chat(think=think)).reasoning_effort == effort


@pytest.mark.parametrize("num_predict", [-1, -2, None])
def test_no_limit_is_no_field(num_predict: int | None) -> None:
    spec = chat_spec(chat(options={"num_predict": num_predict}))
    assert not spec.HasField("max_tokens")
    assert not spec.extra_json


def test_an_option_that_only_ollama_has_is_carried_under_its_dotted_name() -> None:
    spec = chat_spec(chat(options={"num_ctx": 4096, "temperature": 1}))
    assert orjson.loads(spec.extra_json) == {"options.num_ctx": 4096}
    assert spec.extra_format == "ollama"
    assert spec.temperature == 1


def test_a_field_that_nobody_knows_is_carried() -> None:
    assert orjson.loads(chat_spec(chat(new={"a": [None]})).extra_json) == {"new": {"a": [None]}}


def test_fields_that_ask_for_nothing_are_not_carried() -> None:
    body = {"model": "small", "prompt": "p", "raw": False, "suffix": "", "template": "", "context": [], "x": None}
    assert not generate_spec(body).extra_json


def test_ids_of_calls_stay_the_same_when_the_conversation_grows() -> None:
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    answered = [USER, called, {"role": "tool", "tool_name": "f", "content": "1"}]
    first = chat_spec({"model": "small", "messages": answered})
    second = chat_spec({"model": "small", "messages": [*answered, {"role": "assistant", "content": "One."}, USER]})
    assert list(second.messages)[:3] == list(first.messages)
    assert first.messages[2].tool_call_id == first.messages[1].tool_calls[0].id


def test_two_calls_of_one_tool_are_answered_in_order() -> None:
    calls = [{"function": {"name": "f", "arguments": {"n": n}}} for n in range(2)]
    results = [{"role": "tool", "tool_name": "f", "content": str(n)} for n in range(2)]
    spec = chat_spec({"model": "small", "messages": [USER, {"role": "assistant", "tool_calls": calls}, *results]})
    assert [message.tool_call_id for message in spec.messages[2:]] == [call.id for call in spec.messages[1].tool_calls]


def test_a_result_belongs_to_the_latest_call_of_its_name() -> None:
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    spec = chat_spec({"model": "small", "messages": [USER, called, called, {"role": "tool", "tool_name": "f"}]})
    assert spec.messages[3].tool_call_id == spec.messages[2].tool_calls[0].id != spec.messages[1].tool_calls[0].id


def test_a_null_argument_is_kept() -> None:
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": None}}}]}
    assert (
        chat_spec({"model": "small", "messages": [called]}).messages[0].tool_calls[0].function.arguments == '{"a":null}'
    )


def test_a_picture_has_the_type_that_its_bytes_say() -> None:
    spec = chat_spec({"model": "small", "messages": [{"role": "user", "images": ["data:image/png;base64,/9j/\n4AA="]}]})
    assert spec.messages[0].parts.parts[0].image_url.url == "data:image/jpeg;base64,/9j/4AA="


@pytest.mark.parametrize("messages", [[], None])
def test_no_messages_only_load(messages: object) -> None:
    assert not chat_spec({"model": "small", "messages": messages}).messages


@pytest.mark.parametrize("prompt", ["", None])
def test_no_prompt_only_loads(prompt: object) -> None:
    assert not generate_spec({"model": "small", "prompt": prompt, "system": "s"}).messages


@pytest.mark.parametrize(
    ("keep_alive", "unloads"),
    [
        (0, True),
        (0.0, True),
        ("0", True),
        ("0s", True),
        ("0m0.0s", True),
        ("5m", False),
        (-1, False),
        (0.5, False),
        (None, False),
    ],
)
def test_zero_unloads(keep_alive: object, unloads: bool) -> None:
    assert asks_to_unload({"keep_alive": keep_alive}) is unloads


@pytest.mark.parametrize(("stream", "streamed"), [(None, True), (True, True), (False, False)])
def test_an_answer_is_streamed_unless_it_is_said_not_to_be(stream: object, streamed: bool) -> None:
    assert is_streamed({"stream": stream}) is streamed


def test_a_prompt_is_a_user_message() -> None:
    message = generate_spec({"model": "small", "prompt": "p"}).messages[0]
    assert (message.role, message.text) == (ROLE_USER, "p")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (chat(options={"temperature": "hot"}), "options.temperature"),
        (chat(options={"temperature": -3}), "options.temperature"),
        (chat(options={"top_k": 1.5}), "options.top_k"),
        (chat(options={"stop": ["a", 1]}), "options.stop[1]"),
        (chat(messages=[USER, {"role": "user", "images": ["%"]}]), "messages[1].images[0]"),
        (chat(messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]),
         "messages[0].tool_calls[0].function.arguments"),
        (chat(tools=[{"function": {"name": "f", "parameters": {"properties": {"a": 1}}}}]), "tools[0].function.parameters.properties.a"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_path(body: object, path: str) -> None:
    assert refusal(body).param == path
    assert path in refusal(body).message
